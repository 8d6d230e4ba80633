"""A recorded step: when it may be replayed, and how.

What a function did is a piece of the tensor graph between storages: it reads the storages of tensors it can reach, numbers, and drawn
random words, and leaves new values in storages, new `.grad`s and the tensors it returns. To replay is to compare the state it depends
on (`state.Reach`), to draw the words anew, and to run the plan of the graph with the addresses of now. If something is still pending,
or if somebody else refers to memory that the plan would write over, the graph is recorded again node by node instead.
"""

from __future__ import annotations

import re
from operator import is_
from sys import getrefcount

import numpy as np

from ..base import dtype as dt
from ..core import autograd
from ..core.storage import Storage
from ..core.tensor import Tensor
from ..graph import flush, tape
from ..graph.node import Node, leaf, leaf_form
from ..graph.piece import Piece
from ..ops.record import core
from ..ops.rewriting import Untold
from ..runtime.buffer import Buffer
from . import MISS
from .backward import History, differentiable
from .code import Unprovable, written
from .fast import Steady
from .observe import Profile, Watch
from .state import ATOMS, TENSOR_STATE, Reach, difference, same
from .witness import works

CHANCES, ENOUGH = 30, 100       # how often a quicker way is looked for; after so many replays it was worth it
_new = object.__new__


def record(function, args: tuple, kwargs: dict, before: Profile | None):
    """(the result of the call, the profile of it, a `Recording` or the reason why there is none)."""
    if before is None:
        with Profile() as profile:
            result = function(*args, **kwargs)
        return result, profile, "it has run once; which code it runs is known now"
    try:
        if before.impure:
            raise Unprovable(before.impure)
        reach = Reach(before, function, args, kwargs)
    except Unprovable as e:
        with Profile() as profile:
            result = function(*args, **kwargs)
        return result, profile, str(e)
    tape.flush()
    first = {id(s.storage): s for s in reversed(reach.slots)}
    for s in first.values():
        s.begin()
    for s in reach.slots:
        s.node, s.version = first[id(s.storage)].node, first[id(s.storage)].version
    del first
    count = autograd._count()
    watch = tape.state.watch = Watch()
    try:
        with Profile() as profile:
            result = function(*args, **kwargs)
    finally:
        tape.state.watch = None
    try:
        if profile.impure or watch.refused:
            raise Unprovable(profile.impure or watch.refused)
        if not profile.within(before):
            raise Unprovable("it ran code that it had not run before")
        with tape.computing:    # a node that another thread computes is no longer what was recorded
            return result, profile, Recording(reach, watch, args, kwargs, result, count)
    except Unprovable as e:
        return result, profile, str(e)


