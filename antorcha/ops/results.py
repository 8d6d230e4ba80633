"""The types of several results with names: tuples, shown as PyTorch shows them (`torch.return_types`)."""

from __future__ import annotations

from operator import itemgetter

TYPES: dict[str, type] = {}


class Results(tuple):
    """A tuple whose elements also have names (`_fields`); made from the elements or from one sequence of them."""

    __slots__ = ()
    _fields: tuple = ()

    def __new__(cls, *values):
        if len(values) == 1 != len(cls._fields):
            values = tuple(values[0])
        if len(values) != len(cls._fields):
            raise TypeError(f"{cls.__name__}: expected {len(cls._fields)} results ({', '.join(cls._fields)}); received "
                            f"{len(values)}")
        return tuple.__new__(cls, values)

    def __repr__(self) -> str:
        shown = ",\n".join(f"{name}={value!r}" for name, value in zip(self._fields, self))
        return f"torch.return_types.{type(self).__name__}(\n{shown})"

    def __getnewargs__(self):
        return tuple(self)


def named(name: str, *fields: str) -> type:
    """The type of results called `fields`."""
    kind = type(name, (Results,), {"__slots__": (), "__module__": "torch.return_types", "_fields": fields,
                                   **{field: property(itemgetter(i)) for i, field in enumerate(fields)}})
    TYPES[name] = kind
    return kind
