"""Step after step through tensors, or part after part: a recurrence, recorded as one node (graph/recurrence.py) where it can be."""

from __future__ import annotations

from collections.abc import Callable

from ..base import config
from ..graph import tape
from ..graph.node import Node, dense, leaf, view
from ..graph.recurrence import Steps, parts_of, rows_of
from ..graph.tape import state
from ..loops.body import OUTSIDE
from ..loops.view import reach
from .extern import run
from .joining import stack
from .recall import Onlooker
from .record import Record, core, meta
from .view import viewed

RECURRENCE = Record("recurrence", "recurrence")
PARTS = Record("parts", "recurrence")
WORK = 1 << 26      # multiplications of one step from on which threads had better share it: it is then recorded by itself
KEPT = 1024         # kinds of steps
_steps: dict[tuple, Steps] = {}


def recur(step: Callable, each: list, start: list, every: list, back: bool = False) -> tuple[list, list]:
    """Carry out `step` once for each time; from the last to the first if `back`.

    `step(parts, states, every)` is given a list of the parts of `each` (T, ...) at a time, of the states, at first `start`, and of tensors
    that are the same at every time; it gives the new states and a list of what else is to be kept. It makes new tensors of these with
    operators, and does with each row, the first dimension of parts and states, what it does with the others.

    Gives (of each state a tensor of all times, with the one to begin with at the beginning, or at the end if `back`; what was kept, one
    tensor of all times each).
    """
    times = each[0].shape[0]
    if times < 2 or not _alike(each, start, every):
        return _one_by_one(step, each, start, every, back)
    each, start = ([t.contiguous() for t in tensors] for tensors in (each, start))
    steps = _known(step, each, start, every, back, parts_of(start[0]._meta.view.shape[0]))
    found = _recorded(RECURRENCE, steps, each, start, every)
    return found[:steps.states], found[steps.states:]


def by_parts(step: Callable, each: list, every: list, parts: int, results: list = ()) -> list:
    """What `step(parts, (), every)` keeps of each of so many parts, whole.

    `each`: row-major tensors, or pairs of one and the `Part` that says what its parts are, which may overlap; by default they are rows.
    `results`: likewise, shapes and `Part`s. Threads compute one part at a time, and no more of what is between is in memory than theirs. As
    above, the step makes new tensors, and does with each part what it does with the others.
    """
    each, divided = zip(*[t if type(t) is tuple else (t, rows_of(t._meta.view.shape, parts)) for t in each])
    if config.eager:
        return _part_by_part(step, each, divided, every, parts, results)
    each = [viewed(t, dense((1, *t._meta.view.shape))) for t in each]
    steps = _known(step, each, [], every, False, parts, divided, tuple(results))
    return [core.reread(t, t._meta.view.shape[1:]) for t in _recorded(PARTS, steps, each, [], every)]


def _part_by_part(step: Callable, each: tuple, divided: tuple, every: list, parts: int, results: list) -> list:
    found: list = []
    for p in range(parts):
        kept = step([viewed(t, part.number(p)) for t, part in zip(each, divided)], (), every)[1]
        results = results or [(shape := (parts * t.shape[0], *t.shape[1:]), rows_of(shape, parts)) for t in kept]
        found = found or [core.zeros(meta(dense(shape), t._meta.dtype, t._meta.device)) for t, (shape, _) in zip(kept, results)]
        found = [core.overwrite_region(whole, part.number(p), t) for whole, t, (_, part) in zip(found, kept, results)]
    return found


def _recorded(op: Record, steps: Steps, each: list, start: list, every: list) -> list:
    """The results of all steps."""
    times = each[0]._meta.view.shape[0]
    results = [((times + (k < steps.states), *shape), n.form.dtype) for k, (n, shape) in enumerate(zip(steps.outputs, steps.shapes))]
    return list(run(op, (*each, *start, *every), results, steps=steps))


