"""Loads relocatable ELF object code (x86-64) into this process.

LLVM has a loader of its own, but needs tens of megabytes and a fifth of a second to be there at all; with this one,
a process whose kernels are all on disk never imports llvmlite.

The sections to load are laid out in one mapping: code first, then read-only data, then writable data on pages of their own.
Calls to outside functions go through stubs behind the code, so no distance is ever too far for 32 bits. Formats and
relocation types are those of the System V ABI, AMD64 supplement, chapters 4.1 to 4.4.
"""

from __future__ import annotations

import ctypes
import mmap
import struct

from .memory import map_pages, unmap_pages


class LoadError(Exception):
    """This object code cannot be loaded here (another format, an unknown relocation or symbol)."""


# ELF constants, by their names in the ABI without the prefix.
TYPE_REL, MACHINE_X86_64 = 1, 62
SECTION_SYMTAB, SECTION_RELA, SECTION_NOBITS, SECTION_REL = 2, 4, 8, 9
FLAG_WRITE, FLAG_ALLOC, FLAG_EXECINSTR, FLAG_TLS = 1, 2, 4, 0x400
INDEX_UNDEF, INDEX_ABS, INDEX_COMMON = 0, 0xFFF1, 0xFFF2
BIND_GLOBAL, BIND_WEAK = 1, 2
R_64, R_PC32, R_PLT32, R_GOTPCREL, R_32, R_32S, R_PC64, R_GOTPCRELX, R_REX_GOTPCRELX = 1, 2, 4, 9, 10, 11, 24, 41, 42

STUB = b"\xff\x25\x02\x00\x00\x00\x0f\x0b"  # jmp [rip + 2]; ud2: jumps to the address in the next 8 bytes
STUB_SIZE = 16

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")


class _Section:
    __slots__ = ("type", "flags", "offset", "size", "link", "info", "align", "entry", "place")

    def __init__(self, data: bytes, at: int):
        (_, self.type, self.flags, _, self.offset, self.size, self.link, self.info, self.align,
         self.entry) = _SECTION.unpack_from(data, at)
        self.place: int | None = None  # offset in the mapping


def load(data: bytes, resolve) -> dict[str, int]:
    """Addresses of the global functions and variables defined in an object file. The code stays for the life of the process.

    `resolve(name) -> address` is asked for symbols the object does not define. Raises LoadError.
    """
    try:
        sections, symbols = _parse(data)
    except (struct.error, IndexError, UnicodeDecodeError) as e:
        raise LoadError(f"damaged object file: {e}") from None
    outside = sorted({s[0] for s in symbols if s[1] == INDEX_UNDEF and s[0]})
    total, code_end, data_start = _layout(sections, len(outside))
    base = map_pages(total)
    if not base:
        raise LoadError("no memory to load code into")
    try:
        image = (ctypes.c_char * total).from_address(base)
        view = memoryview(image).cast("B")
        for s in sections:
            if s.place is not None and s.type != SECTION_NOBITS:
                view[s.place:s.place + s.size] = data[s.offset:s.offset + s.size]
        stubs = _write_stubs(view, base, code_end, outside, resolve)
        addresses = [_address(s, sections, base, stubs) for s in symbols]
        got = _Got(view, base, code_end + STUB_SIZE * len(outside), data_start)
        for s in sections:
            if s.type == SECTION_REL and sections[s.info].place is not None:
                raise LoadError("relocations without addend")
            if s.type == SECTION_RELA and sections[s.info].place is not None:
                _relocate(data, s, sections[s.info], view, base, addresses, symbols, stubs, got)
        _protect(base, data_start)
    except Exception as e:
        unmap_pages(base, total)
        if isinstance(e, (struct.error, IndexError, ValueError)):
            raise LoadError(f"damaged object file: {e}") from None
        raise
    return {name: address for (name, index, _, bind), address in zip(symbols, addresses)
            if bind in (BIND_GLOBAL, BIND_WEAK) and index != INDEX_UNDEF}


def _parse(data: bytes) -> tuple[list[_Section], list[tuple]]:
    """Sections, and symbols as (name, section index, value, binding)."""
    ident, kind, target, _, _, _, table, _, _, _, _, entry, count, _ = _HEADER.unpack_from(data)
    if ident[:6] != b"\x7fELF\x02\x01" or kind != TYPE_REL or target != MACHINE_X86_64:
        raise LoadError("not a relocatable ELF object for x86-64")
    sections = [_Section(data, table + i * entry) for i in range(count)]
    for s in sections:
        if s.flags & FLAG_TLS:
            raise LoadError("thread-local data")
        if s.type != SECTION_NOBITS and s.offset + s.size > len(data):
            raise LoadError("damaged object file: a section reaches beyond its end")
    symbols = []
    for s in sections:
        if s.type == SECTION_SYMTAB:
            names = sections[s.link].offset
            for at in range(s.offset, s.offset + s.size, _SYMBOL.size):
                name, info, _, index, value, _ = _SYMBOL.unpack_from(data, at)
                if index == INDEX_COMMON:
                    raise LoadError("a common symbol")
                start = names + name
                symbols.append((data[start:data.index(b"\0", start)].decode(), index, value, info >> 4))
    return sections, symbols


