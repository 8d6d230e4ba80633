"""Whole backward passes, recorded again.

A training loop differentiates the same graph in each step: the same derivatives of inputs of the same layouts, for the same parameters.
So a pass that has come a few times is written out as two functions. `match` goes through the graph of a loss and compares it with the
one that is known, node by node, with nothing to look up; `record` records what the pass recorded (`ops.rewriting`). Where anything is
otherwise - a layout, who shares memory with whom, a hook, the order in which nodes were made - `match` says so and the pass is made as
ever. Floats that pointwise operators kept, such as a weight or a reward, may be others: the pass is recorded with a `Symbol` for each,
and where one decides about anything it is held fast from then on. Data that were kept - a batch that is a slice of a data set, an array's
memory - are read through windows (`framed`), so that a pass is known wherever they lie.
"""

from __future__ import annotations

from types import FunctionType

from ..base import config
from ..base import dtype as dt
from ..base.grad_mode import mode
from ..base.symbol import Symbol
from ..graph import tape, window
from ..graph.node import view as make_view
from ..graph.tape import LONGEST, state
from ..loops.view import reach
from ..ops.derivative import RESULT, VALUE, names, saving
from ..ops.layout import Meta, core, meta
from ..ops.recall import PATIENCE, VAIN, observe, sequence
from ..ops.rewriting import Text, Untold
from .storage import SNAPSHOT, Storage

CANDIDATES = 64     # passes known for one kind of loss: of sequences of many lengths
ROOM = 100_000      # nodes in all passes that are kept
PRICE = 10          # passes made as ever that take as long as writing one out
CREDIT = 10         # passes that are written out before any has been of use
LATE = 16           # meetings of a graph before its pass is written out, where those written before it have not paid

_known: dict = {}   # what is seen of a loss at once -> the passes that may be its, the latest first
_fixed: set = set() # (derivative, place) of floats that are part of the structure
_seen: dict = {}    # the hash of a graph's derivatives and layouts -> how often it was met and not matched
_credit = [CREDIT * PRICE]      # what may be spent on writing passes out: each that is made again gives it back


class Pass:
    """A pass that is known. `match(loss)` gives None, or the tensors and their nodes, which `record` takes, as it does the numbers; the
    leaves that its results are the new gradients of; and the nodes that let go what they kept."""

    __slots__ = ("match", "record", "size")

    def __init__(self, match: FunctionType, record: FunctionType, size: int):
        self.match, self.record, self.size = match, record, size

    def again(self, loss) -> bool:
        """Make it for `loss`; False where it is another graph's."""
        try:
            found = self.match(loss)
        except (AttributeError, TypeError, ValueError):     # other edges, or other things kept
            return False
        if found is None or state.urgent:
            return False
        tensors, nodes, numbers, leaves, released = found
        unsure = state.unsure
        for leaf, gradient in zip(leaves, self.record(*tensors, *nodes, numbers)):
            leaf._grad = gradient
        state.unsure = unsure       # derivatives use the indices that were used before
        gone = names["released"]
        for node in released:
            node.kept = gone
        if len(tape.nodes) + state.hidden > LONGEST:
            tape.settle()
        return True


def run(loss, retain: bool, walk, plain) -> None:
    """The backward pass of `loss`. `walk()` gives the nodes to visit and the leaves they lead to, `plain(*walked)` visits them."""
    if state.urgent or state.watch is not None or mode.autocast is not None or config.eager or saving:
        plain(*walk())
        return
    kind = (loss._meta, type(loss._grad_fn), retain, dt._default, core.default_device)
    candidates = _known.get(kind)
    if candidates is not None:
        for i, known in enumerate(candidates):
            if known.again(loss):
                _credit[0] = min(_credit[0] + 1, CREDIT * PRICE)
                if i:
                    candidates.insert(0, candidates.pop(i))
                return
    order, leaves = walk()
    if not _due(order):
        plain(order, leaves)
        return
    _credit[0] -= PRICE
    try:
        match = Match(loss, order, list(leaves))
    except Untold:
        plain(order, leaves)
        return
    gradients, record, size = observe(lambda: match.gradients(plain, leaves), match.tensors, match.nodes, match.formulas)
    if record is None or match.decided():
        return
    if sum([known.size for several in _known.values() for known in several]) > ROOM:
        _known.clear()
    candidates = _known.setdefault(kind, [])
    candidates.insert(0, Pass(match.finished(), record, size + len(order)))
    del candidates[CANDIDATES:]


