"""Names of PyTorch's that programs import and that cannot work here: they exist, so that isinstance() can be asked and imports succeed,
and raise when they are used."""

from __future__ import annotations


class _Unavailable(type):
    def __call__(cls, *args, **kwargs):
        raise NotImplementedError(cls.reason)

    def __instancecheck__(cls, instance) -> bool:
        return False


def unavailable_class(name: str, reason: str) -> type:
    """A class that nothing is an instance of; making one raises NotImplementedError with `reason`, which says what to do instead."""
    return _Unavailable(name.rpartition(".")[2], (), {"reason": f"{name}: {reason}", "__doc__": f"Missing here: {reason}"})


def unavailable_function(name: str, reason: str, error: type[Exception] = NotImplementedError):
    """A function that raises `error` with `reason`, which says what to do instead."""
    def function(*args, **kwargs):
        raise error(f"{name}: {reason}")
    function.__name__ = function.__qualname__ = name.rpartition(".")[2]
    function.__doc__ = f"Missing here: {reason}"
    return function
