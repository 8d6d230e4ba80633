"""Words of memory that tell whether anything has changed.

To compare hundreds of attributes costs Python tens of microseconds; to see that nobody has touched them takes one look at some hundred
words: CPython counts the changes of every class and, up to 3.12, every dict (PEP 509); from 3.13 on we count those of the dicts that we
ask it to watch; lists and slots are arrays of addresses. A `Witness` is a list of (address of a word, what it was), read by one native
loop. Where all are as they were, all values behind them are the same objects.

Words are read in groups. A group begins at an object that is alive, and each word is reached through words of the group that have been
checked before, so that no memory is read that has been given back. Where an interpreter keeps what is looked for is tried out once
(`works`); where that fails, there are no witnesses, and values are compared one by one.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import sys

import numpy as np

from ..runtime import jit
from .code import Unprovable, version_of, versions_work

TYPE, SIZE, TAG, ITEMS, USED, CELL, DIGITS = 8, 16, 24, 24, 24, 16, 24      # offsets: the size of a container, the tag of a dict ...
_CLASS_TAG = 384
_READ = """
define i64 @changed(ptr %rows, i64 %n) {
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %same]
  %done = icmp eq i64 %i, %n
  br i1 %done, label %all, label %look
look:
  %at = shl i64 %i, 1
  %row = getelementptr i64, ptr %rows, i64 %at
  %address = load i64, ptr %row
  %then.at = getelementptr i64, ptr %row, i64 1
  %then = load i64, ptr %then.at
  %where = inttoptr i64 %address to ptr
  %now = load i64, ptr %where
  %equal = icmp eq i64 %now, %then
  br i1 %equal, label %same, label %differs
same:
  %next = add i64 %i, 1
  br label %loop
differs:
  ret i64 %i
all:
  ret i64 -1
}
"""


@functools.cache
def reader():
    """`changed(address of rows, count)`: the number of the first row whose word is another, or -1. No other thread of Python runs
    meanwhile."""
    code = jit.load_module(_READ, lambda: _READ)
    return ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(code["changed"])


def word(address: int) -> int:
    return ctypes.c_int64.from_address(address).value


# -- dicts ------------------------------------------------------------------------------------------------------

_BITS, _LEFT, _HASH = 14, 1, 0x9E37_79B9_7F4A_7C15       # of a place in the table; where a dict has been; the factor of a hash
_PLACES = 1 << _BITS
_WATCH = """
@table = global ptr null

