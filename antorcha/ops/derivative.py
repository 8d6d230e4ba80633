"""Derivatives as they are declared beside an operator, made ready to be recorded.

`grad=` maps the name of an argument to a function of the cotangent `g` and of what it names: other arguments, `result` (of several
results all, or `result_1` one of them), or `x_shape` and `x_view`, the shape and the index map of argument `x`. Where the cotangents of
several arguments are made together, it maps a tuple of names to a function that gives a tuple. `Terms` reads that once. Which terms apply
to a call is told by the arguments that require grad; for each such set there is one `Derivative`, which says what to keep and what to
compute.

Both are done for every operation recorded, so for each set functions are written out in Python, with nothing left to look up: `attach`,
which hangs a node on a result, `record`, which makes the result, too, and `compute`, which the node calls in the backward pass.
"""

from __future__ import annotations

import functools

ARGUMENT, RESULT, SHAPE, VIEW, VALUE = "argument", "result", "shape", "view", "value"

names: dict = {}    # what the functions written here call, of the layers above; told by `core.autograd`
saving: list = []   # (pack, unpack) of the hooks on what is kept, the innermost last


def place_of(edge) -> tuple:
    """(node, number of its output) of an edge, or (leaf, 0)."""
    return edge if type(edge) is tuple else (edge, 0)


class Term:
    """The derivative by the argument at `position`: function(g, *needs), or of what that gives the element `part`."""

    __slots__ = ("position", "function", "needs", "bit", "part")

    def __init__(self, position: int, function, needs: tuple, bit: int, part: int | None):
        self.position, self.function, self.needs, self.bit, self.part = position, function, needs, bit, part


class Derivative:
    """Several terms. `keeps`: (kind, position of the argument) of what a call keeps; `names`: what a term calls each;
    `steps`: (function, places in `keeps` of what it needs, part of its result).

    `attach(out, *arguments)` makes a result (a tensor or a tuple of them) the differentiable one of an operator for these arguments;
    `record(form, inputs, meta, *arguments)` records a node whose tensor that is.
    `compute(node, g)` gives the cotangents of the arguments, from the result's: by `formulas(g, *kept, *layouts of the arguments)`, or
    by recording again what these recorded the last time.
    """

    __slots__ = ("keeps", "names", "steps", "attach", "record", "compute")

    def __init__(self, terms: list[Term], keep_of):
        self.names = tuple(dict.fromkeys(n for term in terms for n in term.needs))
        self.keeps = tuple(keep_of(n) for n in self.names)
        self.steps = tuple((term.function, tuple(self.names.index(n) for n in term.needs), term.part) for term in terms)
        self.attach = self.record = self.compute = None

    def unfold(self, node) -> None:
        """Let a node that stands for several (`core.history.Folded`) be the last of them: this is one operator's."""

    def parts(self, node) -> list:
        """The derivatives that a node stands for, each before its outputs."""
        return [self, node.outputs]


def class_name(title: str) -> str:
    """The name of the class of derivatives called so: "Log1P" is "Log1PBackward0"."""
    return title if "Backward" in title else f"{title}Backward0"


def titled(title):
    """Decorates a function of tensors whose derivative follows from its body: that of its result is called `title`, or what `title` gives
    of the same arguments (None: as it is)."""
    def decorate(function):
        @functools.wraps(function)
        def call(*arguments, **given):
            before = names["count"]()
            result = function(*arguments, **given)
            called = title(*arguments, **given) if callable(title) else title
            for x in result if isinstance(result, tuple) else (result,):
                node = getattr(x, "_grad_fn", None)
                if node is not None and node.seq > before and called:       # it is made here
                    node.__class__ = _renamed(type(node), class_name(called))
            return result
        return call
    return decorate


@functools.cache
def _renamed(kind: type, name: str) -> type:
    return type(name, (kind,), {"__slots__": ()})