def _due(order: list) -> bool:
    """Whether a graph has come often enough for its pass to be written out, and not in vain too often. A program whose graphs depend on
    its data has many that come a few times."""
    try:
        kind = hash(tuple([x for node in order for x in node.derivative.parts(node)]))
    except AttributeError:      # a node that is no operator's
        return False
    if len(_seen) > ROOM:
        _seen.clear()
    _seen[kind] = met = _seen.get(kind, 0) + 1
    often = PATIENCE if _credit[0] > 0 else LATE
    return often < met <= often + VAIN


def framed(t):
    """A part of a value in memory, or what an array's memory holds now, as a tensor of its own; None for any other tensor."""
    storage, m = t.storage, t._meta
    v = m.view
    if m.device not in (None, "cpu") or not v.numel:
        return None
    if storage.shared:
        if storage.buffer().nbytes > SNAPSHOT:
            return None
        own = Storage.of(storage.node)
    elif type(storage) is Storage and storage.node.buffer is not None and min(v.strides, default=0) >= 0:
        count = reach(v)
        if count == storage.node.form.numel:
            return None
        own, m = Storage.of(window.part(storage.node, v.offset, count)), meta(make_view(v.shape, v.strides), m.dtype, m.device)
    else:
        return None
    own.version = storage.version
    return core.tensor_on(own, m)


class Watch:
    """Of one number: whether something was decided by it. `formulas`: those of all numbers of a pass."""

    def __init__(self, formulas: list[str]):
        self.formulas, self.refused = formulas, False

    def refuse(self, reason: str) -> None:
        self.refused = True

    demand = refuse


