"""Computing what was recorded: look the recording up among the plans, or make a plan; run it.

The key of a plan is the recording's structure: operators, shapes, index maps, which values can still be asked for. Numbers
and addresses are arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import accumulate, pairwise
from operator import attrgetter
from sys import getrefcount

from ..base import config
from ..base.garbage import uncollected
from ..loops import template
from ..loops.lower import Lowering
from ..loops.plan import Extern, Plan
from ..loops.size import sure
from . import block, brief, chain, family, pieces, tape, window, wiring
from .fuse import Fusion, in_place
from .node import Node, alike, counted, leaf_form, uses, verify
from .streams import stream
from .tape import ALL
from .unread import leave_out

STEPS = 1 << 16     # of the plans kept: a thousand of pieces or small models, fifty of large ones


class _Kept(dict):
    """Plans by the keys of recordings. Where they have too many steps, those go which have not been used for longest."""

    steps = 0

    def keep(self, key: tuple, plan, steps: int) -> None:
        _use(plan)
        plan.weight = steps
        self[key] = plan
        self.steps += steps
        if self.steps > STEPS:
            for old, known in sorted(self.items(), key=lambda item: item[1].used)[:-1]:
                del self[old]
                self.steps -= known.weight
                if self.steps <= STEPS * 3 // 4:
                    break

    def clear(self) -> None:
        super().clear()
        self.steps = 0


_plans = _Kept()
_folded = _Kept()       # plans of recordings with blocks
_last: list = [None]
counters = {"hits": 0, "made": 0, "resized": 0}


def last() -> Plan | None:
    """The plan that ran last."""
    return _last[0]


def clear() -> None:
    """Forget all plans, and what they have in common."""
    _plans.clear()
    _folded.clear()
    brief.clear()
    family.clear()
    pieces.clear()
    wiring.clear()
    template.clear()


def flush(nodes: list, timed: bool = False, device: str = "cpu", wanted=ALL, beside: bool = False) -> None:
    """Compute every node of a recording that a tensor can still ask for, on the device where its leaves are; of which `wanted` are
    there on return, and the others soon (`tape.flush`). `beside`: what runs in the background need not be waited for. The caller holds
    `tape.computing`.

    Raises IndexError for an index outside of its dimension; then nothing has changed.
    """
    if device == "cpu" and not (timed or beside):
        plan = brief.again(nodes, wanted)
        if plan is not None:
            counters["hits"] += 1
            _last[0] = plan
            return
    _flush(nodes, timed, device, wanted, beside)


@uncollected
def _flush(nodes: list, timed: bool, device: str, wanted, beside: bool) -> None:
    """As `flush`, of what has no function of its own."""
    folding = None
    if block.Block in map(type, nodes):
        folding = _run_folded(nodes, timed, device, wanted)
        if folding is None:
            return
        block.unfold(nodes)
    plan = _compute(nodes, timed, device, wanted, beside, folding=folding)
    if folding is not None and folding.fits and plan is not None:
        _folded.keep(folding.key, block.Folded(plan, folding.places), len(plan.steps))
        if folding.member is not None and folding.member.family is not plan.family:
            folding.member.join(plan.family)


class _Folding:
    """A recording with blocks that no plan was found for: its key, the places of its nodes, its leaves, as which member of a family it is
    known. `fits`: whether it has the same leaves unfolded. Where nodes of a block begin to read through windows it has not."""

    fits = False

    def __init__(self, key: tuple, nodes: list, leaves: list[Node], member: family.Member | None):
        self.key, self.places, self.member = key, block.places(nodes), member
        self.leaves = [id(s) for s in leaves]       # their nodes keep them; references are counted

    def unfolded(self, leaves: list[Node]) -> None:
        self.fits = self.leaves == [id(s) for s in leaves]


def _compute(nodes: list[Node], timed: bool = False, device: str = "cpu", wanted=ALL, beside: bool = False,
             piece: bool = False, folding: _Folding | None = None) -> Plan | None:
    """As `flush`, for nodes that are all made. Gives the plan for them if there is one; `piece`: what is recorded behind them refers to
    them, too; `folding`: what is known of the recording with blocks."""
    missed = folding and folding.member
    divisible = device == "cpu" and config.fuse and not (timed or beside or piece) and tape.state.watch is None
    number = _place(wanted, nodes)
    if divisible and missed is not None and pieces.changing():      # most likely: it is not even looked up
        lengths = pieces.lengths(nodes, missed)
        if lengths:
            _in_pieces(nodes, lengths, wanted)
            return None
    key, leaves, numbers = identify(nodes, nodes)
    if folding is not None:
        folding.unfolded(leaves)
        missed = folding.member if folding.fits else None
    key = (device, referred(key, nodes, leaves) if piece else key)
    plan = _plans.get(key)
    if plan is None:
        member, plan = _resized(nodes, leaves, key[1], device, number, missed)
        lengths = pieces.lengths(nodes, member) if plan is None and divisible else None
        if lengths:
            del leaves, numbers     # references are counted
            _in_pieces(nodes, lengths, wanted)
            return None
        counters["made"] += 1
        if plan is None:
            plan = _plan(nodes, leaves, key[1], device, number, member)
        _plans.keep(key, plan, len(plan.steps))
    else:
        counters["hits"] += 1
        _use(plan)
        if plan.drafts:
            plan.finish()
        if plan.native and not (timed or beside or piece):
            brief.found(plan, nodes, nodes, key[1], leaves, range(len(nodes)), number)
    if beside and plan.alone:
        plan.run_alone(nodes, leaves, numbers)
    else:
        plan.run(nodes, leaves, numbers, timed, -1 if wanted is None else number)
        _last[0] = plan
    return plan


def _run_folded(nodes: list, timed: bool, device: str, wanted) -> _Folding | None:
    """Run the plan of a recording with blocks; where there is none, say what it is known as."""
    made = block.seen(nodes)
    key, leaves, numbers = identify(nodes, made)
    key = (device, key)
    known = _folded.get(key)
    number = _place(wanted, made)
    if known is None:
        member, plan = _resized(nodes, leaves, key[1], device, number)
        if plan is None:
            return _Folding(key, nodes, leaves, member)
        known = block.Folded(plan, block.places(nodes))
        _folded.keep(key, known, len(plan.steps))
        counters["made"] += 1
    else:
        counters["hits"] += 1
    _use(known)
    _use(known.plan)
    if known.plan.drafts:
        known.plan.finish()
    if known.plan.native and not timed:
        brief.found(known.plan, nodes, made, key[1], leaves, known.places, number)
    found = known.nodes(nodes, made)
    known.plan.run(found, leaves, numbers, timed, -1 if wanted is None else None if number is None else known.places[number])
    _last[0] = known.plan
    return None


def _use(plan) -> None:
    plan.used = counters["hits"] + counters["made"]     # noted here, since a key is long and takes time to be looked up


def _in_pieces(nodes: list[Node], lengths: list[int], wanted) -> None:
    """Compute a recording piece by piece, of which the one with node `wanted` is the last that is waited for, if it is one. What an error
    leaves undone is in `nodes` again."""
    bounds = list(pairwise(accumulate(lengths, initial=0)))
    parts = [nodes[a:b] for a, b in bounds]
    number = _place(wanted, nodes)
    try:
        nodes.clear()
        for part, (start, end) in zip(parts, bounds):
            needed = wanted if number is None or start <= number < end else ALL if end <= number else None
            _compute(part, wanted=needed, piece=True)
            part.clear()
    except BaseException:
        nodes[:] = [n for part in parts for n in part]
        raise


def _resized(nodes: list, leaves: list[Node], key: tuple, device: str, wanted: int | None,
             missed: family.Member | None = None) -> tuple[family.Member | None, Plan | None]:
    """(as which member of a family a recording is known, the plan of another size made to fit it, if there is one); GPUs have none."""
    if device != "cpu":
        return None, None
    if missed is not None and missed.family is not None:
        return missed, None
    target, fuse, precision, _, references, sources, _, *counts = key
    member = family.member((target, fuse, precision, references, sources, *counts, wanted), nodes, leaves)
    known = member.family
    plan = None if known is None else known.plan(member.sizes)
    if plan is not None:
        plan.family = known
        counters["resized"] += 1
    return member, plan


def _plan(nodes: list[Node], leaves: list[Node], key: tuple, device: str, wanted: int | None, member: family.Member | None) -> Plan:
    """A new plan; `member`: of which others of the family may be made."""
    live, dying = fates(nodes, leaves, key)

    def again(nodes: list[Node], leaves: list[Node]) -> family.Made:
        return make(nodes, leaves, live, dying, device, wanted)

    if member is None:
        return plan_class(device)(*again(nodes, leaves))
    known = member.family
    if known is None:
        known = family.Family()
        member.join(known)
    plan = known.trace(member.sizes, nodes, leaves, again) or Plan(*again(nodes, leaves))
    plan.family = known
    return plan


def run_again(plan: Plan, nodes: list[Node], leaves: list[Node], numbers: list) -> None:
    """Run a plan that was made for these nodes before, with other leaves and numbers; only its results need be nodes of their own."""
    with tape.computing:
        plan.run(nodes, leaves, numbers)
        counters["hits"] += 1
        _last[0] = plan


def identify(nodes: list, made: list[Node]) -> tuple:
    """(the key of the recording, its leaves, its numbers). `made`: its nodes, those of blocks as far as they are made.

    Which values are wanted is told by counts of references; they go into the key as they are, and are understood (`fates`) only
    where a plan is made.
    """
    found = wiring.known(nodes, made)
    if found is None and tape.state.watch is None and window.framed(nodes):
        found = wiring.known(nodes, made)
    if found is None:
        found = wiring.traced(nodes, made)
    forms, sources, leaves, buffers, numbers = found
    found = None        # references are counted
    if made is not nodes:
        numbers = block.numbers(nodes)
    key = (config.target, config.fuse, config.float32_matmul, forms, tuple(map(getrefcount, made)), sources,
           tuple(map(wiring.form_of, leaves)), tuple(map(getrefcount, leaves)), tuple(map(getrefcount, buffers)),
           tuple(map(_exported, buffers)))
    return key, leaves, numbers


_exported = attrgetter("exported")


def _place(wanted, nodes: list[Node]) -> int | None:
    """The number of a node that is asked for; None where it is none of these."""
    if wanted is ALL or wanted is None:
        return None
    try:
        return nodes.index(wanted)
    except ValueError:
        return None


def fates(nodes: list[Node], leaves: list[Node], key: tuple) -> tuple[list[bool], list[int]]:
    """(which nodes a tensor can still ask for, which leaves nobody can, so that their memory may be taken over). Told by the counts in
    the key: another thread may have let go a tensor since."""
    *_, references, _, _, of_leaves, of_buffers, _ = key
    count = uses(nodes, leaves)     # a reference itself; there was none like it when they were counted
    live = counted(references, [count[n] - 1 for n in nodes])
    wanted = counted(of_leaves, [count[n] - 1 for n in leaves])
    shared = counted(of_buffers, [1] * len(leaves))
    dying = [k for k, n in enumerate(leaves) if not (wanted[k] or shared[k] or n.buffer.exported)]
    return live, dying


def referred(key: tuple, nodes: list[Node], leaves: list[Node]) -> tuple:
    """The key of a recording in which it counts only whether there are other references than its own: what is recorded behind a piece
    refers to its values and leaves, the more often the earlier the piece is."""
    *first, references, sources, forms, of_leaves, of_buffers, exported = key
    count = uses(nodes, leaves)
    return (*first, alike(references, [count[n] - 1 for n in nodes]), sources, forms, alike(of_leaves, [count[n] - 1 for n in leaves]),
            alike(of_buffers, [1] * len(leaves)), exported)


def make(nodes: list[Node], leaves: list[Node], live: list[bool], dying: list[int], device: str = "cpu",
         wanted: int | None = None) -> family.Made:
    """Group, lower and compile a recording. What the node of number `wanted` is computed from comes first."""
    for i, n in enumerate(nodes):
        n.index = i
    if config.verify:
        verify(nodes)
    fusion = group(nodes, live, device)
    alias = in_place(fusion)
    leaf_number = {id(n): k for k, n in enumerate(leaves)}
    taken = taken_over(fusion, alias, {id(leaves[k]): k for k in dying}) if device == "cpu" else {}

    def buffer_of(n):
        if n.buffer is not None and leaf_number[id(n)] not in taken:
            return ("leaf", leaf_number[id(n)])
        i = n.index if n.buffer is None else taken[leaf_number[id(n)]]
        while i in alias:
            i = alias[i]
        return ("node", i)

    lowering = Lowering(fusion, buffer_of)
    lowering.in_place = {*alias.values(), *taken.values()}
    number_at = {}
    for n in nodes:
        for j, s in enumerate(n.inputs):
            if type(s) is not Node:
                number_at[n.index, j] = len(number_at)
    steps: list = []
    for g in fusion.groups:
        if g.kind == "extern":
            steps.append(extern(fusion, g, buffer_of, number_at))
            continue
        steps += lowering.lower(g)
    for s in steps:
        if not isinstance(s, Extern):
            s.checks = [(n.index, j, size) for n, j, size in s.checks]
    if wanted is not None and live[wanted] and not taken:   # nothing that may fail comes behind what writes over a leaf
        steps = first(steps, buffer_of(nodes[wanted]))
    note_failures(steps, nodes)
    results = {i: n.numel * n.dtype.itemsize for i, n in enumerate(nodes) if live[i]}
    donated = {buffer_of(leaves[k])[1]: k for k in taken}
    donated = donations(nodes, leaves, dying, steps, results, donated)
    size_of = partial(nbytes, fusion.nodes, leaves, lowering.parts)
    if device == "cpu":
        stream(steps, size_of, {("node", i) for i in donated})
    calls = [s for s in steps if not isinstance(s, Extern)]
    compile_parts(calls, device)
    for s in calls:
        s.assemble()
    temporaries = lifetimes(steps, results, size_of)
    forms = {i: leaf_form(nodes[i].numel, nodes[i].dtype) for i in results}
    for g in fusion.groups:
        g.nodes = [(i, fusion.nodes[i].op.name, fusion.nodes[i].shape, fusion.nodes[i].dtype, bool(fusion.stored[i]))
                   for i in (*g.members, *g.moves)]
    return family.Made(steps, len(leaves), results, forms, temporaries, number_at, donated)


def first(steps: list, buffer) -> list:
    """The steps that a buffer's value comes from, then the others: while those run, the program goes on with the value. A loop of training
    reads the loss, and its steps back and the optimiser's are computed while the next step is recorded."""
    early, late = [], []
    read, written = {buffer}, set()     # by the steps in `early`
    for step in reversed(steps):
        ahead = not (written.isdisjoint(step.writes) and read.isdisjoint(step.writes) and written.isdisjoint(step.reads))
        if ahead:
            read.update(step.reads)
            written.update(step.writes)
        (early if ahead else late).append(step)
    return early[::-1] + late[::-1]