class Terms(dict):
    """All terms of an operator; maps a set of them, as the sum of their bits, to its Derivative.

    The lowest bits stand for arguments that are tensors and require grad, `lists` times as much for those that are lists of tensors.
    """

    def __init__(self, operator: str, parameters: tuple, source: dict, node_class):
        super().__init__()
        self.operator, self.parameters, self.node_class = operator, parameters, node_class
        self.terms = []
        for by, function in source.items():
            code = function.__code__
            needs = code.co_varnames[1:code.co_argcount]
            together = type(by) is tuple
            for part, name in enumerate(by if together else (by,)):
                for n in (name, *needs):
                    self.keep_of(n)
                self.terms.append(Term(parameters.index(name), function, needs, 1 << len(self.terms), part if together else None))
        self.lists = 1 << len(parameters)
        self.inputs = tuple((term.position, term.bit) for term in self.terms)

    def keep_of(self, name: str) -> tuple:
        if name in self.parameters:
            return ARGUMENT, self.parameters.index(name)
        if name == "result":
            return RESULT, -1
        argument, _, part = name.rpartition("_")
        if argument == "result" and part.isdigit():
            return RESULT, int(part)
        if argument in self.parameters and part in (SHAPE, VIEW):
            return (SHAPE if part == SHAPE else VIEW), self.parameters.index(argument)
        raise TypeError(f"{self.operator}: a derivative names {name!r}; expected one of {list(self.parameters)} or 'result'")

    def tracked(self, arguments: tuple) -> int:
        """Which arguments require grad."""
        bits, tensor = 0, names["Tensor"]
        for position, bit in self.inputs:
            x = arguments[position]
            if isinstance(x, tensor):
                if x._rg:
                    bits |= bit
            elif type(x) in (list, tuple) and any([getattr(t, "_rg", False) for t in x]):
                bits |= bit * self.lists
        return bits

    def __missing__(self, bits: int) -> Derivative:
        """The Derivative of a set of arguments."""
        tensors, lists = bits % self.lists, bits // self.lists
        found = Derivative([t for t in self.terms if t.bit & (tensors | lists)], self.keep_of)
        of = {t.position: "tensor" if t.bit & tensors else "list" for t in self.terms if t.bit & (tensors | lists)}
        space = {**names, "derivative": found, "new": self.node_class}
        space.update((f"function{i}", function) for i, (function, _, _) in enumerate(found.steps))
        found.attach, found.record = (written(text(found, self.parameters, of), space) for text in (_attaching, _recording))
        space["formulas"] = written(_formulas(found, of), space)
        space["calls"] = names["Recollections"](space["formulas"], 2)
        found.compute = written(_computing(found, of), space)
        self[bits] = found      # whole: other threads may look
        return found


def written(source: str, space: dict):
    """The function that a text defines. Operators of one kind share their text: what differs has a name in it."""
    from ..runtime.functions import code_of

    scope: dict = {}
    exec(code_of(source, __file__), space, scope)
    return next(iter(scope.values()))


def _attaching(derivative: Derivative, parameters: tuple, of: dict) -> str:
    """The text of `attach`. `of`: position -> what the argument is that requires grad, "tensor" or "list"."""
    lines = [*_node(derivative, of),
             "if type(out) is tuple: several(node, out)",
             "else:",
             "    try: node.outputs = out._meta.alone",
             "    except AttributeError: several(node, out)",
             "    else: out._rg = True; out._grad_fn = node",
             *_keeping(derivative, of)]
    return f"def attach(out, {', '.join(f'a{i}' for i in range(len(parameters)))}):\n    " + "\n    ".join([*lines, "return out"]) + "\n"


def _recording(derivative: Derivative, parameters: tuple, of: dict) -> str:
    """The text of `record`."""
    lines = ["value = Node(); value.form = form; value.inputs = inputs; value.buffer = value.where = None",
             "pending.append(value)",
             "storage = Storage(); storage.node = value; storage.version = 0",
             *_node(derivative, of),
             "node.outputs = meta.alone",
             "out = bare(Tensor); out.storage = storage; out._meta = meta; out._rg = True; out._grad_fn = node; out._nr = 0",
             *_keeping(derivative, of),
             "if state.urgent or config.eager or len(pending) > LONGEST: settle()"]
    arguments = ", ".join(f"a{i}" for i in range(len(parameters)))
    return f"def record(form, inputs, meta, {arguments}):\n    " + "\n    ".join([*lines, "return out"]) + "\n"


def edge_lines(edge: str, tensor: str) -> list[str]:
    """Lines that find the edge of a tensor that requires grad: as `edge_of`, without a call."""
    return [f"{edge} = {tensor}._grad_fn", f"if {edge} is None: {edge} = {tensor}", f"elif {tensor}._nr: {edge} = {edge}, {tensor}._nr"]


def _node(derivative: Derivative, of: dict) -> list[str]:
    """Lines that make the node."""
    lines, edges = ["node = new()", "node.seq = count()"], []
    for i, kind in of.items():
        if kind == "list":
            edges.append(f"*[edge_of(t) if t._rg else None for t in a{i}]")
        else:
            lines += edge_lines(f"e{i}", f"a{i}")
            edges.append(f"e{i}")
    return [*lines, f"node.edges = ({''.join(e + ', ' for e in edges)})", "node.derivative = derivative", "node.extras = None"]


