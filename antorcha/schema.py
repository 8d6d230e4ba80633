"""Schemas of operators: "name(Tensor x, int[] dims=[], *, float scale=1.0) -> Tensor"."""

from __future__ import annotations

import ast
import collections.abc
import functools
import inspect
import operator
import re
import types
import typing
from dataclasses import dataclass
from typing import Any

from .base.device import device
from .base.dtype import dtype
from .core.tensor import Tensor

EMPTY = object()


@dataclass(frozen=True)
class Parameter:
    """A parameter: its type as the schema writes it, and whether the operator writes to it (`alias`)."""

    name: str
    type: str
    default: Any = EMPTY
    keyword_only: bool = False
    alias: str = ""

    def __str__(self) -> str:
        kind = self.type.replace("Tensor", f"Tensor({self.alias})", 1) if self.alias else self.type
        return f"{kind} {self.name}" + ("" if self.default is EMPTY else f"={self.default!r}".replace("'", '"'))


@dataclass(frozen=True)
class Schema:
    """A name, parameters and what is returned."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: str

    def __str__(self) -> str:
        words: list[str] = []
        for p in self.parameters:
            if p.keyword_only and "*" not in words:
                words.append("*")
            words.append(str(p))
        return f"{self.name}({', '.join(words)}) -> {self.returns}"

    def fits(self, args: tuple, kwargs: dict) -> bool:
        """Whether a call with these arguments can mean this schema."""
        try:
            self.bind(self.name, args, kwargs)
        except (TypeError, RuntimeError):
            return False
        return True

    def bind(self, what: str, args: tuple, kwargs: dict) -> list:
        """The value of each parameter. RuntimeError for what is missing, too much, or no tensor where one is due."""
        positional = [p for p in self.parameters if not p.keyword_only]
        if len(args) > len(positional):
            raise RuntimeError(f"{what}() expected at most {len(positional)} argument(s) but received {len(args)} argument(s). "
                               f"Declaration: {self}")
        values = dict(zip((p.name for p in positional), args))
        for name, value in kwargs.items():
            if name in values or all(p.name != name for p in self.parameters):
                raise RuntimeError(f"{what}() got an unexpected keyword argument '{name}'. Declaration: {self}")
            values[name] = value
        for p in self.parameters:
            if p.name not in values:
                if p.default is EMPTY:
                    raise RuntimeError(f"{what}() is missing value for argument '{p.name}'. Declaration: {self}")
                values[p.name] = p.default
            if p.type == "Tensor" and not isinstance(values[p.name], Tensor):
                raise RuntimeError(f"{what}() Expected a value of type 'Tensor' for argument '{p.name}' but instead found type "
                                   f"'{type(values[p.name]).__name__}'. Declaration: {self}")
        return [values[p.name] for p in self.parameters]

    def split(self, values) -> tuple[tuple, dict]:
        """Values of all parameters as positional arguments and keywords."""
        pairs = list(zip(self.parameters, values))
        return tuple(v for p, v in pairs if not p.keyword_only), {p.name: v for p, v in pairs if p.keyword_only}


_SCHEMA = re.compile(r"\s*(?P<name>[\w.]+)\s*\((?P<parameters>.*)\)\s*->\s*(?P<returns>.+?)\s*$", re.DOTALL)
_PARAMETER = re.compile(r"(?P<type>.+?)\s+(?P<name>\w+)\s*(=\s*(?P<default>.+))?$", re.DOTALL)


def _commas(text: str) -> list[str]:
    """`text` cut at the commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([") - (c in ")]")
        if c == "," and not depth:
            parts.append(text[start:i])
            start = i + 1
    return [p.strip() for p in (*parts, text[start:]) if p.strip()]


def parse(text: str) -> Schema:
    """A schema from its text. RuntimeError where it is none."""
    found = _SCHEMA.match(text)
    if found is None:
        raise RuntimeError(f"could not parse schema: expected \"name(Tensor x, ...) -> Tensor\"; received {text!r}")
    parameters, keyword_only = [], False
    for part in _commas(found["parameters"]):
        if part == "*":
            keyword_only = True
            continue
        words = _PARAMETER.match(part)
        if words is None:
            raise RuntimeError(f"could not parse schema: expected a type and a name, received {part!r} in {text!r}")
        alias = re.search(r"\(([^)]*!)[^)]*\)", words["type"])
        kind = re.sub(r"\([^)]*\)", "", words["type"]).strip()
        parameters.append(Parameter(words["name"], kind, _value(words["default"]), keyword_only, alias[1] if alias else ""))
    return Schema(found["name"], tuple(parameters), found["returns"])


