"""Modules that hold modules or parameters: in a row, in a list, by name."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from itertools import chain, islice

import antorcha as torch

from ..parameter import Parameter
from .module import Module, _addindent, _typename

__all__ = ["Container", "Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"]


class Container(Module):
    """An old base class of containers, kept for scripts that name it."""

    def __init__(self, **kwargs):
        super().__init__()
        for name, module in kwargs.items():
            self.add_module(name, module)


def _position(what, index, length: int) -> int:
    index = operator.index(index)
    if not -length <= index < length:
        raise IndexError(f"{what}: index {index} is out of range; expected {-length} to {length - 1}")
    return index % length


class _Numbered(Module):
    """Submodules whose names are their positions."""

    def _at(self, index) -> str:
        """The name of the module at a position, which may count from the end."""
        return next(islice(self._modules, _position(type(self).__name__, index, len(self)), None))

    def _place(self, index) -> Module:
        """The module at a position."""
        try:
            return list(self._modules.values())[index]
        except IndexError:
            return self._modules[self._at(index)]       # which says what is wrong

    def _renumber(self, modules) -> None:
        object.__setattr__(self, "_modules", {str(i): module for i, module in enumerate(modules)})

    def __setitem__(self, index, module: Module) -> None:
        setattr(self, self._at(index), module)

    def __delitem__(self, index) -> None:
        for name in list(self._modules)[index] if isinstance(index, slice) else [self._at(index)]:
            delattr(self, name)
        self._renumber(self._modules.values())

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules.values())

    def __dir__(self):
        return [name for name in super().__dir__() if not name.isdigit()]

    def append(self, module: Module):
        """Add a module at the end."""
        return self.extend((module,))

    def insert(self, index: int, module: Module):
        """Put a module before position `index`."""
        if not isinstance(module, Module):
            raise AssertionError(f"module should be of type: {Module}; received {type(module).__name__}")
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def extend(self, modules: Iterable[Module]):
        """Add modules at the end."""
        for n, module in enumerate(list(modules), len(self)):
            self.add_module(str(n), module)
        return self

    def __iadd__(self, modules):
        return self.extend(modules)

    def pop(self, key):
        """Take out the module(s) at a position or slice and return them."""
        taken = self[key]
        del self[key]
        return taken


class Sequential(_Numbered):
    """Modules called one after the other, each with the result of the one before.

    `Sequential(a, b, c)` or, with names, `Sequential(OrderedDict(first=a, second=b))`.
    """

    def __init__(self, *args):
        super().__init__()
        named = args[0].items() if len(args) == 1 and isinstance(args[0], OrderedDict) else ((str(i), m) for i, m in enumerate(args))
        for name, module in named:
            self.add_module(name, module)

    def forward(self, input):
        for module in self._modules.values():
            input = module(input)
        return input

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(OrderedDict(list(self._modules.items())[index]))
        return self._place(index)

    def insert(self, index: int, module: Module):
        if not isinstance(module, Module):
            raise AssertionError(f"module should be of type: {Module}; received {type(module).__name__}")
        if not -len(self) <= index <= len(self):
            raise IndexError(f"Index out of range: {index}; expected {-len(self)} to {len(self)}")
        return super().insert(index, module)

    def __add__(self, other) -> Sequential:
        if not isinstance(other, Sequential):
            raise ValueError(f"Sequential + other: expected another Sequential; received {type(other).__name__}")
        return Sequential(*self, *other)

    def __iadd__(self, other):
        if not isinstance(other, Sequential):
            raise ValueError(f"Sequential += other: expected another Sequential; received {type(other).__name__}")
        return self.extend(other)

    def __mul__(self, times: int) -> Sequential:
        return Sequential(*self._repeated(times))

    __rmul__ = __mul__

    def __imul__(self, times: int):
        return self.extend(self._repeated(times)[len(self):])

    def _repeated(self, times) -> list:
        if not isinstance(times, int):
            raise TypeError(f"Sequential * times: expected an int; received {type(times).__name__}")
        if times <= 0:
            raise ValueError(f"Sequential * times: expected at least 1; received {times}")
        return list(self) * times


class ModuleList(_Numbered):
    """A list of modules whose parameters belong to the module that holds it. It has no `forward`."""

    def __init__(self, modules: Iterable[Module] | None = None):
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._place(index)

    def extend(self, modules):
        if not isinstance(modules, Iterable):
            raise TypeError(f"ModuleList.extend should be called with an iterable, but got {type(modules).__name__}")
        return super().extend(modules)

    def __add__(self, other) -> ModuleList:
        return ModuleList(chain(self, other))

    def __repr__(self) -> str:
        """Runs of modules that print the same are shown once, with their number."""
        if not len(self):
            return self._get_name() + "()"
        runs: list[list] = []
        for i, text in enumerate(map(repr, self)):
            if runs and runs[-1][2] == text:
                runs[-1][1] = i
            else:
                runs.append([i, i, text])
        lines = [f"({a}): {text}" if a == b else f"({a}-{b}): {b - a + 1} x {text}" for a, b, text in runs]
        return f"{self._get_name()}(\n  " + "\n  ".join(_addindent(line, 2) for line in lines) + "\n)"


class ModuleDict(Module):
    """Modules by name, in the order they were added."""

    def __init__(self, modules: Mapping[str, Module] | None = None):
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Module:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def clear(self) -> None:
        self._modules.clear()

    def pop(self, key: str) -> Module:
        return self._modules.pop(key)

    def keys(self):
        return self._modules.keys()

    def items(self):
        return self._modules.items()

    def values(self):
        return self._modules.values()

    def update(self, modules) -> None:
        """Take over the modules of a mapping or of (key, module) pairs."""
        for key, value in _pairs("ModuleDict.update", modules):
            self[key] = value


def _pairs(what: str, source):
    if not isinstance(source, Iterable):
        raise TypeError(f"{what} should be called with an iterable of key/value pairs, but got {type(source).__name__}")
    if hasattr(source, "items"):
        return list(source.items())
    pairs = []
    for i, pair in enumerate(source):
        if not isinstance(pair, Iterable):
            raise TypeError(f"{what}: element #{i} should be Iterable; is {type(pair).__name__}")
        pair = tuple(pair)
        if len(pair) != 2:
            raise ValueError(f"{what}: element #{i} has length {len(pair)}; 2 is required")
        pairs.append(pair)
    return pairs


def _as_parameter(value):
    return Parameter(value) if isinstance(value, torch.Tensor) and not isinstance(value, Parameter) else value


def _entry(name, value, type_of=_typename) -> str:
    """A line of a parameter container's repr; `type_of` names the type of a tensor."""
    if not isinstance(value, torch.Tensor):
        return f"  ({name}): Object of type: {type(value).__name__}"
    size = "x".join(str(n) for n in value.shape)
    place = f" ({value.device})" if value.device.type == "cuda" else ""
    kind = "Parameter" if isinstance(value, Parameter) else "Tensor"
    return f"  ({name}): {kind} containing: [{type_of(value)} of size {size}{place}]"


