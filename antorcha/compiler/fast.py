"""Replaying a step again at once: when nothing but the inputs' values has changed since the last replay.

A step of training reads and writes the same parameters, moments and gradients each time. `Steady` is a function written for that state of
affairs: it looks at a `Witness` of all that was compared, compares what that cannot see (arguments, variables of the user), puts the
addresses of the new inputs and results and the numbers that change into the plan's arguments, and runs it. Memory that the plan updates in
place keeps its node, and a gradient that nobody else refers to is written over, so that there is nothing to make or to bind for them.
Whatever it does not find as it was, it leaves to `Recording.replay`, and it has changed nothing by then.
"""

from __future__ import annotations

import re
from operator import is_

from ..core.storage import Storage
from ..core.tensor import Tensor
from ..graph import tape
from ..graph.node import Node
from ..loops import plan as plans
from ..runtime import flight
from ..runtime.buffer import Buffer
from . import MISS
from .code import Unprovable, written
from .state import ALL_SLOTS, TENSOR_STATE, same
from .witness import Witness, reader

STATE = "tensor"        # the owner of words that are about a tensor, its memory or a class
TENSOR_SLOTS = [name for name in Tensor.__slots__ if name[:2] != "__"]
_new = object.__new__


def _is_plain(place, k: int, values: list) -> bool:
    """Whether a tensor with an empty dict has these values, whatever its slots."""
    bare = _new(Tensor)
    try:
        found = [eval(place.code, {f"t{k}": bare, **{name: TENSOR_STATE for name in re.findall(r"\bc\d+\b", place.code)}})]
    except AttributeError:
        return False
    return found == values and type(values[0]) in (bool, type(None))


