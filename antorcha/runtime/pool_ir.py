"""The thread pool's native code, as LLVM IR text: `run`, which a caller enters, and `worker`, which each worker thread runs.

Threads share one block of state. Of a step's chunks each thread gets an equal range, the same in every step of as many
chunks, so what a thread has written is in its cache when the next step reads it. A range is one word:

    epoch: 24 bits | end: 20 bits | begin: 20 bits

Its thread takes chunks at the beginning; a thread that has none left takes them at the end of the others' ranges. To take
is to exchange the word for itself with begin + 1 or end - 1. The step's description lies beside the ranges and may be overwritten
as soon as the step is done: who has read a stale one fails the exchange, because the word has changed since. So no lock is
needed, a worker that sleeps through a step is not waited for, and a step is over when DONE has counted all its chunks.

EPOCH changes when a step has been published: idle workers look at it alone. To sleep, a worker adds itself to SLEEPERS under
the mutex, looks at the epoch once more and waits. The caller publishes the epoch, then reads SLEEPERS: in the one total
order of these sequentially consistent accesses, either the worker sees the epoch or the caller sees the sleeper.

A caller leaves steps that it need not wait for to the last worker, which runs them as a caller would, with the other workers: at its
end `launch` gives it the job. The caller's core is free for Python meanwhile, and when the caller comes to wait, in `finish`, it takes
chunks as a worker would: there are never more threads at work than cores. There is one job at most.

A caller can be interrupted (Ctrl-C). Every LOOK_NS it asks Python, between chunks of the first `safe` steps and between steps from there
on, whether SIGINT has come. Between chunks it then takes all chunks that are left, does none of them, and waits for those
that the others are doing. A list's record tells how many steps have been done whole. The signal is handed back: its handler runs in
Python, when the call has returned.
"""

from __future__ import annotations

import sys

from . import compiler, cpu

MAX_THREADS = 256
LINE = 128  # bytes that no two writers should share: cache lines are fetched in pairs

# Offsets in the state.
EPOCH = 0
DONE = LINE
FUNCTION, ARGUMENTS, TILES, GRAIN = (2 * LINE + 8 * i for i in range(4))  # the current step
SLEEPERS = 3 * LINE
THREADS, SPIN, SHUTDOWN = (4 * LINE + 8 * i for i in range(3))
MUTEX, CONDITION = 5 * LINE, 6 * LINE  # the system's types need at most 64 bytes
LOOKED, CUTTABLE, CUT = (7 * LINE + 8 * i for i in range(3))  # the caller's own: see `asked_to_stop` and `run_as`
SCRATCH = 8 * LINE  # a pointer per thread
RECORDS = SCRATCH + 8 * MAX_THREADS  # per thread: (address of the state, its number)
RECORD_SIZE = 16
RANGES = RECORDS + RECORD_SIZE * MAX_THREADS  # per thread: a word on a line of its own
JOB_STEPS, JOB_COUNT, SUBMITTED, FINISHED = (RANGES + LINE * MAX_THREADS + 8 * i for i in range(4))  # counts of jobs
STATE_SIZE = RANGES + LINE * (MAX_THREADS + 1)

BITS = 20
# Words of the record of a list of steps, as `launch` reads it: the steps, their number, how many come before the first that may only
# begin if these have left the words at STATUS, of which there are STATUSES, zero; and how many are done, or left to the last worker
# (-1 where one is not zero).
STEPS, COUNT, CHECKED, STATUS, STATUSES, PROGRESS = range(6)

MAX_CHUNKS = 1 << (BITS - 1)  # a step's grain is raised until it has no more
MASK = (1 << BITS) - 1

LOOK_NS = 20_000_000
CLOCK_MONOTONIC = 6 if sys.platform == "darwin" else 1
LOOKS_PER_CLOCK = 16    # of an idle worker


def _pause() -> tuple[str, str]:
    """Declaration and call of the instruction that makes waiting in a loop cheap for the neighbours."""
    if cpu.machine() == "x86_64":
        return "declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"
    if cpu.machine() == "aarch64":
        return "declare void @llvm.aarch64.hint(i32)", "call void @llvm.aarch64.hint(i32 1)"
    return "", ""