class Recording:
    """One way through a function. `replay(args, kwargs)` gives the result, or MISS where the recording does not apply."""

    def __init__(self, reach: Reach, watch: Watch, args: tuple, kwargs: dict, result, count: int):
        self.reach, self.watch = reach, watch
        self.history: History | None = None     # of a result that is differentiated outside
        self.plan, self.attempts = None, 0
        self.steady: Steady | None = None
        self.loose: set = set()                 # what no witness is used for
        self.chances = CHANCES if works() else 0
        self.nodes = list(tape.nodes)
        self.backwards = tape.state.backwards
        self._exempt(args, kwargs)
        self._sources()
        self._graph()
        self._effects(result, count)
        self._comparison()
        self.piece.close(len(self.leaves), len(self.numbers))
        self.nodes = self.number_of = self.leaf_at = self.made = self.kept = None
        for s in reach.slots:
            s.release()
        for d in self.draws:
            d.result = None
        reach.seen = reach.made = reach.profile = reach.slot_of = watch.made_leaves = None

    # -- what is compared ---------------------------------------------------------------------------------------

    def _exempt(self, args: tuple, kwargs: dict) -> None:
        """Counts of steps and learning rates may change; nothing else may have."""
        reach, watch = self.reach, self.watch
        if len({id(s) for s, _ in watch.counters}) != len(watch.counters):
            raise Unprovable("an optimiser counts more than one step")
        free: dict = {}
        names = {n for code in reach.profile.user for n in code.co_names}
        if names.isdisjoint({"state", "state_dict", "load_state_dict"}):
            for d, _ in watch.counters:
                free.setdefault(id(d), set()).add("step")
        if names.isdisjoint({"param_groups", "state_dict", "load_state_dict"}) \
                and not any("lr_scheduler" in code.co_filename for code in reach.profile.own):
            for d, key in watch.options:
                free.setdefault(id(d), set()).add(key)
        changed = reach.unchanged(args, kwargs, free)
        if changed is not None:
            raise Unprovable(f"it changes {changed}")
        reach.excuse(free)
        for p in reach.places:
            keys = free.pop(id(p.container), None)
            if keys is None:
                continue
            d, name, before = p.container, p.code[1:].partition(".")[0], p.values[:-1]
            if len(before) != len(d) or any(v is not d[k] and k not in keys for k, v in zip(d, before)):
                raise Unprovable(f"it changes {p.where}")
            items = [f"type({name}[{k!r}])" if k in keys else f"{name}[{k!r}]" for k in d]
            p.code = f"{', '.join(items)}, len({name})"
            p.values = [*[type(v) if k in keys else v for k, v in d.items()], len(d)]
            p.behind = ()       # it changes with each step
        if free:
            raise Unprovable("an optimiser that it cannot reach makes a step")

    def _sources(self) -> None:
        """Where the values come from: storages (by the first slot that has each), constants, draws."""
        self.storages: list = []        # numbers of slots
        self.leaf_at = {}         # id of a leaf -> ("storage", number) | ("constant", number) | ("draw", number)
        known: dict[int, int] = {}
        for k, s in enumerate(self.reach.slots):
            if id(s.storage) in known:
                continue
            known[id(s.storage)] = len(self.storages)
            if id(s.node) in self.leaf_at:
                self.leaf_at[id(s.node)] = None     # two storages with one value, for now
            else:
                self.leaf_at[id(s.node)] = ("storage", len(self.storages))
            self.storages.append(k)
        self.storage_number = known
        self.constants: list[Node] = []
        self.draws = self.watch.draws_made
        for k, d in enumerate(self.draws):
            if type(d.result) is Node:
                self.leaf_at[id(d.result)] = ("draw", k)
        for node in self.watch.made_leaves:
            k = next((k for k, d in enumerate(self.draws) if d.is_leaf(node)), None)
            if k is not None:
                self.leaf_at[id(node)] = ("draw", k)
            else:
                self.leaf_at[id(node)] = ("constant", len(self.constants))
                self.constants.append(node)
        found = {where[1] for where in self.leaf_at.values() if where and where[0] == "draw"}
        if len(found) != len(self.draws):
            raise Unprovable("numbers that it draws are changed before they become a tensor")

    def _place(self, node: Node):
        """Where a value is from: ("storage" | "constant" | "draw" | "node", number)."""
        k = self.number_of.get(id(node))
        if k is not None:
            return "node", k
        where = self.leaf_at.get(id(node), MISS)
        if where is None:
            raise Unprovable("two tensors that it reads have one value between them (one is a clone of the other)")
        if where is MISS:
            raise Unprovable("it reads a tensor that cannot be found again")
        return where

    def _graph(self) -> None:
        """The recorded nodes, as templates."""
        self.number_of = {id(n): k for k, n in enumerate(self.nodes)}
        self.leaves: list = []      # in the order of the plan
        self.numbers: list[str] = []
        inputs, seen = [], {}
        for n in self.nodes:
            if type(n) is not Node:
                raise Unprovable("another thread records meanwhile")
            if n.buffer is not None:
                raise Unprovable("its recording was computed in the middle")
            reads = []
            for s in n.inputs:
                if type(s) is not Node:
                    name = getattr(s, "name", None)
                    reads.append(("number", len(self.numbers)))
                    self.numbers.append(name if name is not None else self.reach.constant(s))
                    continue
                where = self._place(s)
                if where[0] != "node" and where not in seen:
                    seen[where] = len(self.leaves)
                    self.leaves.append(where)
                reads.append(where if where[0] == "node" else ("leaf", seen[where]))
            inputs.append(tuple(reads))
        self.piece = Piece(self.nodes, inputs)
        self.leaf_number = seen

    # -- what it leaves behind ----------------------------------------------------------------------------------

    def _effects(self, result, count: int) -> None:
        """The lines that put the new values where they belong; `value[k]` are the nodes that they need. Derivatives recorded since the
        `count`-th are the function's."""
        self.values: list = []          # what of the graph is needed: ("node" | "leaf", number)
        self.made = {}                  # id of a fresh tensor or storage -> its variable
        self.kept = []
        self.updates: dict[int, int] = {}       # slot -> number of the value that its storage gets
        self.bumps: dict[int, int] = {}         # slot -> how many writes its storage counts
        self.gradients: dict[int, str] = {}     # slot -> what becomes its gradient
        self.plain: dict[str, tuple] = {}       # tensor that is made -> (its storage, number of the value, meta, version)
        slots = self.reach.slots
        for k in self.storages:
            s = slots[k]
            if s.tensor.storage is not s.storage or type(s.storage) is not Storage:
                raise Unprovable(f"it gives {s.where} another memory")
            if s.storage.node is not s.node:
                self.updates[k] = int(self._value(s.storage.node)[1:])
            if s.storage.version != s.version:
                self.bumps[k] = s.storage.version - s.version
        self.early: list[tuple[str, str]] = []      # tensors that are made: (name, line)
        self.roots: dict = {}           # places of the histories of results -> their variables
        for k, s in enumerate(slots):
            if s.tensor.storage is not s.storage or type(s.tensor) is not s.type:
                raise Unprovable(f"it gives {s.where} another memory")
            if s.is_grad and (s.tensor._grad_fn is not None or s.tensor._rg):
                raise Unprovable("it differentiates gradients")
            if s.history != (s.tensor._rg, s.tensor._grad_fn, s.tensor._nr):
                raise Unprovable(f"it gives {s.where} another history")
            after = s.tensor._grad
            if after is not s.grad:
                self.gradients[k] = "None" if after is None else self._tensor(after)
        self.expression = self._result(result)
        history = self._open(count) if self.roots else []
        self.lines = [*[line for _, line in self.early], *[f"s{k}.node = n{i}" for k, i in self.updates.items()],
                      *[f"s{k}.version += {count}" for k, count in self.bumps.items()],
                      *[f"t{k}._grad = {name}" for k, name in self.gradients.items()], *history, f"return {self.expression}"]

    def _value(self, node: Node) -> str:
        where = self._place(node)
        if where[0] != "node":
            if where not in self.leaf_number:
                self.leaf_number[where] = len(self.leaves)
                self.leaves.append(where)
            where = ("leaf", self.leaf_number[where])
        if where not in self.values:
            self.values.append(where)
        return f"n{self.values.index(where)}"

    def _tensor(self, t) -> str:
        """The expression of a tensor that the function made, or had."""
        known = self.reach.slot_of.get(id(t))
        if known is not None:
            return f"t{known}"
        name = self.made.get(id(t))
        if name is not None:
            return name
        if type(t) is not Tensor or t.__dict__.keys() - TENSOR_STATE or t._hooks or t._post_hooks or t._grad is not None:
            raise Unprovable(f"a {type(t).__name__} that it makes is not a plain tensor")
        if type(t.storage) is not Storage:
            raise Unprovable("a tensor that it makes lies in memory that NumPy shares")
        at = self.storage_number.get(id(t.storage))
        storage = f"s{self.storages[at]}" if at is not None else self._storage(t.storage)
        base = None
        if t._base is not None:
            shared = [f"t{k}._base" for k, s in enumerate(self.reach.slots) if s.tensor._base is t._base]
            base = shared[0] if shared else self._tensor(t._base)
        name = self.made[id(t)] = f"x{len(self.made)}"
        self.kept.append(t)
        m = self.reach.constant(t._meta)
        early = [f"{name} = tensor_on({storage}, {m})" if base is None else f"{name} = view_of({base}, {m})"]
        if t._untracked:
            early.append(f"{name}._untracked = True")
        if t._grad_fn is not None and not self.backwards:
            self.roots.setdefault((t._grad_fn, t._nr), []).append(name)
        elif t._grad_fn is not None:
            self._finished(t._grad_fn)
            root = self.reach.constant(t._grad_fn)
            early.append(f"{name}._rg, {name}._grad_fn, {name}._nr = True, finished({root}), {t._nr}")
        elif t._rg:
            early.append(f"{name}._rg = True")
        self.early += [(name, line) for line in early]
        if len(early) == 1 and base is None and at is None and t._grad_fn is None:
            self.plain[name] = storage, int(self._value(t.storage.node)[1:]), t._meta, t.storage.version
        return name

    def _storage(self, storage) -> str:
        name = self.made.get(id(storage))
        if name is None:
            name = self.made[id(storage)] = f"y{len(self.made)}"
            self.kept.append(storage)
            self.early.append((name, f"{name} = Storage.of({self._value(storage.node)})"))
            if storage.version:
                self.early.append((name, f"{name}.version = {storage.version}"))
        return name

    def _open(self, count: int) -> list[str]:
        """The lines that give the results a history."""
        slots = self.reach.slots
        inputs: dict = {}
        for k, s in enumerate(slots):
            if s.tensor._rg:
                inputs.setdefault(autograd.place_of(autograd.edge_of(s.tensor)), k)
        try:
            history = self.history = History(list(self.roots), inputs, self.reach.slot_of, count)
        except Untold as reason:
            raise Unprovable(str(reason)) from None
        order, storages, private = [], [], []
        for s in history.storages:
            at = self.storage_number.get(id(s))
            name = self.made.get(id(s)) if at is None else f"s{self.storages[at]}"
            (private if name is None else storages).append(self._value(s.node) if name is None else name)
            order.append((name is None, len(private if name is None else storages) - 1))
        first = self.storage_number
        homes = [f"s{self.storages[first[id(slots[k].storage)]]}" for k in history.tensors]
        lists = [[f"edge_of(t{inputs[place]})" for place in history.reached], [f"t{k}" for k in history.tensors], homes, storages, private]
        lines = [f"h = differentiable({self.reach.constant(history)}, {', '.join(f'({x})' for x in map(_listed, lists))})"]
        for nr, names in enumerate(self.roots.values()):
            lines += [f"{name}._rg, {name}._grad_fn, {name}._nr = True, h, {nr}" for name in names]
        history.close([k + len(storages) * hidden for hidden, k in order])
        return lines

    def _finished(self, root) -> None:
        """A history is repeated where it has been run through backwards: it keeps no values any more."""
        stack, seen = [root], set()
        ours = {id(s.tensor) for s in self.reach.slots if s.expression in self.reach.space}
        while stack:
            node = stack.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, Tensor):
                if id(node) not in ours:
                    raise Unprovable("its result is to be differentiated further, with respect to a tensor that is another at each call")
                continue
            if node.record is None or node.extras is not None or node.versions and node.kept is not autograd.RELEASED:
                raise Unprovable("a result is to be differentiated outside, and there is a backward pass inside")
            stack.extend([autograd.place_of(e)[0] for e in node.edges if e is not None])

    def _result(self, x) -> str:
        t = type(x)
        if isinstance(x, Tensor):
            return self._tensor(x)
        if t in ATOMS:
            return self.reach.constant(x)
        if id(x) in self.reach.seen:
            raise Unprovable("it returns an object that existed before")
        if id(x) in self.made:
            raise Unprovable("it returns one list or dict twice")
        self.made[id(x)] = "a container"
        self.kept.append(x)
        if t is tuple:
            return f"({''.join(self._result(v) + ', ' for v in x)})"
        if t is list:
            return f"[{', '.join(map(self._result, x))}]"
        if t is dict:
            if not all(type(k) in ATOMS for k in x):
                raise Unprovable("it returns a dict with keys that are no strings or numbers")
            return f"{{{', '.join(f'{self.reach.constant(k)}: {self._result(v)}' for k, v in x.items())}}}"
        if issubclass(t, tuple) and hasattr(t, "_fields") and "__new__" not in vars(t).get("__annotations__", ()):
            return f"tuple.__new__({self.reach.constant(t)}, ({''.join(self._result(v) + ', ' for v in x)}))"
        raise Unprovable(f"it returns a {t.__name__}")

    # -- replaying ----------------------------------------------------------------------------------------------

    def _comparison(self) -> None:
        """Two functions in Python, written for this recording: `read` the state, and `put` the new values in their places."""
        reach, watch = self.reach, self.watch
        self.places = [*reach.places, *reach.grads]
        self.then = [v for p in self.places for v in p.values]
        space = reach.space
        lines = [f"t{k} = {s.expression}" for k, s in enumerate(reach.slots)]
        for k, (_, tag, _) in enumerate(reach.tags):
            space[f"g{k}"] = tag
        tags = " or ".join(f"g{k}.value != {v}" for k, (_, _, v) in enumerate(reach.tags))
        lines += [f"if {tags}:", "    return None",
                  f"now = [{', '.join(p.code for p in self.places)}]",
                  "if not (len(now) == len(then) and all(map(is_, now, then)) or same(now, then)):", "    return None"]
        for k, d in enumerate(watch.states):
            space[f"S{k}"] = d
        lines += self.formula_lines("None")
        tensors = "".join(f"t{k}, " for k in range(len(reach.slots)))
        storages = "".join(f"t{k}.storage, " for k in self.storages)
        steps = "".join(f"{name}, " for _, name in watch.counters)
        lines.append(f"return ({tensors}), ({storages}), [{', '.join(self.numbers)}], ({steps})")
        names = {id(d): k for k, d in enumerate(watch.states)}
        self.step_lines = [f"S{names[id(d)]}['step'] = {name}" for d, name in watch.counters]
        put = [*[f"S{names[id(d)]}['step'] = steps[{i}]" for i, (d, _) in enumerate(watch.counters)], *self.lines]
        unpack = [f"({tensors}) = tensors"] if tensors else []
        unpack += [f"({''.join(f's{k}, ' for k in self.storages)}) = storages"] if storages else []
        unpack += [f"({''.join(f'n{k}, ' for k in range(len(self.values)))}) = values"] if self.values else []
        space.update(then=self.then, is_=is_, same=same, Storage=Storage, tensor_on=core.tensor_on, view_of=core.view_of,
                     finished=_finished_copy, differentiable=differentiable, edge_of=autograd.edge_of)
        self.read = written("read", "args, kwargs", lines, space)
        self.put = written("put", "tensors, storages, values, steps", unpack + put, space)
        self.results = [k for kind, k in self.values if kind == "node"]
        known = {number: reach.slots[k].storage for number, k in enumerate(self.storages)}
        self.forms = [leaf_form(known[k].numel, known[k].dtype) if kind == "storage" else None for kind, k in self.leaves]

    def formula_lines(self, failed: str) -> list[str]:
        """The lines that compute the numbers that change, and return `failed` where a comparison of them comes out differently."""
        watch, lines, at = self.watch, [], 0
        for count, text in watch.demands:
            lines += [*watch.formulas[at:count], f"if not ({text}):", f"    return {failed}"]
            at = count
        return lines + (watch.formulas[at:] if watch.demands else shared(watch.formulas))

    def why_not(self, args: tuple, kwargs: dict) -> str:
        """What is different now."""
        try:
            _, now = self.reach.reader(self.places, True)(args, kwargs)
        except Exception:
            return "the structure of the arguments"
        if same(now, self.then):
            return "a class, or the count of steps"
        return difference(now, self.then, self.places)

    def replay(self, args: tuple, kwargs: dict):
        with tape.computing:        # one thread at a time gives a plan its arguments
            steady = self.steady
            if steady is not None:
                result = steady.run(args, kwargs)
                if result is not MISS:
                    return result
                self._unsettle(steady)
            return self._compared(args, kwargs)

    def _compared(self, args: tuple, kwargs: dict):
        """As `replay`, where all has to be compared."""
        draft = self._draft() if self.chances and self.plan is not None else None
        try:
            found = self.read(args, kwargs)
        except Exception:       # a place is not there any more
            return MISS
        if found is None:
            return MISS
        if draft is not None:
            found = None        # references count
            result = self._settle(draft, args, kwargs)
            if result is not MISS:
                return result
            found = self.read(args, kwargs)
            if found is None:
                return MISS
        tensors, storages, numbers, steps = found
        learns = self.plan is None and self.attempts < 4 and self.history is None
        if tape.nodes and (learns or self.backwards):
            tape.flush()    # a whole step is worth a plan of its own
        constants = self.constants
        leaves = [storages[k].node if kind == "storage" else constants[k] if kind == "constant" else k for kind, k in self.leaves]
        for n, form in zip(leaves, self.forms):
            if form is not None and n.form is not form and (n.form.numel, n.form.dtype) != (form.numel, form.dtype):
                return MISS     # the tensor is a view of a larger storage than it was
        n = None
        if self.draws:
            drawn = [self.draw(d) for d in self.draws]
            leaves = [drawn[n] if type(n) is int else n for n in leaves]
            drawn = None
        values = self._run(leaves, numbers) if self.plan is not None else None
        if values is None:
            values = self._record(leaves, numbers)
            fresh = learns and len(tape.nodes) == len(self.piece)
            result = self.put(tensors, storages, values, steps)
            del leaves, values, found, storages, tensors
            if fresh:
                self._learn_plan()
            else:
                tape.settle()
            return result
        return self.put(tensors, storages, values, steps)

    # -- replaying at once --------------------------------------------------------------------------------------

    def _draft(self) -> Steady | None:
        """The beginning of a quicker way, for the state as it is now."""
        self.chances -= 1
        if not self.plan.native:
            self.chances = 0
            return None
        try:
            return Steady(self, self.loose)
        except Unprovable:
            return None

    def _settle(self, draft: Steady, args: tuple, kwargs: dict):
        """Go that way, now that all has been compared; MISS where there is none."""
        try:
            result = draft.write()(args, kwargs)
        except Unprovable:
            self.chances = 0
            return MISS
        if result is not MISS:
            self.steady = draft
        return result

    def _unsettle(self, steady: Steady) -> None:
        """Learn why a replay was not that quick: what has changed is compared from now on. (Or other arguments were given.)"""
        changed = steady.witness.changed()
        if changed or steady.plan.bound is not steady:
            self.loose.update(changed)
            self.chances += steady.runs > ENOUGH
            self.steady = None

    @staticmethod
    def draw(d) -> Node:
        result = getattr(d.generator, d.method)(*d.args)
        if type(result) is Node:
            return result
        array = np.ascontiguousarray(result)
        buffer = Buffer.from_array(array)
        buffer.exported = False
        return leaf(buffer, array.size, dt.of(array.dtype))

    def _record(self, leaves: list, numbers: list) -> list:
        """Record the graph anew."""
        if self.backwards:
            tape.begin_backward()
        table, first = self.piece.record(leaves, numbers), self.piece.first
        return [table[first + k] if kind == "node" else leaves[k] for kind, k in self.values]

    def _learn_plan(self) -> None:
        """Compute what was recorded, and keep its plan for the next time."""
        tape.flush()
        plan = flush.last()
        self.attempts += 1
        if plan is not None and sorted(i for i, _ in plan.results) == sorted(self.results) and plan.leaves <= len(self.leaves) \
                and len(plan.number_at) == len(self.numbers):
            self.plan = plan
            self.given = sorted(set(plan.donated.values()))

    def _run(self, leaves: list, numbers: list) -> list | None:
        """Run the plan; None where it cannot be, for what is pending or would be overwritten and belongs to others, too."""
        if None in [n.buffer for n in leaves]:
            return None
        for k in self.given:    # referred to by its storage, by `leaves`, and as an argument; the buffer by its node
            others = 3 if self.leaves[k][0] == "storage" else 2
            if getrefcount(leaves[k]) != others or getrefcount(leaves[k].buffer) != 2 or leaves[k].buffer.exported:
                return None
        nodes = self.piece.blank.copy()
        for k in self.results:
            n = nodes[k] = Node()
            (n.form, n.where), n.buffer, n.inputs = self.piece.forms[k], None, ()
        flush.run_again(self.plan, nodes, leaves[:self.plan.leaves], numbers)
        return [nodes[k] if kind == "node" else leaves[k] for kind, k in self.values]