def note_failures(steps: list, nodes: list[Node]) -> None:
    """Which steps may fail: those with a check that no earlier one has made. The derivative of a gather scatters to the places that the
    gather has found within range."""
    made = set()
    for step in steps:
        own = {_checked(nodes[i], j, size) for i, j, size in step.checks}
        step.fails = isinstance(step, Extern) or not own <= made
        made |= own


def _checked(n: Node, j: int, size: int) -> tuple:
    """What a check looks at: the value, which of its elements, and the size they are to be within."""
    at = len(n.inputs) - len(n.static.picks) + j
    v = n.views[at]
    return id(n.inputs[at]), v.offset, tuple(sorted((m, t) for m, t in zip(v.shape, v.strides) if not sure(m, 1) and t)), size


def plan_class(device: str):
    """What makes a plan for a device from its steps."""
    if device == "cpu":
        return Plan
    from ..loops.device_plan import DevicePlan

    return partial(DevicePlan, device)


def group(nodes: list[Node], live: list[bool], device: str = "cpu") -> Fusion:
    """The recording as groups that are one kernel each; with chains, where what lies between groups is large."""
    fuse = config.fuse
    gpu = device != "cpu"
    fusion = Fusion(nodes, live, fuse, (), gpu).run()
    chains = chain.find(fusion, device) if fuse else []
    if chains:
        fusion = Fusion(nodes, live, fuse, chains, gpu).run()
    leave_out(fusion)
    return fusion