def _field(name: str, offset: int, state: str = "%state") -> str:
    return f"  %{name} = getelementptr i8, ptr {state}, i64 {offset}"


def make_ir() -> str:
    """The module's text. It depends on the platform alone."""
    declare_pause, pause = _pause()
    with_threads = sys.platform != "win32"
    parts = [_externals(declare_pause, with_threads), _NOW if with_threads else _NO_CLOCK, _STOP, _TAKE,
             _rest(pause, with_threads), _run(with_threads), _launch(with_threads)]
    if with_threads:
        parts += [_worker(pause), _JOBS]
    return compiler.PLAIN + "\n".join(parts)


def _externals(declare_pause: str, with_threads: bool) -> str:
    python = """
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare i32 @PyGILState_Ensure()
declare void @PyGILState_Release(i32)
declare i32 @PyOS_InterruptOccurred()
declare void @PyErr_SetInterrupt()
"""
    if not with_threads:
        return declare_pause + python
    return f"""
{declare_pause}
{python}
declare i32 @clock_gettime(i32, ptr)
declare i32 @sched_yield()
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
"""


_NO_CLOCK = "define internal i64 @now() {\n  ret i64 0\n}\n"

_NOW = f"""
; Nanoseconds of the monotonic clock.
define internal i64 @now() {{
  %time = alloca [2 x i64], align 16
  %status = call i32 @clock_gettime(i32 {CLOCK_MONOTONIC}, ptr %time)
  %seconds = load i64, ptr %time
  %p = getelementptr i64, ptr %time, i64 1
  %nanoseconds = load i64, ptr %p
  %scaled = mul i64 %seconds, 1000000000
  %sum = add i64 %scaled, %nanoseconds
  ret i64 %sum
}}
"""

_STOP = f"""
; Has the user asked the caller to stop? Python is asked every {LOOK_NS} ns, for that needs its lock.
define internal i1 @asked_to_stop(ptr %state) {{
entry:
{_field("looked.p", LOOKED)}
  %looked = load i64, ptr %looked.p
  %now = call i64 @now()
  %passed = sub i64 %now, %looked
  %due = icmp sge i64 %passed, {LOOK_NS}
  br i1 %due, label %ask, label %no
ask:
  store i64 %now, ptr %looked.p
  %held = call i32 @PyGILState_Ensure()
  %occurred = call i32 @PyOS_InterruptOccurred()
  %came = icmp ne i32 %occurred, 0
  br i1 %came, label %again, label %release
again:
  call void @PyErr_SetInterrupt()
  br label %release
release:
  call void @PyGILState_Release(i32 %held)
  ret i1 %came
no:
  ret i1 false
}}

; Take all chunks of the current step that nobody has taken, and count them as done.
define internal void @drop_chunks(ptr %state) {{
entry:
{_field("done", DONE)}
{_field("threads.p", THREADS)}
{_field("ranges", RANGES)}
{_field("cut", CUT)}
  store i64 1, ptr %cut
  %threads = load i64, ptr %threads.p
  br label %thread
thread:
  %t = phi i64 [0, %entry], [%t.next, %thread]
  %at = mul i64 %t, {LINE}
  %range = getelementptr i8, ptr %ranges, i64 %at
  %word = atomicrmw and ptr %range, i64 {-1 << 2 * BITS} seq_cst, align 8
  %first = and i64 %word, {MASK}
  %shifted = lshr i64 %word, {BITS}
  %last = and i64 %shifted, {MASK}
  %left = sub i64 %last, %first
  %old = atomicrmw add ptr %done, i64 %left seq_cst, align 8
  %t.next = add i64 %t, 1
  %more = icmp slt i64 %t.next, %threads
  br i1 %more, label %thread, label %exit
exit:
  ret void
}}
"""