class Match(Text):
    """Writes `match` for the graph of a loss. `tensors`, `nodes`: what it finds in there. Untold where not all can be compared."""

    def __init__(self, loss, order: list, leaves: list):
        super().__init__((), ())
        self.order, self.leaves = order, leaves
        self.tensors: list = []
        self.nodes: list = []           # of the tensors, then of results that are kept
        self.results: list = []
        self.formulas: list[str] = []   # of the numbers that are used
        self.floats: list = []          # (node, place among what it kept, symbol)
        self.frames: list = []          # (node, place among what it kept, the tensor, what stands for it)
        self.cells: dict = {}           # the id of a storage, or of a value, -> its first name
        self.values_in: dict = {}
        self.fresh = [i for i, leaf in enumerate(leaves) if leaf._grad is None]
        self.lines = ["g0 = loss._grad_fn", f"if loss._nr != {loss._nr}: return None"]
        self._graph()
        self._compare_kept()
        self._alike()
        self.nodes += self.results

    def gradients(self, plain, leaves) -> list:
        """Make the pass: the gradients of leaves that had none."""
        changes = [(node, j, symbol, float.__pos__(symbol)) for node, j, symbol in self.floats]
        changes += [(node, j, frame, t) for node, j, t, frame in self.frames]
        for node, j, other, _ in changes:
            node.kept = (*node.kept[:j], other, *node.kept[j + 1:])
        plain(self.order, leaves)
        for node, j, _, own in changes:
            if node.kept is not names["released"]:
                node.kept = (*node.kept[:j], own, *node.kept[j + 1:])
        return [self.leaves[i]._grad for i in self.fresh]

    def decided(self) -> bool:
        """Whether something was decided by a float. It is part of the structure from then on."""
        found = [(node.derivative, j) for node, j, symbol in self.floats if symbol.watch.refused]
        _fixed.update(found)
        return bool(found)

    def finished(self) -> FunctionType:
        """The function, once the pass is made."""
        tensors = "".join(f"t{k}, " for k in range(len(self.tensors)))
        nodes = "".join(f"n{k}, " for k in range(len(self.tensors))) + "".join(f"q{k}, " for k in range(len(self.results)))
        fresh = "".join(f"v{i}, " for i in self.fresh)
        released = "".join(f"g{i}, " for i, node in enumerate(self.order) if node.kept is names["released"])
        numbers = "".join(f"f{k}, " for k in range(len(self.floats)))
        self.order = self.leaves = self.tensors = self.nodes = self.results = self.floats = self.frames = None
        return self.function(f"({tensors}), ({nodes}), ({numbers}), ({fresh}), ({released})", "loss")

    def unless(self, *conditions: str) -> None:
        self.lines.append(f"if not ({' and '.join(conditions)}): return None")

    # -- the graph ----------------------------------------------------------------------------------------------

    def _graph(self) -> None:
        """Nodes in the order in which they are visited, and the leaves."""
        called = {node: f"g{i}" for i, node in enumerate(self.order)} | {leaf: f"v{i}" for i, leaf in enumerate(self.leaves)}
        met = {self.order[0]}
        for i, node in enumerate(self.order):
            if node not in met or node.record is None or node.extras is not None or type(node.versions) is not tuple:
                raise Untold
            self.unless(f"g{i}.derivative is {self.constant(node.derivative)}", f"g{i}.outputs == {self.constant(node.outputs)}",
                        f"g{i}.extras is None")
            pattern, checks = [], []
            for j, edge in enumerate(node.edges):
                target, nr = edge if type(edge) is tuple else (edge, 0)
                name = called.get(target)
                if target is None or target in met:
                    checks.append(f"e{j} is {name}")
                    name = f"e{j}"
                else:
                    met.add(target)
                pattern.append(f"({name}, k{j}), " if nr else f"{name}, ")
                checks += [f"k{j} == {nr}"] if nr else []
            if pattern:
                self.lines.append(f"{''.join(pattern)} = g{i}.edges")
            if checks:
                self.unless(*checks)
        if len(self.order) > 1:
            self.unless(" > ".join([f"g{i}.seq" for i in range(len(self.order))]))
        for i, v in enumerate(self.leaves):
            self.unless(f"type(v{i}) is {self.constant(type(v))}", f"v{i}._meta is {self.constant(v._meta)}", f"not v{i}._hooks",
                        f"not v{i}._post_hooks", f"(v{i}._accumulator is None or not hooked(v{i}))")
            if v._hooks or v._post_hooks or v.is_sparse or names["hooked"](v):
                raise Untold
            if v._grad is None:
                self.unless(f"v{i}._grad is None")
            else:
                self._tensor(f"v{i}._grad", v._grad)
        if len(self.leaves) > 1:
            self.unless(f"len({{{', '.join(f'v{i}' for i in range(len(self.leaves)))}}}) == {len(self.leaves)}")

    # -- what nodes keep ----------------------------------------------------------------------------------------

    def _compare_kept(self) -> None:
        for i, node in enumerate(self.order):
            if not node.derivative.keeps:
                continue
            if node.kept is names["released"]:
                raise Untold
            each = range(len(node.kept))
            self.lines.append(f"{''.join(f'k{j}, ' for j in each)} = g{i}.kept")
            if node.versions:
                self.lines.append(f"{''.join(f'w{j}, ' for j in each)} = g{i}.versions")
            else:
                self.unless(f"g{i}.versions == ()")
            for j, v in enumerate(node.kept):
                if node.derivative.keeps[j][0] is VALUE:
                    self._value(f"k{j}", v)
                    continue
                if type(v) is float and node.record.family == "pointwise" and (node.derivative, j) not in _fixed:
                    self._float(node, j, v)
                    continue
                frame = framed(v) if type(v) is core.Tensor and not v._rg else None
                if frame is None:
                    now = self._compare(f"k{j}", v, node.derivative.keeps[j][0], f"{i}_{j}")
                else:
                    now = [self._frame(node, j, v, frame)]
                if node.versions:
                    self.unless(f"w{j} == {' + '.join(now)}" if now else f"w{j} is None")
                elif now:
                    raise Untold

    def _frame(self, node, j: int, t, frame) -> str:
        """Data that may lie elsewhere; the version of their storage."""
        k = len(self.tensors)
        self.unless(f"type(k{j}) is Tensor", f"k{j}._rg is False")
        self.lines += [f"t{k} = {self.constant(framed)}(k{j})", f"if t{k} is None: return None", f"n{k} = t{k}.storage.node"]
        self.unless(f"t{k}._meta is {self.constant(frame._meta)}", f"n{k}.form.numel == {frame.storage.node.form.numel}")
        self.tensors.append(frame)
        self.nodes.append(frame.storage.node)
        self.frames.append((node, j, t, frame))
        return f"k{j}.storage.version"

    def _float(self, node, j: int, v: float) -> None:
        """A number that may be another one."""
        k = len(self.floats)
        self.unless(f"type(k{j}) is float")
        self.lines.append(f"f{k} = k{j}")
        self.floats.append((node, j, Symbol(v, f"numbers[{k}]", Watch(self.formulas))))

    def _compare(self, name: str, v, kind: str = "", place: str = "") -> list[str]:
        """Compare something that is kept; the versions of the storages in it."""
        if kind is RESULT and type(v) is not tuple:
            k = len(self.results)
            self.lines.append(f"r{k} = {name}; q{k} = r{k}.node")
            self._storage(f"r{k}", v, f"q{k}")
            self.results.append(v.node)
            return [f"r{k}.version"]
        if isinstance(v, core.Tensor):
            return [f"{self._tensor(name, v)}.version"]
        if type(v) is tuple and any([isinstance(x, (core.Tensor, core.Storage)) for x in v]):
            parts = [f"p{place}_{i}" for i in range(len(v))]
            self.unless(f"type({name}) is tuple")
            self.lines.append(f"{''.join(p + ', ' for p in parts)} = {name}")
            return [version for p, x in zip(parts, v) for version in self._compare(p, x, kind)]
        if v is None or type(v) in (bool, Meta):
            self.unless(f"{name} is {self.constant(v)}")
            return []
        key = sequence((v,), [], [])
        if key is None:
            raise Untold
        self.unless(f"{self.constant(sequence)}(({name},), [], []) == {self.constant(key)}" if type(v) is not int else
                    f"type({name}) is int and {name} == {v}")
        return []

    def _value(self, name: str, node) -> None:
        """Compare a value that nobody else sees."""
        k = len(self.results)
        self.lines.append(f"q{k} = {name}")
        self._same(self.values_in, node, f"q{k}")
        self.results.append(node)

    def _tensor(self, name: str, t) -> str:
        """Compare a tensor; the name of its storage."""
        if t.is_sparse:
            raise Untold
        k = len(self.tensors)
        self.lines.append(f"t{k} = {name}; s{k} = t{k}.storage; n{k} = s{k}.node")
        self.unless(f"type(t{k}) is {self.constant(type(t))}", f"t{k}._meta is {self.constant(t._meta)}", f"t{k}._rg is {t._rg}")
        self._storage(f"s{k}", t.storage, f"n{k}")
        self.tensors.append(t)
        self.nodes.append(t.storage.node)
        return f"s{k}"

    def _storage(self, name: str, storage, value: str) -> None:
        if type(storage) is not core.Storage:
            raise Untold
        self.unless(f"type({name}) is Storage", f"{value}.form.numel == {storage.node.form.numel}")
        self._same(self.cells, storage, name)
        self._same(self.values_in, storage.node, value)

    def _same(self, table: dict, x, own: str) -> None:
        first = table.setdefault(id(x), own)
        if first != own:
            self.unless(f"{own} is {first}")

    def _alike(self) -> None:
        """Nothing is shared that was not."""
        for table in (self.cells, self.values_in):
            if len(table) > 1:
                self.unless(f"len({{{', '.join(table.values())}}}) == {len(table)}")