def _value(text: str | None):
    if text is None:
        return EMPTY
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        import antorcha
        named = {"true": True, "false": False, "inf": float("inf"), "Mean": 1, "contiguous_format": antorcha.contiguous_format,
                 "long": antorcha.long, "float": antorcha.float32}
        if text in named:
            return named[text]
        raise RuntimeError(f"could not parse schema: {text!r} is no default value") from None


# -- from annotations -------------------------------------------------------------------------------------------

_NAMES = {Tensor: "Tensor", int: "SymInt", float: "float", bool: "bool", str: "str", complex: "Scalar", dtype: "ScalarType",
          device: "Device", int | float | bool: "Scalar"}


def _type_name(hint) -> str | None:
    """A type as schemas write it, None where they cannot."""
    if hint in _NAMES:
        return _NAMES[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        rest = [t for t in inner if t is not type(None)]
        if len(rest) < len(inner):
            name = _type_name(rest[0] if len(rest) == 1 else functools.reduce(operator.or_, rest))
            return None if name is None else name + "?"
        return "Scalar" if set(rest) <= {int, float, bool, complex} else None
    if origin in (list, collections.abc.Sequence) and len(inner) == 1:
        name = _type_name(inner[0])
        return None if name is None else name + "[]"
    return None


def infer_schema(prototype_function, /, *, mutates_args=(), op_name: str | None = None) -> str:
    """The schema of a function by its annotations: "(Tensor x, int n=1) -> Tensor".

    mutates_args: the names of arguments that it writes to, or "unknown" for all tensors.
    """
    hints = typing.get_type_hints(prototype_function)
    words, starred = [], False
    for name, p in inspect.signature(prototype_function).parameters.items():
        where = f"infer_schema(func): Parameter {name}"
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise ValueError(f"{where}: *args and **kwargs have no place in a schema. Name all parameters.")
        if name not in hints:
            raise ValueError(f"{where} must have a type annotation.")
        kind = _type_name(hints[name])
        if kind is None:
            raise ValueError(f"{where} has unsupported type {hints[name]}. Expected Tensor, int, float, bool, str, torch.dtype, "
                             "torch.device, a list of one of these, or an optional one.")
        written = mutates_args == "unknown" and kind.startswith("Tensor") or mutates_args != "unknown" and name in mutates_args
        if written:
            kind = kind.replace("Tensor", f"Tensor(a{len(words)}!)", 1)
        if p.kind is p.KEYWORD_ONLY and not starred:
            words.append("*")
            starred = True
        default = "" if p.default is p.empty else f"={_text(p.default)}"
        words.append(f"{kind} {name}{default}")
    unknown = [] if mutates_args == "unknown" else [n for n in mutates_args if n not in inspect.signature(prototype_function).parameters]
    if unknown:
        raise ValueError(f"{unknown} in mutates_args were not found in the function's signature")
    return f"{op_name or ''}({', '.join(words)}) -> {_returns(hints.get('return', EMPTY))}"


def _text(value) -> str:
    """A default value as schemas write it."""
    if value is None or isinstance(value, (bool, int, float)):
        return str(value)
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, device):
        return f'"{value}"'
    raise ValueError(f"infer_schema(func): expected a default value that is a number, a string, a dtype, a device or None; received "
                     f"{type(value).__name__}")


def _returns(hint) -> str:
    if hint is EMPTY:
        raise ValueError("infer_schema(func): No return type annotation was provided. Please add one.")
    if hint is type(None):
        return "()"
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        names = [_type_name(t) for t in inner]
        if None not in names:
            return f"({', '.join(names)})"
    name = _type_name(hint)
    if name is None:
        raise ValueError(f"infer_schema(func): Return has unsupported type {hint}.")
    return name
