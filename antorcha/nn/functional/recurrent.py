"""Recurrent layers and cells as functions: each step is composed of the engine's operators.

A layer over sequences of one length is a single operator, a recurrence, whose derivative is another that goes back through time. It makes
the cotangents of the weights when it is through, each as one product over all times: left to the steps, these would be as many products,
and sums of their results.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from ...base.grad_mode import mode as modes
from ...ops.casts import ONE_ON_GPU, autocast
from ...ops.contraction import linear
from ...ops.derivative import titled
from ...ops.joining import cat, stack
from ...ops.pointwise import sigmoid_backward, tanh_backward, where
from ...ops.recall import recalled
from ...ops.record import operator
from ...ops.recurrence import recur
from .packed import packing, pad_rows, unpad_rows

Tensor = "Tensor"
MOST_PADDED = 4     # times the rows of packed sequences that they may be with padding to be computed so


# -- steps: (W_ih x + b_ih, state, W_hh h + b_hh) -> (new state, gates that the derivative uses) -------------------------
#
# Their derivatives: (cotangents of the new state, cotangents of the gates, gates, state before, state after) -> cotangents of
# W_ih x + b_ih, of W_hh h + b_hh, and of the state before as far as that enters otherwise. Cotangents may be None.

def _tanh_step(projected, state, carried):
    return ((projected + carried).tanh(),), ()


def _tanh_step_back(g, g_gates, gates, before, after):
    d = tanh_backward(g[0], after[0])
    return d, d, (None,)


def _relu_step(projected, state, carried):
    return ((projected + carried).relu(),), ()


def _relu_step_back(g, g_gates, gates, before, after):
    d = where(after[0] > 0, g[0], 0.0)
    return d, d, (None,)


def _lstm_step(projected, state, carried):
    c = state[1]
    i, f, g, o = (projected + carried).chunk(4, -1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    c = f * c + i * g
    t = c.tanh()
    return (o * t, c), (i, f, g, o, t)


def _lstm_step_back(g_state, g_gates, gates, before, after):
    i, f, g, o, t = gates
    di, df, dg, do, dt = g_gates
    dh, dc = g_state
    do = _sum(dh * t, do)
    dc = _sum(tanh_backward(_sum(dh * o, dt), t), dc)
    di, df, dg = _sum(dc * g, di), _sum(dc * before[1], df), _sum(dc * i, dg)
    d = cat([sigmoid_backward(di, i), sigmoid_backward(df, f), tanh_backward(dg, g), sigmoid_backward(do, o)], -1)
    return d, d, (None, dc * f)


def _gru_step(projected, state, carried):
    h = state[0]
    x_r, x_z, x_n = projected.chunk(3, -1)
    h_r, h_z, h_n = carried.chunk(3, -1)
    r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
    n = (x_n + r * h_n).tanh()
    return (n + z * (h - n),), (r, z, n, carried)


def _gru_step_back(g, g_gates, gates, before, after):
    r, z, n, s = gates
    dr, dz, dn, ds = g_gates
    h_n = s.chunk(3, -1)[2]
    dh = g[0]
    dn = tanh_backward(_sum(dh * (1 - z), dn), n)
    dz = sigmoid_backward(_sum(dh * (before[0] - n), dz), z)
    dr = sigmoid_backward(_sum(dn * h_n, dr), r)
    return cat([dr, dz, dn], -1), _sum(cat([dr, dz, dn * r], -1), ds), (dh * z,)


def _sum(a, b):
    """The sum of two cotangents, of which one may be None."""
    return a if b is None else b if a is None else a + b


class Step(NamedTuple):
    """`held`: tensors in the state."""

    forward: object
    backward: object
    held: int = 1


STEPS = {"RNN_TANH": Step(_tanh_step, _tanh_step_back), "RNN_RELU": Step(_relu_step, _relu_step_back),
         "LSTM": Step(_lstm_step, _lstm_step_back, 2), "GRU": Step(_gru_step, _gru_step_back)}


# -- all steps of a layer ---------------------------------------------------------------------------------------

@operator(name="recurrence", title="Recurrence", public=False, partial=True, grad={
    ("projected", "h", "c", "w_hh", "b_hh"): lambda g, there, w_hh, b_hh, mode, reverse, result: _recurrence_back(
        g, there, w_hh, b_hh, mode, reverse, result)})
def recurrence(projected: Tensor, there, h: Tensor, c, w_hh: Tensor, b_hh, mode, reverse):
    """Step after step, from the last time to the first if `reverse`: the states of all times, with the one to begin with at the beginning
    (or at the end), and the gates.

    `projected`: (L, N, gates * hidden) is W_ih x + b_ih; `there`: (L, N, 1) whether a sequence has not ended (or not begun), None if all
    are of one length: its state stays as it is; `h`, `c`: (N, hidden) the state to begin with, `c` None except for an LSTM.
    """
    if h.shape[0] > 1:
        w_hh = w_hh.t().contiguous().t()        # products of few rows read it where it lies, if its columns lie side by side
    each, weights = [projected] if there is None else [projected, there], [w_hh] if b_hh is None else [w_hh, b_hh]
    states, gates = recur(_going(mode), each, [h] if c is None else [h, c], weights, reverse)
    return (*states, *gates)


@functools.cache
def _going(mode):
    """A step as `recur` has it."""
    def step(parts, state, weights):
        projected, *there = parts
        new, gates = STEPS[mode].forward(projected, state, linear(state[0], *weights))
        return [where(*there, a, b) if there else a for a, b in zip(new, state)], list(gates)
    return step


def _recurrence_back(g, there, w_hh, b_hh, mode, reverse, result):
    """The cotangents of `projected`, the state's two tensors and the recurrent weights."""
    held = STEPS[mode].held
    g = g if isinstance(g, tuple) else (g,)
    result = result if isinstance(result, tuple) else (result,)
    earlier, later = (slice(1, None), slice(-1)) if reverse else (slice(-1), slice(1, None))
    first, last = (-1, 0) if reverse else (0, -1)
    states, gates = result[:held], result[held:]
    before, after = [s[earlier] for s in states], [s[later] for s in states]
    arrived = [None if x is None else x[later] if k < held else x for k, x in enumerate(g)]
    each = [*before, *after, *gates, *[x for x in arrived if x is not None]]
    step = _going_back(mode, tuple([x is not None for x in arrived]))
    carried, kept = recur(step, each if there is None else [*each, there], [s[last] * 0 for s in states], [w_hh], not reverse)
    start = [_sum(c[first], None if x is None else x[first]) for c, x in zip(carried, g)]
    d_projected, d_products = kept[0], kept[-1]
    d_weight = d_products.flatten(0, 1).t() @ before[0].flatten(0, 1)
    return d_projected, start[0], start[1] if held > 1 else None, d_weight, None if b_hh is None else d_products.sum((0, 1))


