"""The functions made of records: the declaration's parameters, `out=`, other names of parameters, torch.autocast, the derivative."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING

from ..base import dtype as dt
from ..base.formats import Size
from ..base.grad_mode import casting, mode, set_grad, without_grad
from ..graph import tape
from ..graph.node import View
from ..graph.tape import state
from .casts import concerned, policies, recast
from .derivative import names, place_of
from .layout import INTEGERS, Meta, core, number, told
from .overlap import check_apart, check_once

if TYPE_CHECKING:
    from .record import Record


def _unfinished(*args, **kwargs):
    return _finish()(*args, **kwargs)   # noqa: F821 (a global of each copy)


def postponed(name: str, space: dict, definition) -> FunctionType:
    """A function that is written and compiled when it is first called, as most functions of a library never are by one program:
    `definition()` gives (its text, defaults, defaults of keywords), `space` are its globals.

    It counts as code of this file, so that errors point at the user's line.
    """
    function = FunctionType(_unfinished.__code__, space, name)
    function.__qualname__ = name        # what errors about arguments say

    def finish():
        from ..runtime.functions import code_of  # not needed by a program that computes nothing

        source, defaults, keyword_defaults = definition()
        scope: dict = {}
        exec(code_of(source, __file__), scope)
        function.__code__ = scope[name].__code__
        function.__defaults__, function.__kwdefaults__ = defaults, keyword_defaults
        return function

    space["_finish"] = finish
    return function


def public(rec: Record, template, **more):
    """The function of a record: the declaration's parameters, then `out=`; the lines of `template` (a text, or what gives it) compute
    `result`."""
    space = {"rec": rec, "this_thread": mode, "without_grad": without_grad, "casting": casting, "state": state, "store_out": store_out,
             "settled": _settled, "respelled": _respelled, "reordered": _reordered, "spread": _spread, "mistyped": mistyped,
             "kinds": rec.function.__annotations__,
             "noted": _noted, "grown": _grown, "recast": recast, "concerned": concerned, "MISSING": MISSING,
             "told": told, "integers": INTEGERS.issuperset, "Size": Size, "sequences": (tuple, Size, list), **more}

    def definition():
        if "body" in space and is_recalled(rec):
            from .recall import Recollections

            space["calls"] = Recollections(_plain(rec), check=rec.check_types)
        space.update(known=rec.cache, decide=_decide, Meta=Meta, policies=policies(rec.autocast), alone=policies(None),
                     Tensor=core.Tensor, record=core.record, view_of=core.view_of)
        return _definition(rec, template() if callable(template) else template)

    function = postponed(rec.name, space, definition)
    function.__wrapped__ = rec.function     # for its signature
    function.__doc__ = rec.function.__doc__
    function.__module__ = "antorcha"
    return function


def _settled(result, args):
    return core.settled(result, args)


MISSING = object()      # the value of a required parameter that may be given by another name
SYNONYMS = {"axis": "dim", "keepdims": "keepdim"}


def _definition(rec: Record, template: str) -> tuple:
    """(source, defaults, keyword defaults) of a record's function. A parameter `*shape` may be given as `shape=`, too, and `dim` as
    `axis`."""
    has_out = rec.family != "view" and rec.out
    positional, keywords = rec.names[:rec.positional], rec.names[rec.positional:]
    defaults = rec.function.__defaults__ or ()
    required = rec.positional - len(defaults)
    star = [f"*{rec.variadic}"] if rec.variadic else []
    lines, extra = [], []
    everything = ", ".join(f"{n}={n}" for n in (*rec.names, *(["out"] if has_out else [])))
    if rec.variadic:
        extra = ["**given"]
        lines.append(f"if given: {rec.variadic} = spread(rec, {rec.variadic}, given)")
    elif rec.numbers_first:
        star = ["*rest"]
        lines.append(f"if rest: return rec.call(**reordered(rec, ({', '.join(positional)}, *rest), dict({everything})))")
    elif "dim" in rec.names[max(required - 1, 0):]:
        extra = ["**given"]
        if required and positional[required - 1] == "dim":
            defaults = (MISSING, *defaults)
        lines.append(f"if given or dim is MISSING: return rec.call(**respelled(rec, given, dict({everything})))")
    passed = ", ".join([*positional, *star, *(f"{n}={n}" for n in keywords)])
    if policies(rec.autocast) and (rec.autocast or rec.body and rec.family != "view" and not rec.bare):
        kinds, also = ("policies if out is None else alone", ", out=out") if has_out else ("policies", "")
        lines.append(f"if casting and concerned(policies): return recast(rec.call, {kinds}, {passed}{also})")
    several = f"*{rec.variadic}, " if rec.variadic else ""
    values = "".join(f"{n}, " for n in rec.names) + several
    named = f"(*rec.names, *['{rec.variadic}'] * len({rec.variadic}))" if rec.variadic else "rec.names"
    computed = template.format(positional=", ".join(rec.names), tuple="".join(f"{n}, " for n in rec.names), passed=passed).splitlines()
    lines += ["try:", *[f"    {line}" for line in computed],
              f"except Exception as error: mistyped(rec.name, {named}, ({values}), error, kinds); raise"]
    inputs = "".join(f"{n}, " for n in (*rec.names, *([rec.variadic] if rec.variadic else [])))
    if rec.family not in ("pointwise", "view") and rec.grad is None:
        lines.append(f"if state.devices: result = settled(result, ({inputs}))")
    stored = f"store_out(rec.name, out, result, ({inputs}), rec.out, rec.apart)"
    lines.append("return result" if not has_out else f"return result if out is None else {stored}{' and None' if rec.silent else ''}")
    parameters = [*positional, *(star or (["*"] if has_out or keywords else [])), *keywords, *(["out"] if has_out else []), *extra]
    keyword_defaults = {**(rec.function.__kwdefaults__ or {}), **({"out": None} if has_out else {})}
    return f"def {rec.name}({', '.join(parameters)}):\n    " + "\n    ".join(lines), defaults, keyword_defaults


def _respelled(rec: Record, given: dict, arguments: dict) -> dict:
    """`arguments` with those `given` by NumPy's names in place."""
    for name, value in given.items():
        if SYNONYMS.get(name) not in arguments:
            raise TypeError(f"{rec.name}() got an unexpected keyword argument '{name}'")
        arguments[SYNONYMS[name]] = value
    for name, value in arguments.items():
        if value is MISSING:
            raise TypeError(f'{rec.name}() missing 1 required positional argument: "{name}"')
    return arguments