_TAKE = f"""
; The first word of a thread's scratch memory is for a kernel's note to itself about what it has left there for its next chunk.
define internal void @forget_note(ptr %scratch) {{
entry:
  %none = icmp eq ptr %scratch, null
  br i1 %none, label %exit, label %clear
clear:
  store i64 0, ptr %scratch
  br label %exit
exit:
  ret void
}}

; Take chunks of the current step and run them until there are none: first of the thread's own range, then of the others'.
define internal void @take_chunks(ptr %state, i64 %thread) {{
entry:
{_field("done", DONE)}
{_field("function.p", FUNCTION)}
{_field("arguments.p", ARGUMENTS)}
{_field("tiles.p", TILES)}
{_field("grain.p", GRAIN)}
{_field("threads.p", THREADS)}
{_field("ranges", RANGES)}
{_field("table", SCRATCH)}
{_field("cuttable.p", CUTTABLE)}
  %scratch.p = getelementptr ptr, ptr %table, i64 %thread
  %threads = load i64, ptr %threads.p
  %caller = icmp eq i64 %thread, 0
  br label %victim
victim:
  %distance = phi i64 [0, %entry], [%distance.next, %next]
  %known.before = phi i64 [-1, %entry], [%known, %next]
  %own = icmp eq i64 %distance, 0
  %raw = add i64 %thread, %distance
  %wraps = icmp sge i64 %raw, %threads
  %wrapped = sub i64 %raw, %threads
  %owner = select i1 %wraps, i64 %wrapped, i64 %raw
  %at = mul i64 %owner, {LINE}
  %range = getelementptr i8, ptr %ranges, i64 %at
  %step = select i1 %own, i64 1, i64 {-(1 << BITS)}
  br label %look
look:
  %count = phi i64 [0, %victim], [%count, %take], [%count.next, %perform], [%count.next, %watch], [%count.next, %ask], [%count.next, %drop]
  %known = phi i64 [%known.before, %victim], [%known, %take], [%epoch, %perform], [%epoch, %watch], [%epoch, %ask], [%epoch, %drop]
  %word = load atomic i64, ptr %range acquire, align 8
  %first = and i64 %word, {MASK}
  %shifted = lshr i64 %word, {BITS}
  %last = and i64 %shifted, {MASK}
  %some = icmp ult i64 %first, %last
  br i1 %some, label %take, label %none
take:
  %function = load atomic i64, ptr %function.p acquire, align 8
  %arguments = load atomic i64, ptr %arguments.p acquire, align 8
  %tiles = load atomic i64, ptr %tiles.p acquire, align 8
  %grain = load atomic i64, ptr %grain.p acquire, align 8
  %less = add i64 %word, %step
  %pair = cmpxchg ptr %range, i64 %word, i64 %less seq_cst seq_cst, align 8
  %taken = extractvalue {{i64, i1}} %pair, 1
  br i1 %taken, label %execute, label %look
execute:
  %before.last = sub i64 %last, 1
  %chunk = select i1 %own, i64 %first, i64 %before.last
  %begin = mul i64 %chunk, %grain
  %full = add i64 %begin, %grain
  %short = icmp slt i64 %tiles, %full
  %end = select i1 %short, i64 %tiles, i64 %full
  %scratch = load ptr, ptr %scratch.p
  %epoch = lshr i64 %word, {2 * BITS}
  %other.step = icmp ne i64 %epoch, %known
  br i1 %other.step, label %forget, label %perform
forget:
  call void @forget_note(ptr %scratch)
  br label %perform
perform:
  %code = inttoptr i64 %function to ptr
  %words = inttoptr i64 %arguments to ptr
  call void %code(ptr %words, i64 %begin, i64 %end, ptr %scratch)
  %count.next = add i64 %count, 1
  br i1 %caller, label %watch, label %look
watch:
  %cuttable = load i64, ptr %cuttable.p
  %watches = icmp ne i64 %cuttable, 0
  br i1 %watches, label %ask, label %look
ask:
  %stops = call i1 @asked_to_stop(ptr %state)
  br i1 %stops, label %drop, label %look
drop:
  call void @drop_chunks(ptr %state)
  br label %look
none:
  %idle = icmp eq i64 %count, 0
  br i1 %idle, label %next, label %report
report:
  %old = atomicrmw add ptr %done, i64 %count seq_cst, align 8
  br label %next
next:
  %distance.next = add i64 %distance, 1
  %more = icmp slt i64 %distance.next, %threads
  br i1 %more, label %victim, label %exit
exit:
  ret void
}}

; Publish a step: give each thread its range of the chunks.
define internal void @publish(ptr %state, i64 %chunks) {{
entry:
{_field("epoch.p", EPOCH)}
{_field("threads.p", THREADS)}
{_field("ranges", RANGES)}
  %threads = load i64, ptr %threads.p
  %epoch = load atomic i64, ptr %epoch.p monotonic, align 8
  %epoch.next = add i64 %epoch, 1
  %high = shl i64 %epoch.next, {2 * BITS}
  br label %thread
thread:
  %t = phi i64 [0, %entry], [%t.next, %thread]
  %first = phi i64 [0, %entry], [%last, %thread]
  %t.next = add i64 %t, 1
  %product = mul i64 %chunks, %t.next
  %last = udiv i64 %product, %threads
  %last.shifted = shl i64 %last, {BITS}
  %both = or i64 %last.shifted, %first
  %word = or i64 %high, %both
  %at = mul i64 %t, {LINE}
  %range = getelementptr i8, ptr %ranges, i64 %at
  store atomic i64 %word, ptr %range release, align 8
  %more = icmp slt i64 %t.next, %threads
  br i1 %more, label %thread, label %exit
exit:
  store atomic i64 %epoch.next, ptr %epoch.p seq_cst, align 8
  ret void
}}
"""


