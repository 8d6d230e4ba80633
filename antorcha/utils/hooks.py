"""Handles with which registered hooks are taken away again."""

from __future__ import annotations

import itertools
import weakref

_identifiers = itertools.count()


class RemovableHandle:
    """What registering a hook returns: `remove()` takes the hook out of its table; leaving a `with` block does the same.

    `extra` are further tables (or one table) keyed by hook identifier that must forget the hook with it.
    """

    def __init__(self, hooks_dict, *, extra_dict=()):
        self.id = next(_identifiers)
        self.hooks_dict_ref = weakref.ref(hooks_dict)
        extra = (extra_dict,) if isinstance(extra_dict, dict) else tuple(extra_dict)
        self.extra_dict_ref = tuple(weakref.ref(d) for d in extra)

    def remove(self) -> None:
        for reference in (self.hooks_dict_ref, *self.extra_dict_ref):
            table = reference()
            if table is not None:
                table.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception) -> None:
        self.remove()

    def __getstate__(self):
        tables = (self.hooks_dict_ref(), *(reference() for reference in self.extra_dict_ref))
        return tables, self.id

    def __setstate__(self, state) -> None:
        from collections import OrderedDict

        tables, self.id = state
        first, *others = (weakref.ref(OrderedDict() if t is None else t) for t in tables)
        self.hooks_dict_ref, self.extra_dict_ref = first, tuple(others)