def _reordered(rec: Record, values: tuple, arguments: dict) -> dict:
    """The arguments of a call as old programs have it: numbers, which are keywords now, among the tensors that they are multiplied
    with, as in add(x, 2, y)."""
    tensors = [x for x in values if isinstance(x, core.Tensor)]
    numbers = [x for x in values if not isinstance(x, core.Tensor)]
    keywords = rec.names[rec.positional:]
    if len(tensors) != rec.positional or len(numbers) > len(keywords):
        raise TypeError(f"{rec.name}() takes {rec.positional} positional arguments but {len(values)} were given")
    from .recall import warn_once

    warn_once(f"{rec.name}(): numbers before the tensors that they belong to are deprecated. Name them: "
              f"{rec.name}({', '.join([*rec.names[:rec.positional], *(f'{k}={n}' for k, n in zip(keywords, numbers))])})")
    return {**arguments, **dict(zip(rec.names, tensors)), **dict(zip(keywords, numbers))}


def mistyped(what: str, names: tuple, values: tuple, error: Exception, kinds: dict | None = None) -> None:
    """TypeError if `error` came of an argument that should be a tensor or a number: it is declared to be a tensor (`kinds`: parameter ->
    annotation) and is something else, it lacks an attribute of tensors or numbers, or its type has no dtype. An error about devices, or an
    argument that was handed on, is made to speak of this call."""
    if hasattr(error, "devices"):
        return core.blame(error, what, zip(names, values))
    kinds = kinds or {}
    handed_on = getattr(error, "blamed", None)
    handed_on = handed_on if sum([value is handed_on for value in values]) == 1 else None
    for place, (name, value) in enumerate(zip(names, values), 1):
        if isinstance(value, core.Tensor):
            continue
        kind = kinds.get(name, "")
        if isinstance(error, AttributeError):
            blamed = error.obj is value or type(value) in (list, tuple) and type(error.obj) is type(value)      # of these there are copies
        else:
            blamed = isinstance(error, KeyError) and error.args == (type(value),)
        blamed |= value is handed_on is not None
        if value is None:
            blamed &= kind == "Tensor" or not kinds or getattr(error, "name", None) == "__index__"
        elif "Tensor" in kind and "[" not in kind:
            blamed |= number(value) is None
        if blamed:
            wanted = "int" if getattr(error, "name", None) == "__index__" else "Tensor"
            found = TypeError(wrong_type(what, name, place, wanted, value))
            found.blamed, found.name = value, getattr(error, "name", None)
            raise found from None


