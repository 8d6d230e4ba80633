"""Elements added around the last dimensions."""

from __future__ import annotations

from ...ops.record import core


def pad(input, pad, mode="constant", value=None):
    """Elements added around the last dimensions; `pad` lists (before, after), last dimension first."""
    out = input
    for i in range(len(pad) // 2):
        d, (before, after) = input.dim() - 1 - i, (pad[2 * i], pad[2 * i + 1])
        if before < 0 or after < 0:
            out = out.narrow(d, max(-before, 0), out.shape[d] + min(before, 0) + min(after, 0))
            before, after = max(before, 0), max(after, 0)
        if not (before or after):
            continue
        n = out.shape[d]
        if mode == "constant":
            shape = list(out.shape)
            parts = []
            for k in (before, after):
                shape[d] = k
                parts.append(core.full(tuple(shape), value or 0, out.dtype))
            out = core.cat([parts[0], out, parts[1]] if before and after else [parts[0], out] if before else [out, parts[1]], d)
            continue
        places = range(-before, n + after)
        if mode == "replicate":
            order = [min(max(p, 0), n - 1) for p in places]
        elif mode == "circular":
            order = [p % n for p in places]
        elif mode == "reflect":
            if max(before, after) >= n:
                raise RuntimeError(f"Padding size should be less than the corresponding input dimension, but got: padding ({before}, {after}) at "
                                   f"dimension {d} of input {list(input.shape)}")
            order = [abs(p) if p < n else 2 * (n - 1) - p for p in places]
        else:
            raise NotImplementedError(f"Unrecognised padding mode {mode}")
        out = out.index_select(d, core.tensor(order))
    return out