def _alike(each: list, start: list, every: list) -> bool:
    """Whether the steps can be recorded as one node: their derivative is not asked for, nor their rewriting for the lanes of a batch, they
    are on the CPU, and of a size at which one thread had better compute one after the other."""
    tensors = [*each, *start, *every]
    if state.rewriter is not None or config.eager or state.urgent or core.is_grad_enabled() and any([t._rg for t in tensors]):
        return False
    if not all([t._meta.view.numel and t.device.type == "cpu" for t in tensors]):
        return False
    rows = start[0]._meta.view.shape[0]
    return rows // parts_of(rows) * sum([t._meta.view.numel for t in every]) < WORK


def _one_by_one(step: Callable, each: list, start: list, every: list, back: bool) -> tuple[list, list]:
    states, all_states, all_kept = start, [start], []
    times = range(each[0].shape[0])
    for t in reversed(times) if back else times:
        states, kept = step([x[t] for x in each], states, every)
        all_states.append(states)
        all_kept.append(kept)
    if back:
        all_states.reverse()
        all_kept.reverse()
    return [stack(list(tensors), 0) for tensors in zip(*all_states)], [stack(list(tensors), 0) for tensors in zip(*all_kept)]


def _known(step: Callable, each: list, start: list, every: list, back: bool, parts: int, divided: tuple = (), results: tuple = ()) -> Steps:
    """The graph of a step for tensors of these layouts."""
    of_each = tuple([(t._meta.dtype, t._meta.view.shape[1:]) for t in each])
    of_start = tuple([(t._meta.dtype, t._meta.view.shape) for t in start])
    of_all = tuple([(t._meta.dtype, t._meta.view.shape, t._meta.view.strides) for t in every])
    key = step, back, parts, divided, results, of_each, of_start, of_all
    found = _steps.get(key)
    if found is None:
        if len(_steps) >= KEPT:
            _steps.clear()
        found = _steps[key] = _observed(step, each, start, every, back, parts, divided, results)
    return found


def _observed(step: Callable, each: list, start: list, every: list, back: bool, parts: int, divided: tuple, results: tuple) -> Steps:
    """What a step records, taken out of the recording."""
    def placeholder(t, v):
        return core.wrap(leaf(OUTSIDE, reach(v), t._meta.dtype), meta(v, t._meta.dtype, t._meta.device))

    def rows(shape: tuple):
        return dense((shape[0] // parts, *shape[1:]))

    of_each = [part.view for part in divided] or [rows(t._meta.view.shape[1:]) for t in each]
    given = ([placeholder(t, v) for t, v in zip(each, of_each)], [placeholder(t, rows(t._meta.view.shape)) for t in start],
             [placeholder(t, view(t._meta.view.shape, t._meta.view.strides)) for t in every])
    inputs = [t.storage.node for tensors in given for t in tensors]
    with tape.computing:
        watch, state.watch, urgent, state.urgent = state.watch, Onlooker(), state.urgent, False
        try:
            states, kept = step(*given)
            made = [_whole(t, inputs) for t in (*states, *kept)]
        finally:
            state.watch, state.urgent = watch, urgent
        outputs = [t.storage.node for t in made]
        needed = set(outputs)
        for n in reversed(tape.nodes):
            if n in needed:
                needed.update([s for s in n.inputs if type(s) is Node])
        needed.difference_update(inputs)
        nodes = [n for n in tape.nodes if n in needed]
        own = {*inputs, *needed}        # and what the step has made for nothing
        for n in tape.nodes:
            if not own.isdisjoint([s for s in n.inputs if type(s) is Node]):
                own.add(n)
        tape.nodes[:] = [n for n in tape.nodes if n not in own]
    assert len({*outputs}) == len(made), "a recurrence: expected each result of a step once"
    for k, n in enumerate(nodes):
        n.index = k
    shapes = [t._meta.view.shape for t in made]
    wholes = tuple([(parts * shape[0], *shape[1:]) for shape in shapes])
    if divided:
        divided += tuple([part for _, part in results] or [rows_of(shape, parts) for shape in wholes])
        wholes = tuple([shape for shape, _ in results]) or wholes
    return Steps(nodes, inputs, outputs, wholes, shapes[0][0], len(each), len(start), parts, back, divided)


def _whole(t, inputs: list[Node]):
    """A tensor that is all of a value made in the step."""
    t = t.contiguous()
    node = t.storage.node
    return t.clone() if node in inputs or node.form.numel != t._meta.view.numel else t