def shared(formulas: list[str]) -> list[str]:
    """The formulas, where those of each further count of steps take over the results of the first if the counts are equal."""
    starts = [k for k, line in enumerate(formulas) if re.fullmatch(r"v\d+ = S\d+\['step'\] \+ 1\.0", line)]
    if len(starts) < 2:
        return formulas

    def relative(block: list[str], first: int) -> list[str]:
        return [re.sub(r"\bv(\d+)", lambda m: m[0] if int(m[1]) < starts[0] else f"w{int(m[1]) - first}", line) for line in block[1:]]

    model = formulas[starts[0]:starts[1]]
    lines = formulas[:starts[1]]
    for first, end in zip(starts[1:], [*starts[2:], len(formulas)]):
        block = formulas[first:end]
        if len(block) < 4 or relative(block, first) != relative(model, starts[0]):
            lines += block
            continue
        names = [line.split(" ", 1)[0] for line in block[1:]]
        lines += [block[0], f"if v{first} == v{starts[0]}:",
                  f"    {', '.join(names)} = {', '.join(line.split(' ', 1)[0] for line in model[1:])}",
                  "else:", *["    " + line for line in block[1:]]]
    return lines


def _listed(names: list[str]) -> str:
    return "".join(f"{n}, " for n in names)


def _finished_copy(root):
    """The history's last node, whose hooks are its own."""
    node = _new(type(root))
    node.seq, node.edges, node.outputs, node.derivative = root.seq, root.edges, root.outputs, root.derivative
    node.kept, node.versions, node.extras = root.kept, root.versions, None
    return node