def wrong_type(what: str, name: str, position: int, wanted: str, value) -> str:
    """What an error says of an argument of another type than the `wanted` one."""
    return wrong_kind(what, name, position, wanted, type(value))


def wrong_kind(what: str, name: str, position: int, wanted: str, kind: type) -> str:
    """`wrong_type` of a value of which only the type is known."""
    place = f" (position {position})" if position else ""
    several = "Tensor" in wanted and hasattr(kind, "__len__") and kind is not str
    hint = f". Make a tensor of it: torch.tensor({name})" if several else ""
    return f"{what}(): argument '{name}'{place} must be {wanted}, not {kind.__name__}{hint}"


def _spread(rec: Record, rest: tuple, given: dict) -> tuple:
    """The arguments of a parameter such as *shape that was given by name."""
    value = given.pop(rec.variadic, MISSING)
    if given or rest or value is MISSING:
        raise TypeError(f"{rec.name}() got an unexpected keyword argument '{next(iter(given), rec.variadic)}'")
    return (value,)


def store_out(name: str, out, result, inputs=(), rule=True, apart=None):
    """Write `result` into the user's `out` tensor (or tuple of them), resized if its shape differs. `rule`: see `Record.out`, `apart`:
    see `Record.apart`."""
    if isinstance(result, tuple):
        if not isinstance(out, (tuple, list)) or len(out) != len(result):
            raise TypeError(f"{name}(): argument 'out' must be tuple of {len(result)} Tensors, not {type(out).__name__}")
        stored = [store_out(name, o, r, inputs, rule, apart) for o, r in zip(out, result)]
        return type(result)(*stored) if hasattr(result, "_fields") else tuple(stored)
    if not isinstance(out, core.Tensor):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")
    if mode.grad and (out.requires_grad or result.requires_grad):
        raise RuntimeError(f"{name}(): functions with out=... arguments don't support automatic differentiation, "
                           "but one of the arguments requires grad.")
    if rule == "exact" and out.dtype is not result.dtype:
        raise RuntimeError(f"{name}(): Expected out tensor to have dtype {result.dtype}, but got {out.dtype} instead")
    if state.devices and core.apart(out, result) and _tensor_in(inputs):
        raise RuntimeError(f"{name}(): Expected out tensor to have device {result.device}, but got {out.device} instead. "
                           f"Make it there: torch.empty(0, device='{result.device}')")
    check_once(name, out)
    first = len(inputs) if apart is None else apart
    check_apart(name, out, inputs[:first], False)
    check_apart(name, out, inputs[first:], True)
    if dt.CATEGORY[result.dtype.kind] > dt.CATEGORY[out.dtype.kind]:
        raise RuntimeError(f"{name}(): result type {result.dtype} can't be cast to the desired output type {out.dtype}")
    if out._meta.view.shape != result._meta.view.shape:
        if out._meta.view.numel:
            import warnings

            warnings.warn(
                f"{name}: An output with one or more elements was resized since it had shape {list(out.shape)}, which does not match "
                f"the required output shape {list(result.shape)}. Resize it first: out.resize_(0).",
                stacklevel=3,
            )
        out.resize_(result._meta.view.shape)
    out.copy_(result)
    return out


def _tensor_in(values) -> bool:
    return any(isinstance(x, core.Tensor) or isinstance(x, (list, tuple)) and _tensor_in(x) for x in values)


# -- how the body is called -------------------------------------------------------------------------------------------