define i32 @watch(i32 %event, ptr %dict, ptr %key, ptr %value) {
entry:
  %table = load ptr, ptr @table
  %address = ptrtoint ptr %dict to i64
  %product = mul i64 %address, HASH
  %first = lshr i64 %product, SHIFT
  br label %look
look:
  %at = phi i64 [%first, %entry], [%next, %pass]
  %row = getelementptr {i64, i64}, ptr %table, i64 %at
  %there = load i64, ptr %row
  %found = icmp eq i64 %there, %address
  br i1 %found, label %count, label %pass
pass:
  %following = add i64 %at, 1
  %next = and i64 %following, MASK
  %end = icmp eq i64 %there, 0
  br i1 %end, label %out, label %look
count:
  %counter = getelementptr {i64, i64}, ptr %row, i64 0, i32 1
  %counted = load i64, ptr %counter
  %more = add i64 %counted, 1
  store i64 %more, ptr %counter
  %gone = icmp eq i32 %event, 5
  br i1 %gone, label %leave, label %out
leave:
  store i64 LEFT, ptr %row
  br label %out
out:
  ret i32 0
}
"""


class _Watcher:
    """Counts the changes of dicts where the interpreter does not (from 3.13 on), but calls us (`PyDict_AddWatcher`, from 3.12 on).

    What it calls is native: it looks the dict up in a table of (address, count), open addressing with linear steps. A count only grows,
    also where another dict takes the place of one that is gone, so nobody who has read it takes one for the other."""

    def __init__(self):
        words = {"HASH": _HASH - (1 << 64), "SHIFT": 64 - _BITS, "MASK": _PLACES - 1, "LEFT": _LEFT}
        ir = _WATCH
        for name, value in words.items():
            ir = ir.replace(name, str(value))
        code = jit.load_module(ir, lambda: ir)
        self.table = np.zeros((_PLACES, 2), np.int64)
        ctypes.c_void_p.from_address(code["table"]).value = self.table.ctypes.data
        api = ctypes.pythonapi
        self._watch = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.py_object)(("PyDict_Watch", api))
        self._number = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(("PyDict_AddWatcher", api))(code["watch"])
        forget = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int)(("PyDict_ClearWatcher", api))
        atexit.register(forget, self._number)       # the interpreter takes dicts down after our code
        self.used = 0

    def count_of(self, d: dict) -> int:
        """Where the changes of `d` are counted."""
        place, free = (id(d) * _HASH & (1 << 64) - 1) >> 64 - _BITS, None
        while (there := self.table[place, 0]) != id(d) and there:
            free = place if free is None and there == _LEFT else free
            place = (place + 1) % _PLACES
        if not there:
            self.used += free is None
            if self.used > _PLACES // 2:
                raise Unprovable(f"more than {_PLACES // 2} dicts are watched")
            place = place if free is None else free
            self.table[place, 0] = id(d)
            self._watch(self._number, d)
        return self.table.ctypes.data + 16 * place + 8


_watcher = functools.cache(_Watcher)


def _count_of(d: dict) -> int:
    return id(d) + TAG if sys.version_info < (3, 13) else _watcher().count_of(d)


class Witness:
    """Rows of (address, word), in groups that have an owner each."""

    def __init__(self):
        self._rows: list[tuple[int, int]] = []
        self._groups: list[tuple] = []      # (owner, first row)

    def group(self, owner) -> None:
        """What is added from now on belongs to this owner."""
        self._groups.append((owner, len(self._rows)))

    def close(self) -> None:
        self.table = np.array(self._rows, np.int64).reshape(-1, 2)
        self.address, self.count = self.table.ctypes.data, len(self.table)

    def changed(self) -> list:
        """The owners of groups with a word that is another now."""
        ends = [first for _, first in self._groups[1:]] + [self.count]
        return [owner for (owner, first), end in zip(self._groups, ends) if reader()(self.address + 16 * first, end - first) >= 0]

    # -- what is looked at --------------------------------------------------------------------------------------

    def add(self, address: int, value: int | None = None) -> None:
        """The word at an address; it has to be `value`, if given, and to stay what it is, otherwise."""
        self._rows.append((address, word(address) if value is None else value))

    def behind(self, kind: str, x) -> None:
        """What changes whenever `x` does: a "dict", a "list", the attributes of an object ("vars"), its "type", the content of a
        "cell", the code and defaults of a "function", the "class" with all it inherits, whether a container is "empty", what is in the
        "slot of" (object, name)."""
        if kind == "dict":
            self.add(_count_of(x))
        elif kind == "vars":
            self.add(_pointer_to_dict(x), id(vars(x)))
            self.add(_count_of(vars(x)))
        elif kind == "type":
            self.add(id(x) + TYPE)
        elif kind == "cell":
            self.add(id(x) + CELL)
        elif kind == "class":
            self.add(id(x) + _CLASS_TAG)
        elif kind == "empty":
            self.add(id(x) + (USED if isinstance(x, set) else SIZE), 0)
        elif kind == "function":
            for at in _offsets_in_functions():
                self.add(id(x) + at)
        elif kind == "slot of":
            self.slot(*x)
        else:
            assert kind == "list", kind
            self.add(id(x) + SIZE)
            self.add(id(x) + ITEMS)
            items = word(id(x) + ITEMS)
            for k in range(len(x)):
                self.add(items + 8 * k)

    def slot(self, x, name: str):
        """A slot of `x` has to go on referring to the object that it refers to."""
        value = getattr(x, name)
        self.add(id(x) + offset_of(type(x), name), id(value))
        return value

    def alone(self, x) -> None:
        """There has to be one reference to `x`."""
        self.add(id(x), 1)

    def number(self, x: int) -> None:
        """An int reached through the row before has to have the value of `x`."""
        self.add(id(x) + DIGITS)


def _pointer_to_dict(x) -> int:
    """Where `x` keeps the address of its dict."""
    d = id(vars(x))
    offset = type(x).__dictoffset__
    for at in ([offset] if offset > 0 else [-8 * k for k in range(1, 5)]):
        if word(id(x) + at) == d:
            return id(x) + at
    raise Unprovable(f"where a {type(x).__name__} keeps its attributes is not known")


@functools.cache
def offset_of(cls: type, name: str) -> int:
    """Where instances of a class have a slot."""
    x, mark = object.__new__(cls), object()
    setattr(x, name, mark)
    found = [at for at in range(SIZE, cls.__basicsize__, 8) if word(id(x) + at) == id(mark)]
    delattr(x, name)
    if hasattr(cls, "__del__"):
        x._capacity = 0     # it owns no memory
    if len(found) != 1:
        raise Unprovable(f"where a {cls.__name__} keeps its slots is not known")
    return found[0]


@functools.cache
def _offsets_in_functions() -> list[int]:
    """Where a function has its code, defaults and keyword defaults."""
    def f(a=object(), *, b=object()):       # noqa: B008
        return a, b

    size = type(f).__basicsize__
    found = [[at for at in range(SIZE, size, 8) if word(id(f) + at) == id(x)] for x in (f.__code__, f.__defaults__, f.__kwdefaults__)]
    if any(len(at) != 1 for at in found):
        raise Unprovable("where a function keeps its code is not known")
    return [at for at, in found]


# -- trying it out ----------------------------------------------------------------------------------------------

class _Attributes:
    pass


class _Slots:
    __slots__ = ("b", "a", "__weakref__")


def _store(x, value):
    x.a = value


@functools.cache
def works() -> bool:
    """Whether this interpreter keeps things where they are looked for, and counts what it has to."""
    if not versions_work() or sys.byteorder != "little":
        return False
    try:
        return _dicts_count() and _containers_show() and _objects_show()
    except (Unprovable, RuntimeError):      # no watcher of dicts is left
        return False


def _dicts_count() -> bool:
    """Every way of changing a dict or an attribute shows, and reading does not; also once the interpreter has specialised the code."""
    d, x = {"a": 1, "b": 2}, _Attributes()
    x.a = 0
    seen = Witness()
    for one in (d, vars(x)):
        seen.add(_count_of(one))
    seen.close()
    values = [object() for _ in range(64)]
    changes = [*[lambda v=v: _store(x, v) for v in values], *[lambda v=v: d.__setitem__("a", v) for v in values],
               lambda: d.update(c=1), lambda: d.pop("c"), lambda: d.setdefault("e", 3), lambda: d.popitem(), lambda: d.clear(),
               lambda: exec("f = 1", d), lambda: delattr(x, "a"), lambda: setattr(x, "z", 1), lambda: vars(x).update(q=1)]
    for change in changes:
        then = [word(address) for address, _ in seen._rows]
        d.get("a"), vars(x).get("a"), len(d), list(vars(x).values())
        if then != [word(address) for address, _ in seen._rows]:
            return False
        change()
        if then == [word(address) for address, _ in seen._rows]:
            return False
    return _pointer_to_dict(x) != 0


def _containers_show() -> bool:
    a, b = object(), object()
    items, cell = [a, b], (lambda: a).__closure__[0]
    base = word(id(items) + ITEMS)
    shows = word(base) == id(a) and word(base + 8) == id(b) and word(id(items) + SIZE) == 2 and word(id(cell) + CELL) == id(a)
    for one, none, at in (([1], [], SIZE), ({1: 1}, {}, SIZE), ({1, 2}, set(), USED)):
        shows = shows and word(id(one) + at) == len(one) and word(id(none) + at) == 0
    return shows


def _objects_show() -> bool:
    x, number, values = _Slots(), 0x7F12_3456_7890, [object()]
    x.a = x.b = values
    both = {offset_of(_Slots, "a"), offset_of(_Slots, "b")}
    shows = len(both) == 2 and all(word(id(x) + at) == id(values) for at in both)
    shows = shows and word(id(values[0])) == 1 and word(id(x) + TYPE) == id(_Slots) and word(id(x) + _Slots.__weakrefoffset__) == 0
    shows = shows and word(id(number) + DIGITS) == (number & (1 << 30) - 1) | number >> 30 << 32
    shows = shows and len(_offsets_in_functions()) == 3
    return shows and word(id(_Slots) + _CLASS_TAG) & 0xFFFFFFFF == version_of(_Slots).value