@functools.cache
def _going_back(mode, arrived: tuple):
    """The derivative of a step as `recur` has it. Its parts: the states before and after, the gates, those cotangents of the state and
    the gates that have `arrived`, and which sequences are there, if not all are; its state: the cotangents that the step after it has
    found. Keeps the cotangents of W_ih x + b_ih, and of W_hh h + b_hh if they are others."""
    held, count = STEPS[mode].held, len(arrived)

    def step(parts, carried, weights):
        before, after, gates, rest = parts[:held], parts[held:2 * held], parts[2 * held:held + count], iter(parts[held + count:])
        g = [next(rest) if there else None for there in arrived]
        there = [*rest]
        d_state = [_sum(a, b) for a, b in zip(g, carried)]
        d_there = [where(*there, d, 0.0) if there else d for d in d_state]
        d_input, d_product, (direct, *further) = STEPS[mode].backward(d_there, g[held:], gates, before, after)
        new = [_sum(d_product @ weights[0], direct), *further]
        new = [where(*there, a, b) if there else a for a, b in zip(new, d_state)]
        return new, [d_input] if d_input is d_product else [d_input, d_product]
    return step


# -- one step ---------------------------------------------------------------------------------------------------

@operator(name="recurrent_step", title="RecurrentStep", public=False, partial=True, grad={
    ("projected", "h", "c", "w_hh", "b_hh"): lambda g, h, c, w_hh, b_hh, mode, result: _one_step_back(
        g, (h,) if c is None else (h, c), w_hh, b_hh, mode, result)})