def _keeping(derivative: Derivative, of: dict) -> list[str]:
    """Lines that give the node what it keeps."""
    lines, kept, versions, certain = [], [], [], False
    for j, (kind, i) in enumerate(derivative.keeps):
        known = of.get(i)
        if kind is RESULT and i >= 0:
            lines.append(f"k{j} = out[{i}].storage; v{j} = k{j}.version")
        elif kind is RESULT:      # without its grad_fn, which would make a cycle
            lines += [f"try: k{j} = out.storage; v{j} = k{j}.version",
                      f"except AttributeError: k{j}, v{j} = kept_results(out)"]
        elif kind is SHAPE and known == "list":
            lines += [f"k{j} = tuple([t._meta.view.shape for t in a{i}])", f"v{j} = None"]
        elif kind is not ARGUMENT:
            lines += [f"k{j} = a{i}._meta.view{'.shape' if kind is SHAPE else ''}", f"v{j} = None"]
        elif known == "tensor":
            lines += [f"k{j} = a{i}", f"v{j} = a{i}.storage.version"]
        else:
            lines += [f"k{j} = a{i}",
                      f"if type(a{i}) is Tensor: v{j} = a{i}.storage.version",
                      f"elif type(a{i}) in plain: v{j} = None",
                      f"else: k{j}, v{j} = kept_argument(a{i})"]
        certain |= kind is RESULT or kind is ARGUMENT and known is not None
        kept.append(f"k{j}, ")
        versions.append(f"v{j}")
    lines.append(f"node.kept = ({''.join(kept)})")
    if certain:
        lines.append(f"node.versions = ({''.join(v + ', ' for v in versions)})")
    elif versions:
        lines.append(f"node.versions = () if {' is '.join(versions)} is None else ({''.join(v + ', ' for v in versions)})")
    else:
        lines.append("node.versions = ()")
    if kept:
        lines.append("if saving: pack(node, out)")
    return lines


def _computing(derivative: Derivative, of: dict) -> str:
    """The text of `compute`: the kept tensors are as they were, and each cotangent fits the input it belongs to."""
    lines = ["kept = node.kept", "versions = node.versions"]
    lines += ["if kept is released or type(versions) is not tuple or not node.outputs[0].dtype.exact: return node.compute(g)"]
    for j, (kind, i) in enumerate(derivative.keeps):
        if kind is RESULT or kind is ARGUMENT and of.get(i) == "list":
            lines.append(f"k{j} = node.unpack({j})")
        elif kind is ARGUMENT:
            unchanged = f"k{j}.storage.version == versions[{j}]"
            if of.get(i) is None:
                unchanged = f"(not versions or versions[{j}] is None or type(k{j}) is not tuple and {unchanged})"
            lines += [f"k{j} = kept[{j}]", f"if not {unchanged}: k{j} = node.unpack({j})"]
        else:
            lines.append(f"k{j} = kept[{j}]")
    if "list" in of.values():
        lines.append("layouts = tuple([layout(e) for e in node.edges])")
    else:
        lines.append(f"{''.join(f'e{i}, ' for i in range(len(of)))} = node.edges")
        lines += [f"m{i} = layout(e{i})" for i in range(len(of))]
    arguments = _arguments(derivative, of)
    types = ", ".join([f"type({a})" for a in arguments])
    lines += [f"if not without_grad or this_thread.grad: return formulas({', '.join(arguments)})",
              f"return calls[{types},]({', '.join(arguments)})"]
    return "def compute(node, g):\n    " + "\n    ".join(lines) + "\n"


def _arguments(derivative: Derivative, of: dict) -> list[str]:
    """What `formulas` is given."""
    layouts = ["layouts"] if "list" in of.values() else [f"m{i}" for i in range(len(of))]
    return ["g", *[f"k{j}" for j in range(len(derivative.keeps))], *layouts]


def _formulas(derivative: Derivative, of: dict) -> str:
    """The text of `formulas`: each cotangent is made to fit the argument it belongs to."""
    lines = []
    several = "list" in of.values()
    together: dict = {}     # function -> what it gave
    for i, (function, needs, part) in enumerate(derivative.steps):
        call = f"function{i}(g, {''.join(f'k{j}, ' for j in needs)})"
        if part is not None:
            if function not in together:
                together[function] = f"s{i}"
                lines.append(f"s{i} = {call}")
            call = f"{together[function]}[{part}]"
        lines += [f"extend(found, {call})"] if several else [
            f"r{i} = {call}",
            f"if r{i} is not None and r{i}._meta is not m{i}: r{i} = reduce_to(r{i}, m{i})"]
    if several:
        lines = ["found = []", *lines, "return fitting(found, layouts)"]
    else:
        lines.append(f"return [{', '.join(f'r{i}' for i in range(len(of)))}]")
    return f"def formulas({', '.join(_arguments(derivative, of))}):\n    " + "\n    ".join(lines) + "\n"