def _rest(pause: str, with_threads: bool) -> str:
    """Waiting for other threads, once around a loop."""
    give_way = "  %ignored = call i32 @sched_yield()" if with_threads else ""
    return f"""
; Wait a little; after many turns, let the system run another thread.
define internal void @rest(i64 %turn) {{
  {pause}
  %long = icmp sgt i64 %turn, 1000
  br i1 %long, label %give.way, label %done
give.way:
{give_way}
  br label %done
done:
  ret void
}}
"""


def _run(with_threads: bool) -> str:
    """The caller's side: every step in order, and where it is split, publishing it and waiting for the last chunk."""
    wake = "  call void @wake(ptr %state)" if with_threads else ""
    return (_WAKE if with_threads else "") + f"""
define void @run(ptr %state, ptr %steps, i64 %n, ptr %times) {{
  %done = call i64 @run_as(ptr %state, ptr %steps, i64 %n, ptr %times, i64 -1, i64 0)
  ret void
}}

; As thread number `thread`. The first `safe` steps may be given up at any chunk, later ones be left for later; -1: none may. Returns how
; many have been done.
define internal i64 @run_as(ptr %state, ptr %steps, i64 %n, ptr %times, i64 %safe, i64 %thread) {{
entry:
{_field("done", DONE)}
{_field("function.p", FUNCTION)}
{_field("arguments.p", ARGUMENTS)}
{_field("tiles.p", TILES)}
{_field("grain.p", GRAIN)}
{_field("table", SCRATCH)}
  %scratch.p = getelementptr ptr, ptr %table, i64 %thread
{_field("looked.p", LOOKED)}
{_field("cuttable.p", CUTTABLE)}
{_field("cut.p", CUT)}
  %watches = icmp sge i64 %safe, 0
  %begun = call i64 @now()
  store i64 %begun, ptr %looked.p
  store i64 0, ptr %cut.p
  %scratch = load ptr, ptr %scratch.p
  %timed = icmp ne ptr %times, null
  %any = icmp sgt i64 %n, 0
  br i1 %any, label %step, label %exit
step:
  %i = phi i64 [0, %entry], [%i.next, %ask], [%i.next, %last]
  %row = getelementptr [4 x i64], ptr %steps, i64 %i
  %function = load i64, ptr %row
  %row1 = getelementptr i64, ptr %row, i64 1
  %arguments = load i64, ptr %row1
  %row2 = getelementptr i64, ptr %row, i64 2
  %tiles = load i64, ptr %row2
  %row3 = getelementptr i64, ptr %row, i64 3
  %grain.given = load i64, ptr %row3
  br i1 %timed, label %clock.start, label %choose
clock.start:
  %start.now = call i64 @now()
  br label %choose
choose:
  %start = phi i64 [0, %step], [%start.now, %clock.start]
  %whole = icmp sle i64 %tiles, %grain.given
  br i1 %whole, label %call, label %publish
call:
  %code = inttoptr i64 %function to ptr
  %words = inttoptr i64 %arguments to ptr
  call void @forget_note(ptr %scratch)
  call void %code(ptr %words, i64 0, i64 %tiles, ptr %scratch)
  br label %finish
publish:
  %least = udiv i64 %tiles, {MAX_CHUNKS}
  %least1 = add i64 %least, 1
  %enough = icmp sge i64 %grain.given, %least1
  %grain = select i1 %enough, i64 %grain.given, i64 %least1
  %up = add i64 %tiles, %grain
  %up1 = sub i64 %up, 1
  %chunks = udiv i64 %up1, %grain
  store atomic i64 %function, ptr %function.p release, align 8
  store atomic i64 %arguments, ptr %arguments.p release, align 8
  store atomic i64 %tiles, ptr %tiles.p release, align 8
  store atomic i64 %grain, ptr %grain.p release, align 8
  store atomic i64 0, ptr %done release, align 8
  %is.safe = icmp slt i64 %i, %safe
  %cuttable = zext i1 %is.safe to i64
  store i64 %cuttable, ptr %cuttable.p
  call void @publish(ptr %state, i64 %chunks)
{wake}
  call void @take_chunks(ptr %state, i64 %thread)
  br label %wait
wait:
  %turn = phi i64 [0, %publish], [%turn.next, %pause]
  %finished = load atomic i64, ptr %done acquire, align 8
  %complete = icmp eq i64 %finished, %chunks
  br i1 %complete, label %joined, label %pause
pause:
  call void @rest(i64 %turn)
  %turn.next = add i64 %turn, 1
  br label %wait
joined:
  %cut = load i64, ptr %cut.p
  %given.up = icmp ne i64 %cut, 0
  br i1 %given.up, label %exit, label %finish
finish:
  br i1 %timed, label %clock.end, label %next
clock.end:
  %end.now = call i64 @now()
  %taken = sub i64 %end.now, %start
  %time.p = getelementptr i64, ptr %times, i64 %i
  store i64 %taken, ptr %time.p
  br label %next
next:
  %i.next = add i64 %i, 1
  %more = icmp slt i64 %i.next, %n
  %looks = and i1 %more, %watches
  br i1 %looks, label %ask, label %last
ask:
  %stops = call i1 @asked_to_stop(ptr %state)
  br i1 %stops, label %exit, label %step
last:
  br i1 %more, label %step, label %exit
exit:
  %steps.done = phi i64 [0, %entry], [%i, %joined], [%i.next, %ask], [%i.next, %last]
  ret i64 %steps.done
}}
"""