class ParameterList(Module):
    """A list whose tensors are parameters of the module that holds it. Tensors become Parameters; other values are kept as they are."""

    def __init__(self, values: Iterable | None = None):
        super().__init__()
        self._size = 0
        if values is not None:
            self.extend(values)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(getattr(self, str(i)) for i in range(*index.indices(len(self))))
        return getattr(self, str(_position("ParameterList", index, len(self))))

    def __setitem__(self, index: int, value) -> None:
        setattr(self, str(_position("ParameterList", index, len(self))), _as_parameter(value))

    def __len__(self) -> int:
        return self._size

    def __iter__(self):
        return iter(self[i] for i in range(len(self)))

    def __iadd__(self, values):
        return self.extend(values)

    def __dir__(self):
        return [name for name in super().__dir__() if not name.isdigit()]

    def append(self, value):
        """Add a value at the end."""
        self._size += 1
        self[-1] = value
        return self

    def extend(self, values):
        """Add values at the end."""
        if not isinstance(values, Iterable) or isinstance(values, torch.Tensor):
            raise TypeError(f"ParameterList.extend should be called with an iterable, but got {type(values).__name__}")
        for value in values:
            self.append(value)
        return self

    def extra_repr(self) -> str:
        return "\n".join(_entry(i, value, operator.attrgetter("dtype")) for i, value in enumerate(self))

    def __call__(self, *args, **kwargs):
        raise RuntimeError("ParameterList should not be called.")


class ParameterDict(Module):
    """A dictionary whose tensors are parameters of the module that holds it. Tensors become Parameters; other values are kept."""

    def __init__(self, parameters=None):
        super().__init__()
        self._keys: dict = {}
        if parameters is not None:
            self.update(parameters)

    @staticmethod
    def _attribute(key) -> str:
        if not isinstance(key, str):
            raise TypeError(f"ParameterDict: keys are str because each is an attribute's name; received {key!r}")
        return key

    def __getitem__(self, key: str):
        return getattr(self, self._attribute(key))

    def __setitem__(self, key: str, value) -> None:
        self._keys[key] = None
        setattr(self, self._attribute(key), _as_parameter(value))

    def __delitem__(self, key: str) -> None:
        del self._keys[key]
        delattr(self, self._attribute(key))

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self):
        return iter(self._keys)

    def __reversed__(self):
        return reversed(list(self._keys))

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def copy(self) -> ParameterDict:
        """A new dictionary with the same parameters."""
        return ParameterDict(OrderedDict(self.items()))

    def setdefault(self, key: str, default=None):
        """The value of `key`, which becomes `default` if there was none."""
        if key not in self:
            self[key] = default
        return self[key]

    def clear(self) -> None:
        for key in list(self):
            del self[key]

    def pop(self, key: str):
        value = self[key]
        del self[key]
        return value

    def popitem(self):
        """Take out the pair added last."""
        key = next(reversed(self._keys))
        return key, self.pop(key)

    def get(self, key: str, default=None):
        return self[key] if key in self else default

    @classmethod
    def fromkeys(cls, keys, default=None) -> ParameterDict:
        """The same default for all keys."""
        return cls((key, default) for key in keys)

    def keys(self):
        return self._keys.keys()

    def items(self):
        return ((key, self[key]) for key in self._keys)

    def values(self):
        return (self[key] for key in self._keys)

    def update(self, parameters) -> None:
        """Take over the values of a mapping or of (key, value) pairs. A plain dict is taken in the order of its keys."""
        pairs = _pairs("ParameterDict.update", parameters)
        if isinstance(parameters, dict) and not isinstance(parameters, OrderedDict):
            pairs = sorted(pairs)
        for key, value in pairs:
            self[key] = value

    def extra_repr(self) -> str:
        return "\n".join(_entry(key, value) for key, value in self.items())

    def __or__(self, other) -> ParameterDict:
        result = self.copy()
        result.update(other)
        return result

    def __ror__(self, other) -> ParameterDict:
        result = other.copy()
        result.update(self)
        return result

    def __ior__(self, other):
        self.update(other)
        return self

    def __call__(self, *args, **kwargs):
        raise RuntimeError("ParameterDict should not be called.")
