"""torch.utils.weak: weak references to tensors, and dictionaries whose keys are objects themselves rather than what they are equal to."""

from __future__ import annotations

import collections.abc
import weakref


class WeakIdRef(weakref.ref):
    """A weak reference that is equal to another one to the same object, also where the object's own == compares elements."""

    __slots__ = ("_id",)

    def __init__(self, key, callback=None):
        super().__init__(key, callback)
        self._id = id(key)

    def __hash__(self) -> int:
        return self._id

    def __eq__(self, other) -> bool:
        mine, theirs = self(), other()
        return mine is theirs if mine is not None and theirs is not None else self is other


class WeakIdKeyDictionary(collections.abc.MutableMapping):
    """A dictionary by identity that forgets what belongs to keys that nobody else keeps."""

    def __init__(self, dict=None, ref_type=WeakIdRef):
        self.data: dict = {}
        self.ref_type = ref_type
        self._forget = _forgetter(weakref.ref(self))
        if dict is not None:
            self.update(dict)

    def _reference(self, key):
        return self.ref_type(key, self._forget)

    def __getitem__(self, key):
        return self.data[self.ref_type(key)]

    def __setitem__(self, key, value) -> None:
        self.data[self._reference(key)] = value

    def __delitem__(self, key) -> None:
        del self.data[self.ref_type(key)]

    def __contains__(self, key) -> bool:
        try:
            return self.ref_type(key) in self.data
        except TypeError:
            return False

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self):
        for reference in list(self.data):
            key = reference()
            if key is not None:
                yield key

    def keyrefs(self) -> list:
        """The weak references."""
        return list(self.data)

    def copy(self):
        """Another dictionary of the same entries."""
        return type(self)(self, self.ref_type)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x}>"


def _forgetter(owner):
    """The callback of a dictionary's references. It does not keep the dictionary alive."""
    def forget(reference) -> None:
        found = owner()
        if found is not None:
            found.data.pop(reference, None)
    return forget


WeakTensorKeyDictionary = WeakIdKeyDictionary


class TensorWeakRef:
    """A weak reference to a tensor; called, it gives the tensor, or None when nobody else keeps it."""

    def __init__(self, tensor):
        self.ref = weakref.ref(tensor)

    def __call__(self):
        return self.ref()


__all__ = ["TensorWeakRef", "WeakIdKeyDictionary", "WeakIdRef", "WeakTensorKeyDictionary"]