def compile_parts(calls: list, device: str = "cpu") -> None:
    """Give each part of the calls the kernel of its program."""
    parts = [part for call in calls for part in call.parts()]
    if config.verify:
        from ..loops import ir

        for part in parts:
            ir.verify(part.program)
    if device != "cpu":
        from ..targets import ptx

        for part, kernel in zip(parts, ptx.build_all([part.program for part in parts])):
            part.kernel = kernel
    elif config.target != "interp":
        from ..targets.kernel import build_all

        words = [part.words() if part is call else None for call in calls for part in call.parts()]     # those of a chain are called often
        for part, kernel in zip(parts, build_all([part.program for part in parts], words)):
            part.kernel = kernel
            part.program = kernel.program    # equal programs share one object


def taken_over(fusion: Fusion, alias: dict[int, int], dying: dict[int, int]) -> dict[int, int]:
    """leaf -> the scatter that writes into its memory: nobody can ask for the leaf any more (`dying`: id -> number), nothing reads it
    later, and nothing can fail from there on."""
    found: dict[int, int] = {}
    for at, g in enumerate(fusion.groups):
        base = fusion.nodes[g.root].inputs[0] if g.kind == "scatter" else None
        k = dying.get(id(base))
        if k is None or k in found:
            continue
        n, last = fusion.nodes[g.root], g.root
        while last in alias:
            last = alias[last]
        if n.dtype is not base.dtype or n.numel != base.numel or not fusion.live[last]:
            continue
        later = _nodes_of(fusion, at)
        if not any(map(_may_fail, later)) and not any(s is base for m in later for s in (m.inputs[1:] if m is n else m.inputs)):
            found[k] = g.root
    return found