def _launch(with_threads: bool) -> str:
    """Steps that are waited for, what they find out about their arguments, and steps that are not."""
    leave = f"""
{_field("threads.p", THREADS)}
  %threads = load i64, ptr %threads.p
  %alone = icmp slt i64 %threads, 2
  br i1 %alone, label %stay, label %hand.over
hand.over:
  call void @submit(ptr %state, ptr %others, i64 %left)
  br label %whole""" if with_threads else "  br label %stay"
    return f"""
; Go on with a list of steps: run those up to the one of number `now`, and leave the others to the last worker, if there is one. What is
; checked comes before.
define void @launch(ptr %state, ptr %record, i64 %now, i64 %safe) {{
entry:
  %steps = load ptr, ptr %record
{_field("count.p", 8 * COUNT, "%record")}
  %count = load i64, ptr %count.p
{_field("checked.p", 8 * CHECKED, "%record")}
  %checked = load i64, ptr %checked.p
{_field("status.p", 8 * STATUS, "%record")}
{_field("statuses.p", 8 * STATUSES, "%record")}
{_field("progress.p", 8 * PROGRESS, "%record")}
  %before = load i64, ptr %progress.p
  %unchecked = icmp slt i64 %before, %checked
  br i1 %unchecked, label %check, label %run.now
check:
  %status = load ptr, ptr %status.p
  %statuses = load i64, ptr %statuses.p
  %anew = icmp eq i64 %before, 0
  br i1 %anew, label %clear, label %run.checked
clear:
  %bytes = mul i64 %statuses, 8
  call void @llvm.memset.p0.i64(ptr %status, i8 0, i64 %bytes, i1 false)
  br label %run.checked
run.checked:
  %first.done = call i64 @run_part(ptr %state, ptr %steps, i64 %before, i64 %checked, i64 %safe)
  store i64 %first.done, ptr %progress.p
  %first.stopped = icmp slt i64 %first.done, %checked
  br i1 %first.stopped, label %exit, label %next
next:
  %i = phi i64 [0, %run.checked], [%i.next, %word]
  %some = icmp slt i64 %i, %statuses
  br i1 %some, label %word, label %run.now
word:
  %word.p = getelementptr i64, ptr %status, i64 %i
  %code = load i64, ptr %word.p
  %i.next = add i64 %i, 1
  %failed = icmp ne i64 %code, 0
  br i1 %failed, label %fail, label %next
fail:
  store i64 -1, ptr %progress.p
  br label %exit
run.now:
  %begin = phi i64 [%before, %entry], [%checked, %next]
  %done = call i64 @run_part(ptr %state, ptr %steps, i64 %begin, i64 %now, i64 %safe)
  store i64 %done, ptr %progress.p
  %stopped = icmp slt i64 %done, %now
  br i1 %stopped, label %exit, label %rest
rest:
  %left = sub i64 %count, %done
  %others = getelementptr [4 x i64], ptr %steps, i64 %done
  %any = icmp sgt i64 %left, 0
  br i1 %any, label %leave, label %exit
leave:
{leave}
stay:
  %all = call i64 @run_as(ptr %state, ptr %others, i64 %left, ptr null, i64 -1, i64 0)
  br label %whole
whole:
  store i64 %count, ptr %progress.p
  br label %exit
exit:
  ret void
}}

; Steps `from` .. `to`, of which those before step `safe` may be given up. Returns where it has come.
define internal i64 @run_part(ptr %state, ptr %steps, i64 %from, i64 %to, i64 %safe) {{
entry:
  %n = sub i64 %to, %from
  %none = icmp sle i64 %n, 0
  br i1 %none, label %nothing, label %some
nothing:
  ret i64 %from
some:
  %first = getelementptr [4 x i64], ptr %steps, i64 %from
  %ahead = sub i64 %safe, %from
  %past = icmp slt i64 %ahead, 0
  %rest = select i1 %past, i64 0, i64 %ahead
  %never = icmp slt i64 %safe, 0
  %own = select i1 %never, i64 -1, i64 %rest
  %done = call i64 @run_as(ptr %state, ptr %first, i64 %n, ptr null, i64 %own, i64 0)
  %at = add i64 %from, %done
  ret i64 %at
}}
"""


