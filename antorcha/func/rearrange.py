"""rearrange: dimensions by name. "b (h p) w -> b w (p h)": parentheses join and split dimensions, ... stands for any others.

The notation is that of einops (Rogozhnikov, "Einops: Clear and Reliable Tensor Manipulations with Einstein-like Notation", 2022).
"""

from __future__ import annotations

import re
from math import prod

from ..ops.joining import stack

ELLIPSIS = "..."


def _parse(side: str) -> list[list[str]]:
    """The dimensions of one side, each as the names that it is made of; 1 and () are made of none."""
    groups: list[list[str]] = []
    inside = None
    for token in re.findall(r"\.\.\.|[()]|\w+|\S", side):
        if token == "(" and inside is None:
            inside = []
        elif token == ")" and inside is not None:
            groups.append(inside)
            inside = None
        elif token == ELLIPSIS or token.isidentifier() or token == "1":
            names = [] if token == "1" else [token]
            if inside is None:
                groups.append(names)
            else:
                inside += names
        else:
            raise ValueError(
                f"rearrange: expected names of dimensions, (, ), 1 and ... in the pattern; received {token!r} in {side!r}."
            )
    if inside is not None:
        raise ValueError(f"rearrange: a parenthesis is not closed in {side!r}.")
    return groups


def _names(groups: list[list[str]]) -> list[str]:
    names = [n for g in groups for n in g]
    for n in names:
        if names.count(n) > 1:
            raise ValueError(f"Indexing expression contains duplicate dimension '{n}'")
    return names


def _sizes(groups: list[list[str]], shape: tuple, given: dict) -> dict:
    """The size of each name; of ..., several."""
    rank = len(shape) - (len(groups) - 1 if [ELLIPSIS] in groups else len(groups))
    if rank < 0 or rank and [ELLIPSIS] not in groups:
        raise ValueError(
            f"Number of dimensions in pattern ({len(groups)}) must be equal to the number of dimensions in the tensor "
            f"({len(shape)})"
        )
    sizes, d = dict(given), 0
    for group in groups:
        if group == [ELLIPSIS]:
            sizes[ELLIPSIS] = shape[d : d + rank]
            d += rank
            continue
        unknown = [n for n in group if n not in sizes]
        known = prod(sizes[n] for n in group if n in sizes)
        if len(unknown) > 1:
            raise ValueError(
                f"rearrange: cannot infer the sizes of {len(unknown)} dimensions at once, {' and '.join(unknown)}: "
                "give all but one."
            )
        if known == 0 or shape[d] % known or not unknown and known != shape[d]:
            raise ValueError(
                f"rearrange: inferred dimension does not evenly fit into larger dimension: expected ({' '.join(group)}) of size "
                f"{shape[d]}; received {known}."
            )
        if unknown:
            sizes[unknown[0]] = shape[d] // known
        d += 1
    return sizes


def rearrange(tensor, pattern: str, **axes_lengths: int):
    """The elements of `tensor` (or of a sequence of tensors, stacked along a first dimension) in another order and shape.

    pattern: the dimensions before and after, "b c h w -> b (h w) c"; axes_lengths: sizes of names that cannot be inferred. A view
    where strides allow it. ValueError where the pattern does not fit.
    """
    if isinstance(tensor, (list, tuple)):
        tensor = stack(tuple(tensor))
    left, arrow, right = pattern.partition("->")
    if not arrow or "->" in right:
        raise ValueError(f"rearrange: expected one '->' in the pattern; received {pattern!r}.")
    before, after = _parse(left), _parse(right)
    names, wanted = _names(before), _names(after)
    if set(names) != set(wanted):
        raise ValueError(f"Identifiers only on one side of rearrange expression (should be on both): {set(names) ^ set(wanted)}")
    if any(ELLIPSIS in g and len(g) > 1 or ELLIPSIS in g and left.count("(...)") for g in before):
        raise ValueError(f"rearrange: an ellipsis may be in parentheses on the right side alone; received {pattern!r}.")
    sizes = _sizes(before, tuple(tensor.shape), axes_lengths)

    def spread(name) -> list:
        return [(ELLIPSIS, i) for i in range(len(sizes[ELLIPSIS]))] if name == ELLIPSIS else [name]

    def size(name) -> int:
        return sizes[ELLIPSIS][name[1]] if isinstance(name, tuple) else sizes[name]

    source = [x for n in names for x in spread(n)]
    target = [x for n in wanted for x in spread(n)]
    shape: list = []
    for group in after:
        parts = [size(x) for n in group for x in spread(n)]
        shape += parts if group == [ELLIPSIS] and "(...)" not in right.replace(" ", "") else [prod(parts)]
    return tensor.reshape([size(x) for x in source]).permute([source.index(x) for x in target]).reshape(shape)
