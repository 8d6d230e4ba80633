"""Plans: which kernels run in which order in which memory, made once and run many times.

Memory is of four kinds. Leaves bring their own. Results that a tensor can ask for get a buffer each, or take over that of a
leaf which nobody can ask for any more. What lives only inside the plan lies in one arena shared by all plans, placed by
lifetime. All arguments of all kernels are one array of int64 words; to run a plan is to fill in the addresses and numbers
that changed and to make one native call between calls of NumPy.

Steps that do not lead to the value that is asked for go on in the background when the program has it.

An interrupt (Ctrl-C) ends a plan between two chunks of a step as long as nothing has been written to the memory of leaves: then
nothing has happened. Later it ends between two steps, and the rest is done in the background.
"""

from __future__ import annotations

import copy
import ctypes
from itertools import compress, groupby
from operator import attrgetter, is_not, ne

import numpy as np

from ..base import config
from ..base import dtype as dt
from ..runtime import flight, pool
from ..runtime.buffer import Buffer, memory
from ..runtime.pool_ir import PROGRESS
from .view import reach

ALIGN = 64
FEW = 4         # steps that are not worth handing to another thread
FEW_WORDS = 48  # most addresses, and numbers, that are bound one by one: NumPy takes as long for a few as for these
_arena: Buffer | None = None
_address, _address_in = map(attrgetter, ("address", "buffer.address"))
_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)     # words, tiles from, to, scratch


def arena(nbytes: int) -> Buffer:
    """The memory for temporaries: one block, kept, grown when a plan needs more."""
    global _arena
    if _arena is None or _arena.nbytes < nbytes:
        _arena = None
        _arena = Buffer.allocate(nbytes)
    return _arena


class Extern:
    """A step done by NumPy."""

    def __init__(self, host, params: dict, inputs: list, outputs: list, group, name: str):
        self.host, self.params, self.inputs, self.outputs, self.group, self.name = host, params, inputs, outputs, group, name
        self.reads = {b for b, *_ in inputs if b is not None}
        self.writes = {b for b, *_ in outputs if b is not None}
        self.sizes: dict = {}       # bytes of each buffer, as far as they are used
        for b, v, d, _ in inputs:
            if b is not None and v.numel:
                self.sizes[b] = max(self.sizes.get(b, 0), (v.offset + reach(v)) * d.itemsize)
        self.sizes.update({b: n * d.itemsize for b, n, d in outputs if b is not None})
        self.checks: list = []

    def stored(self) -> set:
        """What it could be told to store in another way: NumPy cannot."""
        return set()

    def run(self, address, numbers) -> None:
        arrays = []
        for buffer, v, dtype, number in self.inputs:
            if v is None:
                arrays.append(numbers[number])
            elif not v.numel:
                arrays.append(np.empty(v.shape, dtype.numpy or dtype.compute.numpy))
            else:
                array = memory(address(buffer) + v.offset * dtype.itemsize, reach(v), dtype.memory, v)
                arrays.append(array if dtype.numpy is not None else dt.decode(array))
        results = self.host(*arrays, **self.params)
        if not isinstance(results, tuple):
            results = (results,)
        for position, (buffer, numel, dtype) in enumerate(self.outputs):
            if buffer is not None:
                r = np.ascontiguousarray(results[position], dtype=dtype.numpy or dtype.compute.numpy)
                r = r if dtype.numpy is not None else dt.encode(r)
                if r.size != numel:
                    raise RuntimeError(f"{self.name}: expected a result of {numel} elements; received {r.size}.")
                memory(address(buffer), numel, dtype.memory)[:] = r.reshape(-1)


