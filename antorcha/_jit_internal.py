"""torch._jit_internal: what code written to be scripted imports. Nothing is scripted here: decorators return what they are given."""

from __future__ import annotations

import functools
from typing import Any, Final, List  # noqa: F401, UP035

from .futures import Future  # noqa: F401


class BroadcastingListCls:
    """`BroadcastingList2[int]`: a list of two, which one number may stand for."""

    def __getitem__(self, types):
        return None


BroadcastingList1 = BroadcastingList2 = BroadcastingList3 = BroadcastingListCls()
for _n in range(4, 7):
    globals()[f"BroadcastingList{_n}"] = BroadcastingList1


def is_scripting() -> bool:
    """False: nothing is ever turned into TorchScript."""
    return False


def boolean_dispatch(arg_name: str, arg_index: int, default: bool, if_true, if_false, module_name: str, func_name: str):
    """A function that calls one of two, as its argument `arg_name` says."""
    @functools.wraps(if_false)
    def function(*args, **kwargs):
        chosen = kwargs.get(arg_name, args[arg_index] if arg_index < len(args) else default)
        return (if_true if chosen else if_false)(*args, **kwargs)
    function.__name__, function.__module__ = func_name, module_name
    return function


def _as_it_is(fn=None, *args, **kwargs):
    return fn if callable(fn) else lambda f: f


ignore = unused = export = _overload = _overload_method = _copy_to_script_wrapper = _as_it_is
