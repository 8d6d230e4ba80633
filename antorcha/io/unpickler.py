"""A pickle reader that builds plain data and nothing else.

Python's own unpickler calls whatever a pickle names; a checkpoint from elsewhere must not have that power. This is the
pickle machine of PEP 307 and PEP 3154 written out, small enough to be read whole: it builds numbers, strings, tuples,
lists, dicts and sets by itself, and anything else only by calling an object that `find_global` handed out. Functions
are called, and state is set, only for objects on the allow-list; a global's attributes can never be changed.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

_MARK = object()


class Unpickler:
    """Reads one pickle out of `data`, from `position` on; after `load`, `position` is just behind it.

    `find_global(module, name)` returns the object for a global or raises; `call(function, args)` applies one such
    object; `new(cls, args)` makes an instance and `build(instance, state)` sets its state.
    `persistent_load(pid)` stands for what lies outside the pickle (storages).
    """

    def __init__(self, data, find_global: Callable, call: Callable, new: Callable, build: Callable,
                 persistent_load: Callable, position: int = 0, encoding: str = "utf-8"):
        self._data = memoryview(data)
        self.position = position
        self._find_global, self._call, self._new, self._build = find_global, call, new, build
        self._persistent_load, self._encoding = persistent_load, encoding
        self._stack: list = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        steps = _STEPS
        try:
            while True:
                opcode = self._data[self.position]
                self.position += 1
                if opcode == 0x2E:  # STOP
                    break
                step = steps.get(opcode)
                if step is None:
                    raise UnpicklingError(f"load: expected a pickle of plain data; received the operation {bytes([opcode])!r}")
                step(self)
            (value,) = self._stack
        except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error, UnicodeError, OverflowError,
                RecursionError) as error:
            raise UnpicklingError(
                f"load: the pickle is damaged at byte {self.position} ({type(error).__name__}: {error})") from error
        if value is _MARK:
            raise UnpicklingError("load: the pickle is damaged: it ends in the middle of a list")
        return value

    # reading

    def _bytes(self, count: int) -> memoryview:
        start, end = self.position, self.position + count
        if count < 0 or end > len(self._data):
            raise UnpicklingError(f"load: the pickle is cut short: {count} bytes expected at byte {start}")
        self.position = end
        return self._data[start:end]

    def _number(self, form: struct.Struct) -> int:
        return form.unpack(self._bytes(form.size))[0]

    def _line(self) -> bytes:
        data, start = self._data, self.position
        end = start
        while data[end] != 0x0A:
            end += 1
        self.position = end + 1
        return bytes(data[start:end])

    # the stack

    def _push(self, value) -> None:
        self._stack.append(value)

    def _pop(self):
        value = self._stack.pop()
        if value is _MARK:
            raise UnpicklingError("load: the pickle is damaged: a value is missing")
        return value

    def _pop_mark(self) -> list:
        stack = self._stack
        at = len(stack) - 1
        while stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise UnpicklingError("load: the pickle is damaged: a mark is missing")
        items = stack[at + 1 :]
        del stack[at:]
        return items

    def _top(self, *types):
        value = self._stack[-1]
        if not isinstance(value, types):
            raise UnpicklingError(f"load: the pickle is damaged: expected {types[0].__name__}; received {type(value).__name__}")
        return value

    def _text(self, raw) -> Any:
        return bytes(raw) if self._encoding == "bytes" else str(raw, self._encoding)

    # operations

    def _tuple(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(items)))

    def _set_items(self, items: list) -> None:
        target = self._top(dict)
        if len(items) % 2:
            raise UnpicklingError("load: the pickle is damaged: a key without a value")
        for key, value in zip(items[::2], items[1::2]):
            target[key] = value

    def _append(self, items: list) -> None:
        self._top(list).extend(items)

    def _add(self, items: list) -> None:
        self._top(set).update(items)

    def _global(self, module: str, name: str) -> None:
        self._push(self._find_global(module, name))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise UnpicklingError("load: the pickle is damaged: the name of a global is no string")
        self._global(module, name)

    def _reduce(self) -> None:
        args, function = self._pop(), self._pop()
        if not isinstance(args, tuple):
            raise UnpicklingError("load: the pickle is damaged: the arguments of a call are no tuple")
        self._push(self._call(function, args))

    def _new_object(self) -> None:
        args, cls = self._pop(), self._pop()
        if not isinstance(args, tuple):
            raise UnpicklingError("load: the pickle is damaged: the arguments of a constructor are no tuple")
        self._push(self._new(cls, args))

    def _set_state(self) -> None:
        state = self._pop()
        self._build(self._stack[-1], state)

    def _protocol(self) -> None:
        version = self._bytes(1)[0]
        if version > 5:
            raise UnpicklingError(f"load: expected a pickle protocol up to 5; received {version}")

    def _integer(self, line: bytes):
        return {b"00": False, b"01": True}.get(line) if line in (b"00", b"01") else int(line)

    def _memoize(self, index: int) -> None:
        value = self._stack[-1]
        if value is _MARK:
            raise UnpicklingError("load: the pickle is damaged: a value is missing")
        self._memo[index] = value


_U2, _U4, _U8 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
_I4, _F8 = struct.Struct("<i"), struct.Struct(">d")


def _byte(u: Unpickler) -> int:
    return u._bytes(1)[0]


def _long(raw) -> int:
    return int.from_bytes(raw, "little", signed=True)


def _quoted(line: bytes) -> bytes:
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"'\"":
        raise UnpicklingError("load: the pickle is damaged: a string without quotes")
    return codecs.escape_decode(line[1:-1])[0]


# One line per operation, by its byte in the file.
_STEPS: dict[int, Callable[[Unpickler], None]] = {key[0]: step for key, step in {
    b"\x80": lambda u: u._protocol(),
    b"\x95": lambda u: u._bytes(8) and None,
    b"(": lambda u: u._push(_MARK),
    b"0": lambda u: u._stack.pop() and None,
    b"1": lambda u: u._pop_mark() and None,
    b"2": lambda u: u._push(u._stack[-1]),
    # constants
    b"N": lambda u: u._push(None),
    b"\x88": lambda u: u._push(True),
    b"\x89": lambda u: u._push(False),
    b"I": lambda u: u._push(u._integer(u._line())),
    b"L": lambda u: u._push(int(u._line().rstrip(b"L"))),
    b"J": lambda u: u._push(u._number(_I4)),
    b"K": lambda u: u._push(_byte(u)),
    b"M": lambda u: u._push(u._number(_U2)),
    b"\x8a": lambda u: u._push(_long(u._bytes(_byte(u)))),
    b"\x8b": lambda u: u._push(_long(u._bytes(u._number(_I4)))),
    b"F": lambda u: u._push(float(u._line())),
    b"G": lambda u: u._push(u._number(_F8)),
    b"S": lambda u: u._push(u._text(_quoted(u._line()))),
    b"T": lambda u: u._push(u._text(u._bytes(u._number(_I4)))),
    b"U": lambda u: u._push(u._text(u._bytes(_byte(u)))),
    b"V": lambda u: u._push(str(u._line(), "raw-unicode-escape")),
    b"X": lambda u: u._push(str(u._bytes(u._number(_U4)), "utf-8", "surrogatepass")),
    b"\x8c": lambda u: u._push(str(u._bytes(_byte(u)), "utf-8", "surrogatepass")),
    b"\x8d": lambda u: u._push(str(u._bytes(u._number(_U8)), "utf-8", "surrogatepass")),
    b"B": lambda u: u._push(bytes(u._bytes(u._number(_U4)))),
    b"C": lambda u: u._push(bytes(u._bytes(_byte(u)))),
    b"\x8e": lambda u: u._push(bytes(u._bytes(u._number(_U8)))),
    b"\x96": lambda u: u._push(bytearray(u._bytes(u._number(_U8)))),
    # containers
    b")": lambda u: u._push(()),
    b"t": lambda u: u._push(tuple(u._pop_mark())),
    b"\x85": lambda u: u._tuple(1),
    b"\x86": lambda u: u._tuple(2),
    b"\x87": lambda u: u._tuple(3),
    b"]": lambda u: u._push([]),
    b"l": lambda u: u._push(u._pop_mark()),
    b"a": lambda u: u._append([u._pop()]),
    b"e": lambda u: u._append(u._pop_mark()),
    b"}": lambda u: u._push({}),
    b"d": lambda u: _dict(u),
    b"s": lambda u: u._set_items([u._pop(), u._pop()][::-1]),
    b"u": lambda u: u._set_items(u._pop_mark()),
    b"\x8f": lambda u: u._push(set()),
    b"\x90": lambda u: u._add(u._pop_mark()),
    b"\x91": lambda u: u._push(frozenset(u._pop_mark())),
    # the memo
    b"p": lambda u: u._memoize(int(u._line())),
    b"q": lambda u: u._memoize(_byte(u)),
    b"r": lambda u: u._memoize(u._number(_U4)),
    b"\x94": lambda u: u._memoize(len(u._memo)),
    b"g": lambda u: u._push(u._memo[int(u._line())]),
    b"h": lambda u: u._push(u._memo[_byte(u)]),
    b"j": lambda u: u._push(u._memo[u._number(_U4)]),
    # what only the allow-list gives
    b"c": lambda u: u._global(u._line().decode(), u._line().decode()),
    b"\x93": lambda u: u._stack_global(),
    b"R": lambda u: u._reduce(),
    b"\x81": lambda u: u._new_object(),
    b"b": lambda u: u._set_state(),
    b"Q": lambda u: u._push(u._persistent_load(u._pop())),
}.items()}


def _dict(u: Unpickler) -> None:
    items = u._pop_mark()
    u._push({})
    u._set_items(items)