def one_step(projected: Tensor, h: Tensor, c, w_hh: Tensor, b_hh, mode):
    """The new state and the gates. `projected`: (N, gates * hidden); `h`, `c`, `mode`: as of a recurrence."""
    state, gates = STEPS[mode].forward(projected, (h,) if c is None else (h, c), linear(h, w_hh, b_hh))
    return (*state, *gates)


def _one_step_back(g, before, w_hh, b_hh, mode, result):
    step, held = STEPS[mode], len(before)
    g, result = ((x if isinstance(x, tuple) else (x,)) for x in (g, result))
    after, gates = result[:held], result[held:]
    dh, *dc = g[:held]
    d_input, d_product, (direct, *further) = step.backward(
        (dh if dh is not None else after[0] * 0, *dc), g[held:], gates, before, after)
    return (d_input, _sum(d_product @ w_hh, direct), *(further or (None,)), d_product.t() @ before[0],
            None if b_hh is None else d_product.sum(0))


# -- cells: (x, state, weights) -> new state --------------------------------------------------------------------

def cell(mode, x, state, w_ih, w_hh, b_ih, b_hh, product=linear) -> tuple:
    """One step of a layer of this mode: the new state, of one tensor or two. `product(x, weight, bias)`: how weights are applied."""
    projected = product(x, w_ih, b_ih)
    if projected.dim() != 2 or modes.autocast is not None or product is not linear:
        return STEPS[mode].forward(projected, state, product(state[0], w_hh, b_hh))[0]
    found = one_step(projected, state[0], *(state[1:] or (None,)), w_hh, b_hh, mode)
    return found[:len(state)]


