"""What the interpreter tells of code and classes, and code that is written here."""

from __future__ import annotations

import ctypes
import dis
import functools
import re
import sys
import types
from collections import OrderedDict, defaultdict, deque

CONTAINERS = (list, dict, set, frozenset, tuple, deque, OrderedDict, defaultdict)
_VERSION_TAG = 384      # where CPython keeps a type's version tag (type objects of 64-bit builds, 3.10 to 3.14)


class Unprovable(Exception):
    """The function depends on something that cannot be compared from call to call."""


# -- classes ----------------------------------------------------------------------------------------------------

def version_of(cls: type) -> ctypes.c_uint32:
    """Where the interpreter counts the changes of a class and its bases; 0 while none are known."""
    return ctypes.c_uint32.from_address(id(cls) + _VERSION_TAG)


@functools.cache
def versions_work() -> bool:
    """Whether `version_of` is where this interpreter keeps it: tried on a class that is changed."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8 \
            or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    base = type("Base", (), {"x": 1})
    child = type("Child", (base,), {})
    seen = set()
    for value in range(4):
        if child.x != (value or 1):
            return False
        tag = version_of(child).value
        if tag == 0 or tag in seen or tag != version_of(child).value:
            return False
        seen.add(tag)
        base.x = value + 1
        if version_of(child).value == tag:
            return False
    return True


class _Plain:
    pass


class _Bare:
    __slots__ = ()


class _Weak:
    __slots__ = ("__weakref__",)


_WEAKREF = _Weak.__basicsize__ - _Bare.__basicsize__
_DICT = _Plain.__basicsize__ - _Bare.__basicsize__ - _WEAKREF


def hides_nothing(cls: type) -> bool:
    """Whether instances have no state but attributes, slots, and the contents of a container: all of the class is written in Python."""
    for base in cls.__mro__[:-1]:
        if base in CONTAINERS or base in (int, float, str, BaseException) or issubclass(base, BaseException):
            return issubclass(cls, CONTAINERS)
        if not base.__flags__ & (1 << 9) or type(base.__dict__.get("__dict__")) not in (types.GetSetDescriptorType, type(None)):
            return False
    size = _Bare.__basicsize__
    for base in cls.__mro__[:-1]:
        slots = base.__dict__.get("__slots__", ())
        slots = (slots,) if isinstance(slots, str) else slots
        size += 8 * len([s for s in slots if s not in ("__dict__", "__weakref__")])
        size += _WEAKREF * ("__weakref__" in base.__dict__) + _DICT * ("__dict__" in base.__dict__)
    return cls.__basicsize__ <= size


def in_python(cls: type) -> bool:
    """Whether a class was made by a class statement."""
    return bool(cls.__flags__ & (1 << 9)) and isinstance(cls.__dict__.get("__module__"), str)


def is_own(x) -> bool:
    """Whether a class or module belongs to this package."""
    name = x.__name__ if type(x) is types.ModuleType else x.__module__
    return type(name) is str and (name == "antorcha" or name.startswith("antorcha."))


# -- code -------------------------------------------------------------------------------------------------------

_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"}
_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD"}
_SKIP = {"CACHE", "PUSH_NULL", "PRECALL", "NOP", "EXTENDED_ARG"}


@functools.lru_cache(4096)
def globals_read(code: types.CodeType) -> tuple[tuple[str, tuple], ...]:
    """Each global in the code with the names of attributes that follow it: `a.b.c` as ("a", ("b", "c"))."""
    found, name, chain = {}, None, []
    for i in dis.get_instructions(code):
        if i.opname in _SKIP:
            continue
        if i.opname == "IMPORT_NAME":
            raise Unprovable(f"{code.co_name} imports {i.argval} when it runs")
        if i.opname == "MATCH_CLASS":
            raise Unprovable(f"{code.co_name} matches a class, which reads attributes that are not named in the code")
        if name is not None and i.opname in _ATTRIBUTE:
            chain.append(i.argval)
            continue
        if name is not None:
            found[name, tuple(chain)] = None
            name = None
        if i.opname in _GLOBAL:
            name, chain = i.argval, []
    return tuple(found)


def nested(code: types.CodeType):
    """The code of functions defined within."""
    for c in code.co_consts:
        if type(c) is types.CodeType:
            yield c
            yield from nested(c)


def written(name: str, parameters: str, lines: list[str], space: dict):
    """The function with these lines. What it takes from `space` are defaults of parameters: quick to read, however many they are."""
    body = "\n    ".join(lines)
    constants = [n for n in dict.fromkeys(re.findall(r"[A-Za-z_]\w*", body)) if n in space]
    exec(f"def {name}({parameters}, {', '.join(f'{n}={n}' for n in constants)}):\n    {body}\n", space)
    return space.pop(name)