def _layout(sections: list[_Section], outside: int) -> tuple[int, int, int]:
    """Give each loaded section its place. Returns (bytes in all, where the stubs start, where writable data starts)."""
    loaded = [s for s in sections if s.flags & FLAG_ALLOC and s.size]
    end = 0

    def place(group) -> None:
        nonlocal end
        for s in group:
            align = max(s.align, 1)
            end = (end + align - 1) // align * align
            s.place = end
            end += s.size

    place(s for s in loaded if s.flags & FLAG_EXECINSTR)
    place(s for s in loaded if not s.flags & (FLAG_EXECINSTR | FLAG_WRITE))
    code_end = end = (end + 15) & -16
    end += STUB_SIZE * outside
    end += 8 * sum(s.size // _RELA.size for s in sections if s.type == SECTION_RELA)  # more than the table of addresses needs
    data_start = end = (end + mmap.PAGESIZE - 1) & -mmap.PAGESIZE
    place(s for s in loaded if s.flags & FLAG_WRITE and not s.flags & FLAG_EXECINSTR)
    return max(end, data_start), code_end, data_start


def _write_stubs(view, base: int, at: int, names: list[str], resolve) -> dict[str, tuple[int, int]]:
    """One stub for each outside symbol: name -> (address of the stub, the symbol's address)."""
    stubs = {}
    for name in names:
        target = resolve(name)
        if not target:
            raise LoadError(f"unknown symbol {name!r}")
        view[at:at + STUB_SIZE] = STUB + target.to_bytes(8, "little")
        stubs[name] = base + at, target
        at += STUB_SIZE
    return stubs


def _address(symbol: tuple, sections: list[_Section], base: int, stubs: dict) -> int:
    name, index, value, _ = symbol
    if index == INDEX_UNDEF:
        return stubs[name][1] if name else 0
    if index == INDEX_ABS:
        return value
    place = sections[index].place
    return base + place + value if place is not None else 0


class _Got:
    """The table of addresses that code reads through (global offset table), filled as it is needed."""

    def __init__(self, view, base: int, start: int, end: int):
        self.view, self.base, self.next, self.end = view, base, start, end
        self.entries: dict[int, int] = {}

    def entry(self, target: int) -> int:
        found = self.entries.get(target)
        if found is None:
            if self.next + 8 > self.end:
                raise LoadError("the table of addresses is full")
            self.view[self.next:self.next + 8] = target.to_bytes(8, "little")
            found = self.entries[target] = self.base + self.next
            self.next += 8
        return found


def _relocate(data: bytes, table: _Section, section: _Section, view, base: int, addresses: list[int], symbols: list[tuple],
              stubs: dict, got: _Got) -> None:
    for at in range(table.offset, table.offset + table.size, _RELA.size):
        offset, info, addend = _RELA.unpack_from(data, at)
        kind, symbol = info & 0xFFFFFFFF, info >> 32
        target = addresses[symbol]
        where = section.place + offset
        here = base + where
        if kind in (R_PC32, R_PLT32):
            if symbols[symbol][1] == INDEX_UNDEF:
                target = stubs[symbols[symbol][0]][0]
            _put(view, where, target + addend - here, 4, True)
        elif kind in (R_GOTPCREL, R_GOTPCRELX, R_REX_GOTPCRELX):
            _put(view, where, got.entry(target) + addend - here, 4, True)
        elif kind == R_64:
            _put(view, where, (target + addend) % (1 << 64), 8, False)
        elif kind == R_PC64:
            _put(view, where, target + addend - here, 8, True)
        elif kind in (R_32, R_32S):
            _put(view, where, target + addend, 4, kind == R_32S)
        else:
            raise LoadError(f"unknown relocation type {kind}")


def _put(view, where: int, value: int, size: int, signed: bool) -> None:
    try:
        view[where:where + size] = value.to_bytes(size, "little", signed=signed)
    except OverflowError:
        raise LoadError("a relocation is out of range") from None


_libc = ctypes.CDLL(None, use_errno=True) if hasattr(mmap, "PROT_EXEC") else None


def _protect(base: int, nbytes: int) -> None:
    """Make the code executable and unwritable."""
    if _libc is None:
        raise LoadError("memory cannot be made executable on this system")
    protect = _libc.mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if protect(base, nbytes, mmap.PROT_READ | mmap.PROT_EXEC):
        raise LoadError("the system does not allow memory to be made executable")


# -- entries ----------------------------------------------------------------------------------------------------

ENTRIES = 512       # of a pair of pages
_entries = iter(())     # those that are not given out yet


def entry(target: int) -> int:
    """An address that stays while what it leads to changes (`lead`): of an instruction that jumps to where a word says."""
    global _entries
    found = next(_entries, None)
    if found is None:
        size = 8 * ENTRIES
        base = map_pages(2 * size)
        if not base:
            raise LoadError("no memory to load code into")
        jump = b"\xff\x25" + (size - 6).to_bytes(4, "little") + b"\x0f\x0b"        # jmp [rip + size - 6]; ud2
        ctypes.memmove(base, jump * ENTRIES, size)
        _protect(base, size)
        _entries = iter(range(base, base + size, 8))
        found = next(_entries)
    lead(found, target)
    return found


def lead(entry: int, target: int) -> None:
    """Have an entry lead elsewhere from now on. Calls that have begun go on where they are."""
    ctypes.c_int64.from_address(entry + 8 * ENTRIES).value = target
