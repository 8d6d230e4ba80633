"""How errors are worded, and where in the user's program they happened."""

from __future__ import annotations

import os
import sys

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_own: dict[str, bool] = {}      # file -> whether it is of this package


class LinAlgError(RuntimeError):
    """A matrix does not have what was asked for: it is singular, not positive definite, or an iteration did not converge."""


class AcceleratorError(RuntimeError):
    """A GPU reported an error."""


class FatalError(RuntimeError):
    """The engine is in a state that it cannot go on from."""


class JITException(RuntimeError):
    """An error raised within TorchScript: never, since there is none."""


class OutOfMemoryError(RuntimeError):
    """There is no memory left on a device."""


def message(what: str, expected: str, received: str, hint: str = "") -> str:
    """The wording of all errors: `what: expected X; received Y.`, and what to do on a line of its own.

    >>> print(message("linear", "input of shape (..., 784)", "(32, 28, 28)", "Flatten it first: input.flatten(1)"))
    linear: expected input of shape (..., 784); received (32, 28, 28).
            Flatten it first: input.flatten(1)
    """
    text = f"{what}: expected {expected}; received {received}."
    return f"{text}\n{' ' * (len(what) + 2)}{hint}" if hint else text


def inside(file: str, *parts: str) -> bool:
    """Whether a file belongs to this package; to one of these files or folders of it, if there are any."""
    return file.startswith(tuple(_PACKAGE + part.replace("/", os.sep) for part in parts) or _PACKAGE)


def user_frame():
    """The innermost frame that does not belong to this package (the outermost one if all do)."""
    frame = last = sys._getframe(1)
    while frame is not None:
        last = frame
        file = frame.f_code.co_filename
        own = _own.get(file)
        if own is None:
            own = _own[file] = file.startswith(_PACKAGE)
        if not own:
            break
        frame = frame.f_back
    return last


def user_position() -> tuple:
    """Where the user's program is: (code object, index of the instruction). Cheap enough to note for every recorded
    operator; `describe_position` turns it into text."""
    frame = user_frame()
    return frame.f_code, frame.f_lasti


def describe_position(position: tuple) -> str:
    """`file:line` of a position."""
    code, instruction = position
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= instruction < end and number is not None:
            line = number
    return f"{code.co_filename}:{line}"


def user_line() -> str:
    """`file:line` of the user's program, for an error message."""
    frame = user_frame()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