def _may_fail(n: Node) -> bool:
    return n.op.family == "extern" or bool(n.static.picks)


def _nodes_of(fusion: Fusion, first: int) -> list[Node]:
    """What the groups from one on compute, and what they compute again."""
    known = len(fusion.recorded)
    stack = [i for g in fusion.groups[first:] for i in (*g.members, *(g.chain.again if g.chain else ()))]
    found: dict[int, Node] = {}
    while stack:
        i = stack.pop()
        if i not in found:
            found[i] = n = fusion.recorded[i] if i < known else fusion.nodes[i]
            stack += [s.index for s in n.inputs if type(s) is Node and s.buffer is None and not fusion.stored[s.index]]
    return list(found.values())


def extern(fusion: Fusion, g, buffer_of, number_at) -> Extern:
    n = fusion.nodes[g.root]
    inputs = []
    for j, (s, v) in enumerate(zip(n.inputs, n.views)):
        if type(s) is Node:
            inputs.append((buffer_of(s) if s.numel else None, v, s.dtype, None))
        else:
            inputs.append((None, None, None, number_at[n.index, j]))
    positions = {fusion.nodes[i].static.position: fusion.nodes[i] for i in g.members if i != g.root}
    outputs = []
    for p in range(max(positions, default=-1) + 1):
        out = positions.get(p)
        outputs.append((buffer_of(out), out.numel, out.dtype) if out is not None and out.numel else (None, 0, None))
    return Extern(n.op.host, dict(n.static.params), inputs, outputs, g, n.op.name)