_WAKE = f"""
; Wake the workers that sleep, if any do.
define internal void @wake(ptr %state) {{
entry:
{_field("sleepers", SLEEPERS)}
  %count = load atomic i64, ptr %sleepers seq_cst, align 8
  %any = icmp sgt i64 %count, 0
  br i1 %any, label %signal, label %exit
signal:
{_field("mutex", MUTEX)}
{_field("condition", CONDITION)}
  %s1 = call i32 @pthread_mutex_lock(ptr %mutex)
  %s2 = call i32 @pthread_cond_broadcast(ptr %condition)
  %s3 = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %exit
exit:
  ret void
}}
"""


def _worker(pause: str) -> str:
    """A worker's side: take chunks, or a job; when there are none, look for a while, then sleep."""
    return f"""
define ptr @worker(ptr %record) {{
entry:
  %state = load ptr, ptr %record
  %thread.p = getelementptr i8, ptr %record, i64 8
  %thread = load i64, ptr %thread.p
{_field("epoch", EPOCH)}
{_field("sleepers", SLEEPERS)}
{_field("shutdown", SHUTDOWN)}
{_field("spin.p", SPIN)}
{_field("mutex", MUTEX)}
{_field("condition", CONDITION)}
{_field("submitted.p", SUBMITTED)}
{_field("finished.p", FINISHED)}
{_field("steps.p", JOB_STEPS)}
{_field("count.p", JOB_COUNT)}
  %spin = load i64, ptr %spin.p
  br label %work
work:
  %seen = load atomic i64, ptr %epoch seq_cst, align 8
  call void @take_chunks(ptr %state, i64 %thread)
  %started = call i64 @now()
  br label %look
look:
  %turn = phi i64 [1, %work], [%turn.next, %rest], [1, %clock]
  %current = load atomic i64, ptr %epoch acquire, align 8
  %moved = icmp ne i64 %current, %seen
  br i1 %moved, label %work, label %look.job
look.job:
  %given = call i1 @has_job(ptr %state, i64 %thread)
  br i1 %given, label %job, label %rest
job:
  %steps = load ptr, ptr %steps.p
  %count = load i64, ptr %count.p
  %all = call i64 @run_as(ptr %state, ptr %steps, i64 %count, ptr null, i64 -1, i64 %thread)
  %number = load atomic i64, ptr %submitted.p acquire, align 8
  store atomic i64 %number, ptr %finished.p release, align 8
  br label %work
rest:
  {pause}
  %turn.next = add i64 %turn, 1
  %often = icmp sgt i64 %turn, {LOOKS_PER_CLOCK}
  br i1 %often, label %clock, label %look
clock:
  %time = call i64 @now()
  %waited = sub i64 %time, %started
  %long = icmp sgt i64 %waited, %spin
  br i1 %long, label %sleep, label %look
sleep:
  %s1 = call i32 @pthread_mutex_lock(ptr %mutex)
  %o1 = atomicrmw add ptr %sleepers, i64 1 seq_cst, align 8
  br label %check
check:
  %stop = load atomic i64, ptr %shutdown seq_cst, align 8
  %stopping = icmp ne i64 %stop, 0
  br i1 %stopping, label %leave, label %check.epoch
check.epoch:
  %current2 = load atomic i64, ptr %epoch seq_cst, align 8
  %moved2 = icmp ne i64 %current2, %seen
  br i1 %moved2, label %wake, label %check.job
check.job:
  %given2 = call i1 @has_job(ptr %state, i64 %thread)
  br i1 %given2, label %wake, label %block
block:
  %s2 = call i32 @pthread_cond_wait(ptr %condition, ptr %mutex)
  br label %check
wake:
  %o2 = atomicrmw sub ptr %sleepers, i64 1 seq_cst, align 8
  %s3 = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %work
leave:
  %o3 = atomicrmw sub ptr %sleepers, i64 1 seq_cst, align 8
  %s4 = call i32 @pthread_mutex_unlock(ptr %mutex)
  ret ptr null
}}
"""


