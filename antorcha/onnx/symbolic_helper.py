"""For functions that write operators as ONNX."""

from __future__ import annotations

import functools

_KINDS = frozenset(["v", "i", "is", "f", "fs", "b", "s", "t", "none"])


def parse_args(*arg_descriptors: str):
    """A decorator that says what the arguments after the graph are: "v" a value, "i" an int, "is" a list of ints and so on. The
    function is called by an export only, which is missing here."""
    for kind in arg_descriptors:
        if kind not in _KINDS:
            raise ValueError(f"parse_args: expected descriptors among {sorted(_KINDS)}; received {kind!r}")

    def decorate(function):
        function._arg_descriptors = arg_descriptors

        @functools.wraps(function)
        def wrapped(g, *args, **kwargs):
            if len(args) > len(arg_descriptors):
                raise AssertionError(f"A mismatch between the number of arguments ({len(args)}) and their descriptors "
                                     f"({len(arg_descriptors)}) was found at symbolic function '{function.__name__}'")
            return function(g, *args, **kwargs)
        return wrapped
    return decorate