@recalled(autocast=ONE_ON_GPU)
@titled("Tanh")
def rnn_tanh_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """tanh(W_ih x + b_ih + W_hh h + b_hh)."""
    return cell("RNN_TANH", input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


@recalled(autocast=ONE_ON_GPU)
@titled("Relu")
def rnn_relu_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """relu(W_ih x + b_ih + W_hh h + b_hh)."""
    return cell("RNN_RELU", input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


@recalled(autocast=ONE_ON_GPU)
@titled("Mul")
def lstm_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """(h', c') from x and (h, c); the weights hold the gates i, f, g, o. Hochreiter and Schmidhuber, 1997."""
    return cell("LSTM", input, tuple(hx), w_ih, w_hh, b_ih, b_hh)


@recalled(autocast=ONE_ON_GPU)
@titled("Add")
def gru_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """h' from x and h; the weights hold the gates r, z, n. Cho et al., 2014."""
    return cell("GRU", input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


# -- layers -----------------------------------------------------------------------------------------------------

def _direction(mode, x, state: tuple, weights, bias: bool, reverse: bool, pack, sizes, product):
    """One layer in one direction: the hidden states of all times and the last state. `x` is (L, N, features), or packed
    (sum of sizes, features), where `pack` tells how it is padded: None if it had better not be."""
    w_ih, w_hh, *rest = weights
    b_ih, b_hh = rest[:2] if bias else (None, None)
    extra = rest[2 if bias else 0:]
    projected = product(x, w_ih, b_ih)
    if extra or modes.autocast is not None or product is not linear or sizes is not None and pack is None:
        outputs, state = _one_by_one(STEPS[mode].forward, projected, state, w_hh, b_hh, *extra, product=product, reverse=reverse,
                                     sizes=sizes)
        outputs = outputs[::-1] if reverse else outputs
        return stack(outputs, 0) if sizes is None else cat(outputs, 0), state
    held, there = STEPS[mode].held, None
    if pack is not None:
        projected = pad_rows(projected, *pack[3:]).unflatten(0, (pack.times, pack.batch))
        there = pack.there.reshape(pack.times, pack.batch, 1)
    elif projected.shape[0] == 1:
        state = one_step(projected[0], state[0], *(state[1:] or (None,)), w_hh, b_hh, mode)[:held]
        return state[0].unsqueeze(0), state
    states = recurrence(projected, there, state[0], *(state[1:] or (None,)), w_hh, b_hh, mode, reverse)[:held]
    output, state = (states[0][:-1], [s[0] for s in states]) if reverse else (states[0][1:], [s[-1] for s in states])
    return (output if pack is None else unpad_rows(output.flatten(0, 1), *pack[3:])), state


def _one_by_one(step, projected, state: tuple, w_hh, b_hh, w_hr=None, *, product, reverse: bool, sizes) -> tuple[list, tuple]:
    """The hidden states in the order in which they are computed, and the last state: of sequences that end at different times, or
    with hidden states that are projected by `w_hr`."""
    outputs = []
    inputs = projected.unbind(0) if sizes is None else projected.split(sizes)
    for part in reversed(inputs) if reverse else inputs:
        n = part.shape[0]
        # Sequences are sorted, longest first: the others have ended, or (backwards) not begun.
        ended = n < state[0].shape[0]
        going = tuple([s[:n] for s in state]) if ended else state
        (h, *cell), _ = step(part, going, product(going[0], w_hh, b_hh))
        new = (h if w_hr is None else product(h, w_hr), *cell)
        outputs.append(new[0])
        state = tuple([cat([a, s[n:]], 0) for a, s in zip(new, state)]) if ended else new
    return outputs, state


def run(mode, x, states, weights, directions: int, bias: bool, dropout: float, batch_first: bool, batch_sizes=None, product=linear):
    """All layers of a recurrent network: (output, final states).

    `weights`: for each layer and direction w_ih, w_hh, (b_ih, b_hh), (w_hr); `states`: (layers * directions, N, hidden), a pair of them
    for an LSTM; `dropout`: the probability, applied between layers; `batch_sizes`: of packed input; `product(x, weight, bias)`: how
    weights are applied.
    """
    layers = _lstm_layers if mode == "LSTM" else _layers
    return layers(mode, x, states, weights, directions, bias, dropout, batch_first, batch_sizes, product)


@autocast(ONE_ON_GPU)
def _layers(mode, x, states, weights, directions, bias, dropout, batch_first, batch_sizes, product):
    from . import dropout as drop
    sizes = None if batch_sizes is None else batch_sizes.tolist()
    padded = sizes is not None and len(sizes) * sizes[0] <= MOST_PADDED * sum(sizes)
    pack = packing(sizes, x.device) if padded else None
    if batch_first and sizes is None:
        x = x.transpose(0, 1)
    pair = isinstance(states, tuple)
    finals = []
    for layer in range(len(weights) // directions):
        sides = []
        for d in range(directions):
            k = layer * directions + d
            state = tuple([s[k] for s in (states if pair else (states,))])
            output, final = _direction(mode, x, state, weights[k], bias, d == 1, pack, sizes, product)
            sides.append(output)
            finals.append(final)
        x = sides[0] if directions == 1 else cat(sides, -1)
        if dropout and layer + 1 < len(weights) // directions:
            x = drop(x, dropout)
    if batch_first and sizes is None:
        x = x.transpose(0, 1)
    last = tuple([stack(list(s), 0) for s in zip(*finals)])
    return x, last if pair else last[0]


_lstm_layers = autocast("lower")(_layers.__wrapped__)      # PyTorch has one function for them on the CPU, too