class Steady:
    """`run(args, kwargs)`: the result, or MISS. It is made in two parts: the witness (`__init__`) before all is compared once more, the
    code (`write`) after, so that no change can come between unseen. `loose`: places that no witness is to be used for, since they do
    change."""

    def __init__(self, recording, loose: set):
        self.recording, self.reach, self.plan = recording, recording.reach, recording.plan
        self.loose, self.runs = loose, 0
        self.residual: list[int] = []       # numbers of the places that are compared
        self.witness = Witness()
        self.addresses: dict[int, int] = {}     # of the memory of slots that stays where it is
        slots = self.reach.slots
        self.anchors = {k: self.reach.space[s.expression] for k, s in enumerate(slots) if s.constant}
        self._inputs()
        self._gradients()
        self._witness_places()
        for k, t in self.anchors.items():
            self._witness_tensor(k, t)
        self.witness.close()
        self.taken = frozenset([id(t.storage) for t in self.anchors.values()])
        for k, s in enumerate(slots):
            if not s.constant and k in self.anchors:
                self.anchors[k] = None      # a reference to a gradient would count

    # -- what stays where it is ---------------------------------------------------------------------------------

    def _inputs(self) -> None:
        """Which leaves of the plan are bound for good, and which at each call."""
        r, plan = self.recording, self.plan
        takers = {leaf: node for node, leaf in plan.donated.items()}
        updates = {r.values[i][1]: slot for slot, i in r.updates.items() if r.values[i][0] == "node"}
        self.in_place: dict[int, int] = {}      # slot whose memory is updated in place -> node
        self.still: set[int] = set()            # slots whose memory is only read
        self.moving: list[tuple[int, str]] = []     # (row of the plan, expression of the node that is read there)
        for row, (kind, k) in enumerate(r.leaves[:plan.leaves]):
            if kind == "draw":
                self.moving.append((row, f"d{k}"))
            elif kind == "storage":
                slot = r.storages[k]
                if row in takers:
                    if slot not in self.anchors or updates.get(takers[row]) != slot:
                        raise Unprovable("it takes over the memory of its inputs")
                    self.in_place[slot] = takers[row]
                elif slot in self.anchors and slot not in r.updates and (STATE, slot) not in self.loose:
                    self.still.add(slot)
                else:
                    self.moving.append((row, f"t{slot}.storage.node"))

    def _gradients(self) -> None:
        """The gradients that are made anew and may take the place of the old ones: slot -> (number of the value, names)."""
        r, slots = self.recording, self.reach.slots
        read = {r.storages[k] for kind, k in r.leaves[:self.plan.leaves] if kind == "storage"}
        self.reused: dict[int, tuple] = {}
        for k, s in enumerate(slots):
            if s.of is None:
                continue
            if s.of not in self.anchors:
                raise Unprovable("it needs the gradient of an argument")
            name = r.gradients.get(s.of)
            made = r.plain.get(name)
            t = self.anchors[s.of]._grad
            if t is None:
                raise Unprovable("it has no gradient yet")
            self.anchors[k] = t
            if made is None or k in read or r.values[made[1]][0] != "node" or k in r.updates or k in r.bumps:
                continue
            storage, value, m, version = made
            lines = [line for owner, line in r.early if owner not in (name, storage)] + [r.expression]
            alone = not any(re.search(rf"\b({name}|{storage})\b", line) for line in lines)
            form = r.piece.forms[r.values[value][1]][0]
            if alone and t._meta is m and t.storage.version == version and t.storage.numel == form.numel:
                self.reused[k] = (value, name, storage)

    # -- the witness --------------------------------------------------------------------------------------------

    def _witness_places(self) -> None:
        self.witness.group(STATE)
        for cls, _, _ in self.reach.tags:
            self.witness.behind("class", cls)
        for number, p in enumerate(self.recording.places):
            if p.behind is ALL_SLOTS:
                continue
            slots = [x for kind, x in p.behind if kind == "slot"]
            if slots:
                if not all(x in self.anchors for x in slots):
                    self.residual.append(number)
            elif not p.behind or number in self.loose:
                self.residual.append(number)
            else:
                self.witness.group(number)
                for kind, x in p.behind:
                    self.witness.behind(kind, x)

    def _witness_tensor(self, k: int, t) -> None:
        w, s = self.witness, self.reach.slots[k]
        w.group((STATE, k))
        if s.of is not None:        # reached through the tensor whose gradient it is
            w.behind("vars", self.anchors[s.of])
        w.behind("type", t)
        w.behind("vars", t)
        for name in TENSOR_SLOTS:
            w.slot(t, name)
        storage = t.storage
        w.behind("type", storage)
        if k in self.reused:
            w.alone(t)
            w.add(id(t) + type(t).__weakrefoffset__, 0)
            w.alone(storage)
        if k in self.in_place or k in self.reused or k in self.still:
            if type(storage) is not Storage or type(storage.node.buffer) is not Buffer:
                raise Unprovable("an input has not been computed yet, or NumPy shares its memory")
            node = w.slot(storage, "node")
            buffer = w.slot(node, "buffer")
            if k not in self.still:
                w.alone(node)
                w.alone(buffer)
                if w.slot(buffer, "exported") is not False:
                    raise Unprovable("memory is shared with the outside")
            self.addresses[k] = w.slot(buffer, "address")
            w.number(buffer.address)

    # -- the code -----------------------------------------------------------------------------------------------

    def _bind_all(self, base: int) -> None:
        """Give the plan all arguments; those that `run` gives it are 0 until then."""
        r, plan, space = self.recording, self.plan, self.reach.space
        addresses = []
        for kind, k in r.leaves[:plan.leaves]:
            constant = kind == "constant" and r.constants[k].buffer.address
            addresses.append(constant or (self.addresses.get(r.storages[k], 0) if kind == "storage" else 0))
        where = {node: self.addresses[slot] for slot, node in self.in_place.items()}
        where.update({r.values[value][1]: self.addresses[slot] for slot, (value, *_) in self.reused.items()})
        addresses += [where.get(i, 0) for i, _ in plan.results]
        plan.bind([*addresses, base, plan.status_address], [0.0 if name.startswith("v") else space[name] for name in r.numbers])
        plan.bound, plan.told = self, None

    def write(self):
        """The function."""
        r, space = self.recording, self.reach.space
        space.update({f"t{k}": t for k, t in self.anchors.items() if self.reach.slots[k].constant})
        base = plans.arena(self.plan.arena_bytes).address if self.plan.arena_bytes else 0
        self._bind_all(base)
        space.update(changed=reader(), plan=self.plan, me=self, tape=tape, pending=tape.nodes, plans=plans, base=base, MISS=MISS,
                     W=memoryview(self.plan.words), F=memoryview(self.plan.float_words), blank=r.piece.blank, draw=r.draw, is_=is_,
                     same=same, landed=flight.finish, allocate=Buffer.allocate, Node=Node, Storage=Storage, new=_new)
        test = [f"plan.bound is not me or changed({self.witness.address}, {self.witness.count}) >= 0"]
        if self.plan.arena_bytes:
            test.append(f"plans.arena({self.plan.arena_bytes}).address != base")
        lines = ["if pending:", "    tape.flush()"] if r.backwards else []       # a whole step is worth a plan of its own
        # what runs in the background refers to memory, and references are counted: it is waited for
        lines += ["landed()", f"if {' or '.join(test)}:", "    return MISS", *self._compare()]
        lines += r.formula_lines("MISS")
        reads, sources = self._sources()
        lines += reads
        for j, d in enumerate(r.draws):
            space[f"D{j}"] = d
            lines.append(f"d{j} = draw(D{j})")
        lines += sources
        lines += self._results()
        lines += self._numbers()
        lines += [f"interrupt = plan.repeat(blank, {self._safe()})", "me.runs += 1", *self._put()]
        self.run = written("run", "args, kwargs", lines, space)
        return self.run

    def _compare(self) -> list[str]:
        """Find the tensors that may be others, and compare what has no witness."""
        r, slots, space = self.recording, self.reach.slots, self.reach.space
        variable = [k for k in range(len(slots)) if k not in self.anchors]
        lines = [f"t{k} = {slots[k].expression}" for k in variable]
        codes, then, plain = [], [], {}
        starts, at = [], 0
        for p in r.places:
            starts.append(at)
            at += len(p.values)
        for number in self.residual:
            p = r.places[number]
            values = r.then[starts[number]:starts[number] + len(p.values)]
            k = p.behind[0][1] if len(p.behind) == 1 and p.behind[0][0] == "slot" else None
            if k is not None and _is_plain(p, k, values):
                plain.setdefault(k, []).append((p.code, values[0]))
            else:
                codes.append(p.code)
                then += values
        for k in variable:
            codes.append(f"type(t{k}), type(t{k}.storage)")
            then += [slots[k].type, Storage]
            checks = " and ".join([f"({code}) is {value}" for code, value in plain.get(k, ())])
            if checks:
                codes.append(f"not t{k}.__dict__ or {checks}")
                then.append(True)
        space["then_residual"] = then
        equal = "len(now) == len(then_residual) and all(map(is_, now, then_residual)) or same(now, then_residual)"
        lines += [f"now = [{', '.join(codes)}]", f"if not ({equal}):", "    return MISS"]
        first = [k for k in variable if k in r.storages]
        if first:
            space["taken"] = self.taken
            ids = f"{{{', '.join(f'id(t{k}.storage)' for k in first)}}}"
            distinct = f"not taken.isdisjoint({ids})"
            if len(first) > 1:
                distinct = f"len(ids := {ids}) < {len(first)} or not taken.isdisjoint(ids)"
            lines += [f"if {distinct}:", "    return MISS"]
            if len(variable) > len(first):
                lines += [f"if len({{{', '.join(f'id(t{k})' for k in variable)}}}) < {len(variable)}:", "    return MISS"]
        return lines

    def _safe(self) -> int:
        """The first step that writes to memory which somebody may look at."""
        return self.plan.first_write([*self.in_place.values(), *[self.recording.values[v][1] for v, *_ in self.reused.values()]])

    def _at(self, row: int) -> list[tuple[int, int]]:
        """The arguments that are the address in a row of the plan's table, each with what is added to it."""
        plan = self.plan
        return [(int(at), int(offset)) for at, of, offset in zip(plan.pointer_at, plan.pointer_row, plan.pointer_offset) if of == row]

    def _bind(self, row: int, address: str) -> list[str]:
        return [f"W[{at}] = {address}{f' + {offset}' if offset else ''}" for at, offset in self._at(row)]

    def _sources(self) -> tuple[list[str], list[str]]:
        """(lines that look whether the inputs can be read, lines that bind their addresses)."""
        r = self.recording
        look, bind = [], []
        for row, node in self.moving:
            form = r.forms[row]
            if form is not None:
                self.reach.space[f"form{row}"] = form
                look += [f"m{row} = {node}", f"if m{row}.buffer is None or m{row}.form is not form{row}:", "    return MISS"]
                node = f"m{row}"
            bind += self._bind(row, f"{node}.buffer.address")
        return look, bind

    def _results(self) -> list[str]:
        """Memory for the results that are made anew."""
        plan, kept = self.plan, {*self.in_place.values(), *[self.recording.values[v][1] for v, *_ in self.reused.values()]}
        lines, self.fresh = [], []
        for k, (i, nbytes) in enumerate(plan.results):
            if i not in kept:
                self.fresh.append((i, plan.forms[k]))
                lines += [f"b{i} = allocate({nbytes})", *self._bind(plan.leaves + k, f"b{i}.address")]
        return lines

    def _numbers(self) -> list[str]:
        names = self.recording.numbers
        places = [(name, *place) for name, own in zip(names, self.plan.numbers) if name.startswith("v") for place in own]
        if any(kind != "f" for *_, kind in places):
            raise Unprovable("a number that changes is an integer")
        return [f"F[{at}] = {name}" for name, at, _ in places]

    def _put(self) -> list[str]:
        """What the step leaves behind."""
        r = self.recording
        reused = {name for _, *names in self.reused.values() for name in names}
        lines = []
        for i, form in self.fresh:
            self.reach.space[f"f{i}"] = form
            lines += [f"a{i} = Node()", f"a{i}.form, a{i}.buffer, a{i}.inputs, a{i}.where = f{i}, b{i}, (), None"]
        made = {i for i, _ in self.fresh}
        body = [line for owner, line in r.early if owner not in reused]
        body += [f"t{k}.storage.node = n{i}" for k, i in r.updates.items() if k not in self.in_place]
        body += [f"t{k}.storage.version += {count}" for k, count in r.bumps.items()]
        body += [f"t{k}._grad = {name}" for k, name in r.gradients.items() if name not in reused]
        body += ["if interrupt is not None:", "    raise interrupt", f"return {r.expression}"]
        body = [*r.step_lines, *body]
        used = set(re.findall(r"\b[a-z]\d+\b", "\n".join(body)))
        slot_of_node = {node: slot for slot, node in self.in_place.items()}
        known = {f"t{k}" for k, s in enumerate(self.reach.slots) if s.constant or k not in self.anchors}
        for k in self.anchors:
            if f"s{k}" in used or f"t{k}" in used and f"t{k}" not in known:
                used.add(f"t{k}")
        lines += [f"t{k} = t{self.reach.slots[k].of}._grad" for k in self.anchors if f"t{k}" in used and f"t{k}" not in known]
        lines += [f"s{k} = t{k}.storage" for k in range(len(self.reach.slots)) if f"s{k}" in used]
        for v, (kind, k) in enumerate(r.values):
            if f"n{v}" not in used:
                continue
            if kind == "leaf":
                where, number = r.leaves[k]
                if where != "storage":
                    raise Unprovable("it returns a constant or what it drew")
                lines.append(f"n{v} = t{r.storages[number]}.storage.node")
            else:
                lines.append(f"n{v} = a{k}" if k in made else f"n{v} = t{slot_of_node[k]}.storage.node")
        return [*lines, *body]