def nbytes(nodes: list[Node], leaves: list[Node], parts: list[int], buffer) -> int:
    """Of a buffer."""
    kind, i = buffer
    if kind == "part":
        return parts[i]
    n = leaves[i] if kind == "leaf" else nodes[i]
    return n.numel * n.dtype.itemsize


def lifetimes(steps: list, results: dict, size_of: Callable) -> dict:
    """What lies in the arena: buffer -> (first step, last step, bytes)."""
    found: dict = {}
    for k, step in enumerate(steps):
        for b in (*step.writes, *step.reads):
            kind, i = b
            if kind == "leaf" or kind == "node" and i in results:
                continue
            known = found.get(b)
            found[b] = (k if known is None else known[0], k, size_of(b))
    return found


def donations(nodes: list[Node], leaves: list[Node], dying: list[int], steps: list, results: dict, found: dict[int, int]) -> dict[int, int]:
    """result -> the dying leaf whose memory it takes over, beside those `found` already: the last step that reads the leaf writes the
    result, at the same places. Only after the last step that can fail, so that an error leaves everything as it was."""
    if not dying:
        return found
    readers: dict = {}      # leaf -> the last step that reads it
    writers: dict = {}      # buffer -> the first step that writes to it
    for k, step in enumerate(steps):
        readers.update(dict.fromkeys([b for b in step.reads if b[0] == "leaf"], k))
        for b in step.writes:
            writers.setdefault(b, k)
    safe = max((k for k, s in enumerate(steps) if s.fails), default=-1)
    for k in dying:
        step = readers.get(("leaf", k), -1)
        if step <= safe or isinstance(steps[step], Extern):
            continue
        call = steps[step]
        at = call.read_at.get(("leaf", k))
        if at is None:
            continue
        for b, (v, order) in call.written_at.items():
            i = b[1]
            if b[0] == "node" and i in results and i not in found and v is at[0] and at[1] <= order and nodes[i].numel == leaves[k].numel \
                    and nodes[i].dtype.itemsize == leaves[k].dtype.itemsize and writers[b] == step:
                found[i] = k
                break
    return found