def computing(rec: Record) -> str:
    """Lines that compute an operator's result by its body."""
    if rec.bare:
        return _looked_up(rec)
    if rec.family == "view" and rec.names:
        return _viewed_again(rec)
    if not is_recalled(rec):
        return "result = body({passed})\n"
    types = "".join([f"type({n}), " for n in rec.names]) + (f"*map(type, {rec.variadic}), " if rec.variadic else "")
    first = "result = at_once({passed})\nif result is None: " if rec.at_once else ""
    return f"{first}result = calls[({types})]({{tuple}}{f'*{rec.variadic}' if rec.variadic else ''})\n"


def is_recalled(rec: Record) -> bool:
    """Whether calls of an operator are recorded again where what they record is known: it is written with others."""
    return rec.recalled and rec.family != "view" and not rec.bare and not (rec.variadic and rec.positional < len(rec.names))


def _looked_up(rec: Record) -> str:
    """Lines for a body that makes one node, or views: its decisions are looked up."""
    terms = rec.terms
    tracked = " + ".join(f"({bit} if {rec.names[i]}._rg else 0)" for i, bit in terms.inputs)
    inputs = [rec.names[i] for i, _ in terms.inputs]
    key = "".join(f"{n}._meta, " if n in inputs else f"{n}, " for n in rec.names)
    telling = _telling(rec, [n for n in rec.names if n not in inputs]) if rec.public else ""
    key += telling
    attached = "terms[tracked].attach(result, {positional})"
    if rec.family == "view":
        found = f"m, terms = known[{key}]"
        decided = ""
        again = (f"    result = view_of({inputs[0]}, m) if type(m) is Meta else tuple([view_of({inputs[0]}, one) for one in m])\n"
                 f"if tracked and (not without_grad or this_thread.grad): {attached}\n")
    else:
        found = f"(form, m, terms), inputs = known[{key}], ({''.join(f'{n}.storage.node, ' for n in inputs)})"
        decided = f"    if tracked and (not without_grad or this_thread.grad) and result._meta.dtype.continuous: {attached}\n"
        again = ("    if tracked and (not without_grad or this_thread.grad) and m.dtype.continuous:\n"
                 "        result = terms[tracked].record(form, inputs, m, {positional})\n"
                 "    else:\n"
                 "        result = record(form, inputs, m)\n")
    return (f"try: tracked = {tracked}\n"
            "except AttributeError: tracked = rec.terms.tracked(({tuple}))\n"
            "try:\n"
            f"    {found}\n"
            "except (KeyError, TypeError, AttributeError):\n"
            f"    result, terms = decide(rec, ({{tuple}}), {telling})\n"
            f"{decided}"
            "else:\n"
            f"{again}")


def _plain(rec: Record):
    """The function of all arguments of an operator with a body; derivatives within are not recorded where it has its own."""
    terms, body = rec.terms, rec.body if rec.positional == len(rec.names) else rec.apply
    if terms is None:
        return body

    def plain(*arguments):
        tracked = terms.tracked(arguments) if mode.grad else 0
        if not tracked:
            return body(*arguments)
        set_grad(False)
        try:
            result = body(*arguments)
        finally:
            set_grad(True)
        if isinstance(result, core.Tensor) and not result._meta.dtype.continuous:
            return result
        return rec.terms_for(arguments)[tracked].attach(result, *arguments)

    return plain


def _viewed_again(rec: Record) -> str:
    """Lines for a body that makes views by other operators: index maps and the derivative are looked up."""
    first, *others = rec.names
    more, spread, star = "".join([f"{n}, " for n in others]) + _telling(rec, others), "", rec.variadic
    if star:        # of integers or one sequence of them
        spread = ("types = True\n"
                  f"for each in {star}:\n"
                  "    if type(each) is not int:\n"
                  f"        if len({star}) == 1 and type(each) in sequences: {star} = tuple(each)\n"
                  f"        types = type(each) is Size or integers(map(type, {star})) or told({star})\n"
                  "        break\n")
        more += f"{star}, types, "
    return (f"{spread}"
            f"try: found = known.get(({first}._rg and (not without_grad or this_thread.grad), {first}._meta, {more}))\n"
            "except (TypeError, AttributeError): found = None\n"
            f"if found is None: result = noted(rec, body({{passed}}), {first}, ({more}))\n"
            "else:\n"
            "    m, kind, history = found\n"
            "    if kind is None:\n"
            f"        result = view_of({first}, m)\n"
            f"        if history is not None: result._grad_fn = grown({first}, *history); result._rg = True\n"
            "    else:\n"
            f"        result = kind([view_of({first}, one) for one in m])\n"
            "        if history is not None:\n"
            f"            node = grown({first}, *history)\n"
            "            for i, t in enumerate(result): t._rg, t._grad_fn, t._nr = True, node, i\n")