class Layout:
    """Offsets in the arena of buffers with a lifetime in steps, in order of their first step: best fit."""

    def __init__(self):
        self.offsets: dict = {}
        self.free: list[list[int]] = []     # [offset, size], by offset
        self.top = 0

    def place(self, buffers: dict) -> int:
        """buffers: name -> (first step, last step, bytes). Returns the bytes needed."""
        ends: dict[int, list] = {}
        starts: dict[int, list] = {}
        for b, (first, last, _) in buffers.items():
            starts.setdefault(first, []).append(b)
            ends.setdefault(last, []).append(b)
        for step in sorted(set(starts) | set(ends)):
            by_name = sorted(starts.get(step, ()))      # `buffers` may be in the order of a set, which is another in each process
            for b in sorted(by_name, key=lambda b: -buffers[b][2]):
                self.offsets[b] = self._take(rounded(buffers[b][2]))
            for b in ends.get(step, ()):
                self._give(self.offsets[b], rounded(buffers[b][2]))
        return self.top

    def _take(self, size: int) -> int:
        best = None
        for k, (_, extent) in enumerate(self.free):
            if extent >= size and (best is None or extent < self.free[best][1]):
                best = k
        if best is None:
            if self.free and sum(self.free[-1]) == self.top:
                offset = self.free.pop()[0]
            else:
                offset = self.top
            self.top = offset + size
            return offset
        offset, extent = self.free[best]
        if extent == size:
            del self.free[best]
        else:
            self.free[best] = [offset + size, extent - size]
        return offset

    def _give(self, offset: int, size: int) -> None:
        k = 0
        while k < len(self.free) and self.free[k][0] < offset:
            k += 1
        self.free.insert(k, [offset, size])
        if k + 1 < len(self.free) and offset + size == self.free[k + 1][0]:
            self.free[k][1] += self.free.pop(k + 1)[1]
        if k and sum(self.free[k - 1]) == offset:
            self.free[k - 1][1] += self.free.pop(k)[1]


def rounded(n: int) -> int:
    return max(ALIGN, (n + ALIGN - 1) & -ALIGN)


