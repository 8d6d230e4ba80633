"""Recurrent layers and cells as functions: each step is composed of the engine's operators."""

from __future__ import annotations

from ...ops.contraction import linear
from ...ops.joining import cat, stack
from ...ops.recall import recalled

# -- cells: (x, state, weights) -> new state -------------------------------------------------------------------


@recalled
def rnn_tanh_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """tanh(W_ih x + b_ih + W_hh h + b_hh)."""
    return _tanh_step(linear(input, w_ih, b_ih), hx, w_hh, b_hh)


@recalled
def rnn_relu_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """relu(W_ih x + b_ih + W_hh h + b_hh)."""
    return _relu_step(linear(input, w_ih, b_ih), hx, w_hh, b_hh)


@recalled
def lstm_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """(h', c') from x and (h, c); the weights hold the gates i, f, g, o. Hochreiter and Schmidhuber, 1997."""
    return _lstm_step(linear(input, w_ih, b_ih), tuple(hx), w_hh, b_hh)


@recalled
def gru_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """h' from x and h; the weights hold the gates r, z, n. Cho et al., 2014."""
    return _gru_step(linear(input, w_ih, b_ih), hx, w_hh, b_hh)


# -- steps: the same from W_ih x + b_ih, which a layer computes for all times at once -----------------------------

def _tanh_step(projected, h, w_hh, b_hh):
    return (projected + linear(h, w_hh, b_hh)).tanh()


def _relu_step(projected, h, w_hh, b_hh):
    return (projected + linear(h, w_hh, b_hh)).relu()


def _lstm_step(projected, state, w_hh, b_hh, w_hr=None):
    h, c = state
    i, f, g, o = (projected + linear(h, w_hh, b_hh)).chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    return (h if w_hr is None else linear(h, w_hr)), c


def _gru_step(projected, h, w_hh, b_hh):
    x_r, x_z, x_n = projected.chunk(3, -1)
    h_r, h_z, h_n = linear(h, w_hh, b_hh).chunk(3, -1)
    z = (x_z + h_z).sigmoid()
    n = (x_n + (x_r + h_r).sigmoid() * h_n).tanh()
    return n + z * (h - n)


STEPS = {"RNN_TANH": _tanh_step, "RNN_RELU": _relu_step, "LSTM": _lstm_step, "GRU": _gru_step}


# -- layers -----------------------------------------------------------------------------------------------------

def _each(states, function):
    """`function` of a state: of each tensor of an LSTM's pair."""
    return tuple(function(s) for s in states) if isinstance(states, tuple) else function(states)


def _joined(parts, join):
    """States, which may be pairs, joined tensor by tensor."""
    return tuple(join(list(p)) for p in zip(*parts)) if isinstance(parts[0], tuple) else join(parts)


def _hidden(state):
    return state[0] if isinstance(state, tuple) else state


def _direction(step, x, state, weights, bias: bool, reverse: bool, batch_sizes):
    """One layer in one direction: the hidden states of all times, a list in the order of time, and the last state. `x` is
    (L, N, features), or packed (sum of batch_sizes, features)."""
    w_ih, w_hh, *rest = weights
    b_ih, b_hh = rest[:2] if bias else (None, None)
    extra = rest[2 if bias else 0:]
    projected = linear(x, w_ih, b_ih)
    inputs = projected.unbind(0) if batch_sizes is None else projected.split(batch_sizes)
    outputs = []
    for part in reversed(inputs) if reverse else inputs:
        n, whole = part.shape[0], _hidden(state).shape[0]
        if n == whole:
            state = step(part, state, w_hh, b_hh, *extra)
            outputs.append(_hidden(state))
            continue
        # Sequences are sorted, longest first: the others have ended, or (backwards) not begun.
        new = step(part, _each(state, lambda s, n=n: s[:n]), w_hh, b_hh, *extra)
        outputs.append(_hidden(new))
        state = _joined([new, _each(state, lambda s, n=n: s[n:])], lambda s: cat(s, 0))
    return outputs[::-1] if reverse else outputs, state


def run(mode, x, states, weights, directions: int, bias: bool, dropout: float, batch_first: bool, batch_sizes=None):
    """All layers of a recurrent network: (output, final states).

    `weights`: for each layer and direction w_ih, w_hh, (b_ih, b_hh), (w_hr); `states`: (layers * directions, N, hidden), a pair of them
    for an LSTM; `dropout`: the probability, applied between layers; `batch_sizes`: of packed input.
    """
    from . import dropout as drop
    step = STEPS[mode]
    sizes = None if batch_sizes is None else batch_sizes.tolist()
    if batch_first and sizes is None:
        x = x.transpose(0, 1)
    finals = []
    for layer in range(len(weights) // directions):
        sides = []
        for d in range(directions):
            k = layer * directions + d
            outputs, final = _direction(step, x, _each(states, lambda s, k=k: s[k]), weights[k], bias, d == 1, sizes)
            sides.append(stack(outputs, 0) if sizes is None else cat(outputs, 0))
            finals.append(final)
        x = sides[0] if directions == 1 else cat(sides, -1)
        if dropout and layer + 1 < len(weights) // directions:
            x = drop(x, dropout)
    if batch_first and sizes is None:
        x = x.transpose(0, 1)
    return x, _joined(finals, lambda s: stack(s, 0))
