"""`weights_only=True`: which objects a checkpoint may name, and what may be done with them."""

from __future__ import annotations

import codecs
import contextlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from pickle import UnpicklingError
from typing import Any

from ..base.locks import Lock
from ..core.tensor import Tensor
from . import names, rebuild
from .unpickler import Unpickler

_lock = Lock()
_added: dict[str, Any] = {}


def add_safe_globals(safe_globals: list) -> None:
    """Allow these classes and functions in files loaded with `weights_only=True`.

    Each is the object itself or a pair (object, name in the file). A file can call what is listed here with any arguments.
    """
    with _lock:
        _added.update(_named(safe_globals))


def get_safe_globals() -> list:
    """What `add_safe_globals` has allowed."""
    return [obj for obj in _added.values()]


def clear_safe_globals() -> None:
    """Forget what `add_safe_globals` has allowed."""
    with _lock:
        _added.clear()


@contextlib.contextmanager
def safe_globals(safe_globals: list) -> Iterator[None]:
    """`add_safe_globals` inside a `with` block."""
    before = dict(_added)
    add_safe_globals(safe_globals)
    try:
        yield
    finally:
        with _lock:
            _added.clear()
            _added.update(before)


def _named(objects: list) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for item in objects:
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], str):
            named[item[1]] = item[0]
            continue
        if not callable(item):
            raise TypeError(f"add_safe_globals: expected classes, functions or pairs (object, name); received {item!r}")
        named[f"{item.__module__}.{item.__qualname__}"] = item
        torch_name = names.torch_name(item)
        if torch_name:
            named[".".join(torch_name)] = item
    return named


# the default allow-list beside PyTorch's own names


def _encode(text: Any, encoding: Any = "utf-8") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise UnpicklingError(f"load: expected text to encode as latin1; received {type(text).__name__} and {encoding!r}")
    return codecs.encode(text, encoding)


def _bytearray(*args: Any) -> bytearray:
    if args and not isinstance(args[0], (bytes, str)):  # a number would be a size, as large as the file likes
        raise UnpicklingError(f"load: expected bytes for a bytearray; received {type(args[0]).__name__}")
    return bytearray(*args)


_PLAIN: dict[str, Callable] = {
    "collections.OrderedDict": OrderedDict, "collections.Counter": Counter, "builtins.set": set, "builtins.frozenset": frozenset,
    "builtins.complex": complex, "builtins.bytearray": _bytearray, "_codecs.encode": _encode,
}


def _find(module: str, name: str) -> Any:
    """The allowed object of this name, or None."""
    full = f"{names.PYTHON2.get(module, module)}.{name}"
    if full in _added:
        return _added[full]
    return _PLAIN.get(full) or names.fixed().get(full)


def _is_added(obj: Any) -> bool:
    return any(obj is known for known in _added.values())


def _find_global(module: str, name: str) -> Any:
    found = _find(module, name)
    if found is None:
        raise UnpicklingError(
            f"Weights only load failed. GLOBAL {module}.{name} was not an allowed global by default: "
            f"expected tensors, containers and numbers; received a file that asks for `{module}.{name}`. "
            "Nothing was executed. If you trust the file, load it with weights_only=False, or allow this name: "
            f"torch.serialization.add_safe_globals([{name}])")
    return found


def _is_callable(function: Any) -> bool:
    known = names.fixed()
    tensor_names = (f"torch._utils.{name}" for name in names.REBUILD)
    allowed = [*_PLAIN.values(), *(known[name] for name in tensor_names), known["torch._tensor._rebuild_from_type_v2"],
               known["torch.serialization._get_layout"], known["torch.Size"], known["torch.device"]]
    return any(function is f for f in allowed) or _is_added(function)


def _call(function: Any, args: tuple) -> Any:
    if not _is_callable(function):
        raise UnpicklingError(f"Weights only load failed. Expected an allowed function to call; received {function!r}")
    return function(*args)


def _new(cls: Any, args: tuple) -> Any:
    parameter = names.fixed()["torch.nn.parameter.Parameter"]
    if cls in (OrderedDict, Counter, set, frozenset) or cls is parameter and all(isinstance(a, (Tensor, bool)) for a in args):
        return cls(*args)
    if isinstance(cls, type) and _is_added(cls):
        return cls.__new__(cls, *args)
    raise UnpicklingError(f"Weights only load failed. Expected an allowed class to make an instance of; received {cls!r}")


def _build(instance: Any, state: Any) -> None:
    kind = type(instance)
    if _is_added(kind) and hasattr(kind, "__setstate__"):
        instance.__setstate__(state)
    elif kind in (OrderedDict, names.fixed()["torch.nn.parameter.Parameter"]) or _is_added(kind):
        rebuild.set_state(instance, state)
    else:
        raise UnpicklingError(f"Weights only load failed. Expected an instance whose state may be set; received {kind.__name__}")


def reader(data: Any, persistent_load: Callable, position: int = 0) -> Unpickler:
    """An unpickler over `data` that keeps to the allow-list."""
    return Unpickler(data, _find_global, _call, _new, _build, persistent_load, position)


def load(data: Any, persistent_load: Callable) -> Any:
    return reader(data, persistent_load).load()


def unsafe_globals(data: Any) -> list[str]:
    """The globals in a pickle that are not on the allow-list; nothing is built."""
    import pickletools

    found: dict[str, None] = {}
    strings: list[str] = []  # what STACK_GLOBAL may refer to; the memo is followed too
    memo: dict[int, str] = {}
    for opcode, argument, _ in pickletools.genops(bytes(data)):
        if opcode.name in ("GLOBAL", "INST"):
            module, name = str(argument).split(" ", 1)
        elif opcode.name == "STACK_GLOBAL":
            module, name = strings[-2:]
        else:
            _follow(opcode.name, argument, strings, memo)
            continue
        if _find(module, name) is None:
            found[f"{module}.{name}"] = None
    return list(found)


def _follow(operation: str, argument: Any, strings: list[str], memo: dict[int, str]) -> None:
    if "UNICODE" in operation:
        strings.append(argument)
    elif operation == "MEMOIZE":
        memo[len(memo)] = strings[-1] if strings else ""
    elif operation in ("PUT", "BINPUT", "LONG_BINPUT"):
        memo[argument] = strings[-1] if strings else ""
    elif operation in ("GET", "BINGET", "LONG_BINGET"):
        strings.append(memo.get(argument, ""))