class Plan:
    """See the module's text. `steps`: Calls and Externs in order. `results`: node index -> bytes or a leaf to take over."""

    def __init__(self, steps: list, leaves: int, results: dict, forms: dict, temporaries: dict, number_at: dict, donated: dict):
        self.steps = steps
        self.drafts: list = []                      # kernels that may run as drafts
        self.describe = None                        # gives the steps where these are another plan's
        self.results = list(results.items())
        self.forms = list(forms.values())           # of the results once they are leaves
        self.donated = donated                      # node index -> leaf number
        self.family = None                          # which other plans may be made of, told by whoever keeps it
        self.used = 0                               # when it was used last, told by whoever keeps it
        self.found = 0                              # how often by its key, likewise
        self.leaves = leaves
        self.number_at = number_at
        layout = Layout()
        self.arena_bytes = layout.place(temporaries)
        self.offsets = layout.offsets
        # the table of addresses: leaves, results, arena, status
        self.rows: dict = {("leaf", k): k for k in range(leaves)}
        for k, (i, _) in enumerate(self.results):
            self.rows["node", i] = leaves + k
        self.arena_row = leaves + len(self.results)
        self.written = {b[1]: k for k, s in enumerate(steps) for b in s.writes if b[0] == "node" and b[1] in results}     # last by
        self.first_written = {b[1]: k for k, s in reversed(list(enumerate(steps))) for b in s.writes if b[0] == "node" and b[1] in results}
        self.late: dict[int, list[int]] = {}
        self.safe = self.first_write(donated)
        self.checks = [c for s in steps for c in s.checks]
        self.status = np.zeros(max(1, len(self.checks)), np.int64)
        self._words()
        self._segments()

    def _locate(self, buffer) -> tuple[int, int]:
        row = self.rows.get(buffer)
        return (row, 0) if row is not None else (self.arena_row, self.offsets[buffer])

    def _words(self) -> None:
        values: list[int] = []
        pointers: list[tuple[int, int, int]] = []
        self.numbers: list[list[tuple[int, str]]] = [[] for _ in self.number_at]       # of each, the words that it goes to, and as what
        self.starts = []
        check = 0
        for step in self.steps:
            self.starts.append(len(values))
            local: dict[int, int] = {}
            for arg in getattr(step, "args", ()):
                kind = arg[0]
                here = len(values)
                values.append(0)
                if kind == "int":
                    values[-1] = arg[1]
                elif kind == "ptr":
                    row, offset = self._locate(arg[1])
                    pointers.append((here, row, offset + arg[2]))
                elif kind == "num":
                    self.numbers[self.number_at[arg[1]]].append((here, arg[2].kind))
                elif kind == "status":
                    slot = local.setdefault(arg[1], check + len(local))
                    pointers.append((here, self.arena_row + 1, 8 * slot))
            check += len(local)
            if hasattr(step, "args"):
                step.count = len(step.args)
                # a plan is kept: let go what it needs no more
                step.args = step.reads = step.writes = step.read_at = step.written_at = None
        self.words = np.array(values + [0], np.int64)
        self.float_words = self.words.view(np.float64)
        self.pointer_at, self.pointer_row, self.pointer_offset = (np.array(c, np.int64) for c in zip(*pointers)) if pointers else \
            (np.zeros(0, np.int64),) * 3

    def _segments(self) -> None:
        """The externs, and the runs of native steps between them: (row of the table, steps, number of the first one, how many of them come
        up to the last check)."""
        self.segments: list = []
        self.target = config.target
        launches: list = []         # of each native step: tiles, grain, bytes of scratch memory
        checked = max((k + 1 for k, s in enumerate(self.steps) if s.checks and s.fails), default=0)
        for native, steps in groupby(range(len(self.steps)), lambda k: not isinstance(self.steps[k], Extern)):
            numbers = list(steps)
            if not native:
                self.segments += [self.steps[k] for k in numbers]
                continue
            self.segments.append((len(launches), len(numbers), numbers[0], min(max(checked - numbers[0], 0), len(numbers))))
            for k in numbers:
                start = self.starts[k]
                launches.append((0, 0, 0) if self.target == "interp" else
                                self.steps[k].kernel.launch(tuple(self.words[start:start + self.steps[k].count].tolist())))
        self.drafts = [] if self.target == "interp" else [s.kernel for s in self.steps if not isinstance(s, Extern) and s.kernel.draft]
        self.native = self.target != "interp" and bool(launches) and len(launches) == len(self.steps)
        called = [(0 if self.target == "interp" else step.kernel.address, 8 * start)
                  for step, start in zip(self.steps, self.starts) if not isinstance(step, Extern)]
        self.called = np.array(called, np.int64).reshape(-1, 2)
        self._tabulate(np.array(launches, np.int64).reshape(-1, 3))

    def _tabulate(self, launches: np.ndarray) -> None:
        """The table of native steps, for the words there are."""
        self.launches = launches
        rows = self.table_rows = np.empty((len(launches), 4), np.int64)
        rows[:, :2] = self.called
        rows[:, 1] += self.words.ctypes.data
        rows[:, 2:] = launches[:, :2]
        self.scratch = int(launches[:, 2].max(initial=0))
        self.noted = memoryview(self.status)
        self.status_address = self.status.ctypes.data
        self.records = {}       # of each native segment: where its record lies, and its words
        for n, s in enumerate(self.segments):
            if not isinstance(s, Extern):
                record = pool.record(rows[s[0]:s[0] + s[1]], s[3], self.status)
                self.records[n] = record.ctypes.data, memoryview(record)
        self.alone = self.native and len(rows) < FEW and not self.arena_bytes and not self.scratch and not self.checks
        self._binding()
        self.times: dict = {}

    def _binding(self) -> None:
        """What `_results` and `bind` go by."""
        self.memory = [(nbytes, self.donated.get(i)) for i, nbytes in self.results]     # of each: its size, the leaf that it takes over
        self.word, self.float_word = memoryview(self.words), memoryview(self.float_words)
        self.bound: object = None       # the addresses that the arguments have; or who has bound them by half
        self.told: list | None = None   # the numbers that they have, unless others were written over them
        self.pointers: list[list[tuple[int, int]]] | None = None
        self.floats: tuple | None = None

    def finish(self) -> None:
        """What comes again is worth being optimised: no kernel of this plan is to remain a draft."""
        for kernel in self.drafts:
            kernel.finish()
        self.drafts.clear()

    def cast(self, words: np.ndarray, pointer_offset: np.ndarray, launches: np.ndarray, describe, **sizes) -> Plan:
        """A plan of the same native steps with other numbers: its words and the offsets of its pointers, and whatever else `sizes` says.
        `describe()` gives its steps."""
        self.finish()
        plan = copy.copy(self)
        plan.__dict__.update(sizes)
        plan.describe = describe
        plan.found, plan.status = 0, np.zeros_like(self.status)
        plan.words, plan.float_words, plan.pointer_offset = words, words.view(np.float64), pointer_offset
        plan._tabulate(launches)
        return plan

    def kernels(self) -> list[dict]:
        """For `explain`, each step: kind, nodes (number, operator, shape, dtype, stored), the reason why it is a kernel of its own,
        the loop program, the compiled kernel, how many parallel tiles, and the time of the last timed run in nanoseconds."""
        found = []
        row = 0
        for k, s in enumerate(self.describe() if self.describe else self.steps):
            native = not isinstance(s, Extern)
            found.append(dict(kind=s.group.kind, nodes=s.group.nodes, reason=s.group.reason, program=s.program if native else None,
                              kernel=s.kernel if native else None, tiles=int(self.table_rows[row, 2]) if native else 1,
                              time=self.times.get(k)))
            row += native
        return found

    # -- running ------------------------------------------------------------------------------------------------

    def run(self, nodes: list, leaves: list, numbers: list, timed: bool = False, wanted: int | None = None) -> None:
        """Compute; give the live nodes their buffers. Raises `late_error` of its operator for an index outside of its dimension.

        `wanted`: the number of a node; steps after the one that computes it may go on in the background. None: all steps are waited
        for; -1: none needs be.
        """
        if self.native and not timed:
            self.launch(nodes, self.given(nodes), self._begin(leaves, numbers)[0], self.waited_for(wanted))
        elif not self._attempt(nodes, leaves, numbers, timed, wanted, self.safe):
            self._attempt(nodes, leaves, numbers, timed, wanted, -1)     # the program handled the interrupt itself

    def launch(self, nodes, given: list, buffers: list, now: int) -> None:
        """Run a native plan whose arguments are bound, the first `now` steps at once; `nodes` are named in errors."""
        if not self._fly(0, nodes, given, buffers, now, self.safe):
            self._fly(0, nodes, given, buffers, now, -1)

    def waited_for(self, wanted: int | None) -> int:
        """How many steps of the last segment the node `wanted` needs; all, if those after it are not worth handing over."""
        _, count, first, checked = self.segments[-1]
        if wanted is None:
            return count
        now = max(checked, self.written.get(wanted, first + count) + 1 - first if wanted >= 0 else 0)
        return now if count - now >= FEW else count

    def _begin(self, leaves: list, numbers: list, wait: bool = True) -> tuple[list, list]:
        """Bind all arguments: (the buffers of the results, the addresses). Unless told not to `wait`, what runs in the background, perhaps
        with the same words, is done then."""
        addresses = [*map(_address_in, leaves)]
        if wait:
            flight.finish()
        buffers = self._results(leaves, Buffer.allocate)
        base = arena(self.arena_bytes).address if self.arena_bytes else 0
        addresses += [*map(_address, buffers), base, self.status_address]
        self.bind(addresses, numbers)
        return buffers, addresses

    def _attempt(self, nodes: list, leaves: list, numbers: list, timed: bool, wanted: int | None, safe: int) -> bool:
        """Run; False if an interrupt that the program handled itself ended it before step `safe`, where nothing has been changed."""
        given = self.given(nodes)
        buffers, addresses = self._begin(leaves, numbers)
        for n, segment in enumerate(self.segments):
            last = n == len(self.segments) - 1
            if isinstance(segment, Extern):
                self._host(segment, addresses, numbers, nodes)
            elif timed or self.target == "interp":
                self._watched(segment, nodes, timed)
            elif not self._fly(n, nodes, given if last else None, buffers, self.waited_for(wanted) if last else segment[1], safe):
                return False
            elif last:
                return True
        self._give(given, buffers)
        return True

    def _fly(self, number: int, nodes, given: list | None, buffers: list, now: int, safe: int) -> bool:
        """Run a native segment, its first `now` steps at once and the others perhaps in the background, and give their buffers to
        `given`; None if there are more segments.

        An interrupt ends it before step `safe`, and is raised; False if the program has handled that itself. Later it is raised when all is
        in order, the rest in the background: these steps write over memory that results take over, and cannot be done twice."""
        _, count, first, checked = self.segments[number]
        address, progress = self.records[number]
        if self.scratch:
            pool.reserve_scratch(self.scratch)
        if safe >= 0:
            safe = max(0, safe - first)
        progress[PROGRESS] = 0
        interrupt = None
        while True:
            try:
                done = progress[PROGRESS]
                if done == count:
                    if given is not None:
                        self._give(given, buffers)
                    break
                if done < 0:
                    self._raise(nodes)
                if interrupt is not None and done <= safe:
                    break
                if 0 < done < safe:
                    return False
                if interrupt is not None:
                    safe, now = -1, count if given is None else max(done, checked)
                job = None
                if now < count:
                    job = self, self.bound, [buffers[k].address for k in self._written_from(first + now)]
                pool.launch(address, now, safe, job)
            except KeyboardInterrupt as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt
        return True

    def _watched(self, segment: tuple, nodes: list, timed: bool) -> None:
        """Run a native segment in NumPy, or noting the times of its steps."""
        row, count, first, checked = segment
        self.status.fill(0)
        for a, b in ((0, checked), (checked, count)):
            if timed and self.target != "interp":
                pool.reserve_scratch(self.scratch)
                self.times.update(zip(range(first + a, first + b), pool.run_timed(self.table_rows[row + a:row + b]).tolist()))
            else:
                self._interpret(first + a, first + b)
            if any(self.noted):
                self._raise(nodes)

    def run_alone(self, nodes: list, leaves: list, numbers: list) -> None:
        """As `run`, for a little plan without memory of its own, on this thread: the pool may be doing something else."""
        if any(n.buffer in flight.awaited for n in leaves):
            flight.finish()
        given = self.given(nodes)
        buffers, _ = self._begin(leaves, numbers, False)
        for address, words, tiles, _ in self.table_rows.tolist():
            _KERNEL(address)(words, 0, tiles, None)
        self._give(given, buffers)

    def _written_from(self, step: int) -> list[int]:
        """The results that a step or a later one writes."""
        if step not in self.late:
            self.late[step] = [k for k, (i, _) in enumerate(self.results) if self.written.get(i, -1) >= step]
        return self.late[step]

    def first_write(self, nodes) -> int:
        """The first step that writes one of these results; the number of steps if none does."""
        return min([self.first_written.get(i, len(self.steps)) for i in nodes], default=len(self.steps))

    def repeat(self, nodes: list, safe: int) -> KeyboardInterrupt | None:
        """Run a native plan once more with the arguments that are bound; `nodes` are named in errors. An interrupt is raised where it ends
        the plan before step `safe`, the first that changes anything; later, it is returned, to be raised when all is in order."""
        count = len(self.table_rows)
        try:
            if not self._fly(0, nodes, None, [], count, safe):
                self._fly(0, nodes, None, [], count, -1)
        except KeyboardInterrupt as interrupt:
            if self.records[0][1][PROGRESS] < count:
                raise
            return interrupt
        return None

    def _host(self, step: Extern, addresses: list, numbers: list, nodes: list) -> None:
        try:
            step.run(lambda b: self._address(b, addresses), numbers)
        except Exception as error:
            error.node = nodes[step.group.root]     # what does not depend on it can still be computed
            raise

    def _results(self, leaves: list, allocate) -> list:
        """The buffer of each result."""
        return [allocate(nbytes) if leaf is None else leaves[leaf].buffer for nbytes, leaf in self.memory]

    def bind(self, addresses: list, numbers: list) -> None:
        """Addresses and numbers into the arguments. A loop's are mostly there already."""
        self.bind_addresses(addresses)
        told, self.told = self.told, None       # should an interrupt come
        one_by_one = range(len(numbers)) if told is None else compress(range(len(numbers)), map(is_not, numbers, told))     # 0.0 == -0.0
        if len(numbers) > FEW_WORDS:
            which, places, one_by_one = self._float_numbers()
            self.float_words[places] = np.fromiter(map(numbers.__getitem__, which), np.float64, len(which))
        for k in one_by_one:
            for at, kind in self.numbers[k]:
                if kind == "f":
                    self.float_word[at] = numbers[k]
                else:
                    self.word[at] = integer(numbers[k], kind == "b")
        self.told = numbers

    def bind_addresses(self, addresses: list) -> None:
        """See `bind`."""
        bound, self.bound = self.bound, None
        if bound != addresses:
            moved = list(compress(range(len(addresses)), map(ne, addresses, bound))) if type(bound) is list else None
            if moved is None or len(moved) > FEW_WORDS:
                table = np.array(addresses, np.int64)
                self.words[self.pointer_at] = table[self.pointer_row] + self.pointer_offset
            else:
                words, places = self.word, self._pointers()
                for k in moved:
                    for at, offset in places[k]:
                        words[at] = addresses[k] + offset
        self.bound = addresses

    def _float_numbers(self) -> tuple:
        """(which of the numbers become floats, the words that they go to, which are the others)."""
        if self.floats is None:
            goes = [(k, at) for k, places in enumerate(self.numbers) for at, kind in places if kind == "f"]
            others = [k for k, places in enumerate(self.numbers) if any(kind != "f" for _, kind in places)]
            self.floats = [k for k, _ in goes], np.array([at for _, at in goes], np.int64), others
        return self.floats

    def _pointers(self) -> list[list[tuple[int, int]]]:
        """Of each address, the words that it goes to, and what is added to it there."""
        if self.pointers is None:
            self.pointers = [[] for _ in range(self.arena_row + 2)]
            for at, row, offset in zip(self.pointer_at.tolist(), self.pointer_row.tolist(), self.pointer_offset.tolist()):
                self.pointers[row].append((at, offset))
        return self.pointers

    def given(self, nodes) -> list:
        """The live nodes."""
        return [nodes[i] for i, _ in self.results]

    def _give(self, given: list, buffers: list) -> None:
        """They become leaves."""
        for node, form, b in zip(given, self.forms, buffers):
            node.buffer = b
            node.form = form
            node.inputs = ()

    def _address(self, buffer, addresses: list) -> int:
        row, offset = self._locate(buffer)
        return addresses[row] + offset

    def _interpret(self, begin: int, end: int) -> None:
        from . import interp

        for k in range(begin, end):
            start = self.starts[k]
            words = [int(x) for x in self.words[start:start + self.steps[k].count]]
            program = self.steps[k].program
            program.interpret(words) if hasattr(program, "interpret") else interp.run(program, words)

    def _raise(self, nodes: list) -> None:
        for code, (node, _, size) in zip(self.status.tolist(), self.checks):
            if code:
                error = late_error(nodes[node].op, nodes[node].where, size, code)
                error.node = nodes[node]        # what does not depend on it can still be computed
                raise error


def late_error(op, where, size: int, code: int) -> Exception:
    """What a check noted, as an error of operator `op`: `code` as a kernel writes it, `where` the operator was recorded."""
    index = code - 1 if code > 0 else code - size
    complaint = op.complaint or f"{op.name}: expected an index in [{-size}, {size}) for a dimension of size {size}; received {index}."
    return op.late_error(f"{complaint}{_where(where)}")


def integer(x, boolean: bool) -> int:
    if boolean:
        return 1 if x else 0
    x = int(x)
    return x if -1 << 63 <= x < 1 << 63 else (x + (1 << 63)) % (1 << 64) - (1 << 63)


def _where(where) -> str:
    if not where:
        return ""
    if isinstance(where[0], str):
        return f"\n{' ' * 12}Recorded at {where[0]}:{where[1]}"
    from ..base.errors import describe_position

    return f"\n{' ' * 12}Recorded at {describe_position(where)}"