def _noted(rec: Record, result, source, others: tuple):
    """The result of a body that made views by other operators. What it made is kept if these were views of `source`, the first argument,
    in which the others say all by their values."""
    several = result if type(result) in (tuple, list) else (result,)
    if not several or not all([_is_view(t, source) for t in several]) or not _is_fixed(others):
        return result
    tracked, node, history = source._rg and mode.grad, several[0]._grad_fn, None
    metas = tuple([t._meta for t in several])
    if tracked:
        own = names["edge_of"](source)
        if node is None or node.record is None or len(node.edges) != 1 or node.extras is not None or node.versions != () \
                or not _is_fixed(node.kept) or place_of(node.edges[0])[0] is not place_of(own)[0] or node.outputs != metas \
                or any([t._grad_fn is not node or t._nr != i for i, t in enumerate(several)]):
            return result
        history = type(node), node.derivative, node.kept, metas
    if len(rec.cache) > 20_000:
        rec.cache.clear()
    key = (tracked, source._meta, *others)
    rec.cache[key] = (metas[0], None, history) if several[0] is result else (metas, type(result), history)
    return result


def _is_view(t, source) -> bool:
    return type(t) is core.Tensor and isinstance(source, core.Tensor) and t is not source and t.storage is source.storage \
        and t.__dict__.keys() == {"_base"}


def _grown(source, kind: type, derivative, kept: tuple, metas: tuple):
    """The node of views of `source` that such views had."""
    node = kind()
    node.seq, node.outputs, node.derivative, node.kept = names["count"](), metas, derivative, kept
    edge = source._grad_fn
    node.edges = source if edge is None else (edge, source._nr) if source._nr else edge,
    node.versions, node.extras = (), None
    return node


def _telling(rec: Record, names: list) -> str:
    """What is `told` of parameters' values, in a key; without a call where it is the usual: integers, tuples of them, None, and truth
    values where these are the default."""
    usual = []
    for n in names:
        default, plain = rec.defaults.get(n, MISSING), f"(type({n}) is int or type({n}) is tuple and integers(map(type, {n})))"
        if type(default) is bool:
            plain = f"({n} is False or {n} is True)"
        usual.append(plain if default is not None else f"({n} is None or {plain})")
    return f"True if {' and '.join(usual)} else told(({', '.join(names)},)), " if names else ""


_FIXED = frozenset((type(None), type(Ellipsis), type, bool, int, str, dt.dtype, View))


def _is_fixed(x) -> bool:
    """Whether an argument says all by its value and what is told besides."""
    return type(x) in _FIXED or type(x) in (tuple, Size) and all(map(_is_fixed, x))


def _decide(rec: Record, arguments: tuple, *told):
    """(the result, the derivative) of an operator whose body makes one node of its inputs, or views of the first, and nothing else; the
    decisions it takes are kept for calls with the same layouts and arguments, and with the same that is `told` of these."""
    rec.check_types(tuple(map(type, arguments)))
    recorded = len(tape.nodes)
    result, terms = rec.apply(*arguments), rec.terms_for(arguments)
    inputs = {i for i, _ in rec.terms.inputs}
    if not all([isinstance(x, core.Tensor) if i in inputs else _is_fixed(x) for i, x in enumerate(arguments)]):
        return result, terms
    if rec.family == "view":
        found = result._meta if isinstance(result, core.Tensor) else [t._meta for t in result], terms
    else:
        node, own = result.storage.node, [arguments[i].storage.node for i in sorted(inputs)]
        form = node.form        # read before it is seen that no other thread has computed the node, which gives it another
        if node.buffer is not None or len(tape.nodes) != recorded + 1 or tape.nodes[-1] is not node or node.where is not None \
                or list(node.inputs) != own:
            return result, terms
        found = form, result._meta, terms
    if len(rec.cache) > 20_000:
        rec.cache.clear()
    key = (*[x._meta if i in inputs else x for i, x in enumerate(arguments)], *told)
    rec.cache[key] = found
    return result, terms