_JOBS = f"""
; Has this worker been given a job?
define internal i1 @has_job(ptr %state, i64 %thread) {{
{_field("threads.p", THREADS)}
{_field("submitted.p", SUBMITTED)}
{_field("finished.p", FINISHED)}
  %threads = load i64, ptr %threads.p
  %next = add i64 %thread, 1
  %last = icmp eq i64 %next, %threads
  %submitted = load atomic i64, ptr %submitted.p seq_cst, align 8
  %finished = load atomic i64, ptr %finished.p monotonic, align 8
  %open = icmp ne i64 %submitted, %finished
  %given = and i1 %last, %open
  ret i1 %given
}}

; Give the last worker a job. There must be none.
define internal void @submit(ptr %state, ptr %steps, i64 %count) {{
{_field("steps.p", JOB_STEPS)}
{_field("count.p", JOB_COUNT)}
{_field("submitted.p", SUBMITTED)}
  store ptr %steps, ptr %steps.p
  store i64 %count, ptr %count.p
  %submitted = load i64, ptr %submitted.p
  %next = add i64 %submitted, 1
  store atomic i64 %next, ptr %submitted.p seq_cst, align 8
  call void @wake(ptr %state)
  ret void
}}

; Take part in the job until it is done, but no longer than some nanoseconds and a chunk. Returns whether there is none any more.
define i32 @finish(ptr %state, i64 %patience) {{
entry:
{_field("submitted.p", SUBMITTED)}
{_field("finished.p", FINISHED)}
  %begun = call i64 @now()
  br label %look
look:
  %turn = phi i64 [0, %entry], [%turn.next, %rest]
  %submitted = load i64, ptr %submitted.p
  %finished = load atomic i64, ptr %finished.p acquire, align 8
  %none = icmp eq i64 %submitted, %finished
  br i1 %none, label %leave, label %take
take:
  call void @take_chunks(ptr %state, i64 0)
  %now = call i64 @now()
  %waited = sub i64 %now, %begun
  %expired = icmp sgt i64 %waited, %patience
  br i1 %expired, label %leave, label %rest
rest:
  call void @rest(i64 %turn)
  %turn.next = add i64 %turn, 1
  br label %look
leave:
  %answer = zext i1 %none to i32
  ret i32 %answer
}}
"""
