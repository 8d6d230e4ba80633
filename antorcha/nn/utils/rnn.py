"""Sequences of different lengths: padded to one length, or packed without padding."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

import antorcha as torch

from ...core.at_once import present, put_in_rows
from ..functional.packed import packing, pad_rows, unpad_rows

_Fields = namedtuple("_Fields", ["data", "batch_sizes", "sorted_indices", "unsorted_indices"], defaults=[None, None, None])


class PackedSequence(_Fields):
    """Sequences sorted by length, longest first, and laid out time by time without padding.

    `data`: (sum of lengths, *); `batch_sizes`: how many sequences reach each time, int64 on the CPU; `sorted_indices`: the order in
    which the original sequences are packed, `unsorted_indices` its inverse (None where they were sorted).
    """

    def __new__(cls, data, batch_sizes=None, sorted_indices=None, unsorted_indices=None):
        if batch_sizes is None:     # (data, batch_sizes) in one tuple
            data, batch_sizes = data
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        if batch_sizes.device.type != "cpu":
            raise ValueError("batch_sizes should always be on CPU. Instances of PackedSequence should never be created manually: use "
                             "pack_sequence or pack_padded_sequence")
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args, **kwargs):
        """The data converted as by `Tensor.to`, the indices moved with it."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        places = {k: v for k, v in kwargs.items() if k in ("device", "non_blocking", "copy")}
        order, inverse = (None if i is None else i.to(data.device, **places) for i in (self.sorted_indices, self.unsorted_indices))
        return type(self)(data, self.batch_sizes, order, inverse)

    def pin_memory(self):
        """The same with its tensors in pinned memory."""
        order, inverse = (None if i is None else i.pin_memory() for i in (self.sorted_indices, self.unsorted_indices))
        return type(self)(self.data.pin_memory(), self.batch_sizes, order, inverse)

    def cuda(self, *args, **kwargs):
        return self.to(*args, device="cuda", **kwargs) if not args else self.to(*args, **kwargs)

    def cpu(self):
        return self.to(device="cpu")

    def double(self):
        return self.to(dtype=torch.double)

    def float(self):
        return self.to(dtype=torch.float)

    def half(self):
        return self.to(dtype=torch.half)

    def long(self):
        return self.to(dtype=torch.long)

    def int(self):
        return self.to(dtype=torch.int)

    def short(self):
        return self.to(dtype=torch.short)

    def char(self):
        return self.to(dtype=torch.int8)

    def byte(self):
        return self.to(dtype=torch.uint8)

    @property
    def is_cuda(self):
        return self.data.is_cuda

    def is_pinned(self):
        return self.data.is_pinned()


def invert_permutation(permutation):
    """The permutation that undoes `permutation`."""
    return None if permutation is None else torch.argsort(permutation)


def _lengths(lengths):
    return lengths.to("cpu", torch.int64) if isinstance(lengths, torch.Tensor) else torch.tensor(lengths, dtype=torch.int64)


def _check_lengths(lengths: list, batch: int, longest: int) -> None:
    if len(lengths) != batch:
        raise RuntimeError(f"Expected `len(lengths)` to be equal to batch_size, but got {len(lengths)} (batch_size={batch})")
    if not lengths or min(lengths) <= 0:
        raise RuntimeError("Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0")
    if any(a < b for a, b in zip(lengths, lengths[1:])):
        raise RuntimeError("`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
                           "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement.")
    if lengths[0] > longest:
        raise RuntimeError(f"Expected `lengths` of at most {longest}, the length of the padded input; received {lengths[0]}")


def pack_padded_sequence(input, lengths, batch_first=False, enforce_sorted=True):
    """Pack (L, N, *) (with `batch_first` (N, L, *)) whose n-th sequence has `lengths[n]` elements.

    `enforce_sorted`: the lengths are in decreasing order already.
    """
    lengths = _lengths(lengths)
    if batch_first:
        input = input.transpose(0, 1)
    order = None
    if not enforce_sorted:
        lengths, order = torch.sort(lengths, descending=True, stable=True)
        order = order.to(input.device)
        input = input.index_select(1, order)
    counts = lengths.tolist()
    _check_lengths(counts, input.shape[1], input.shape[0])
    batch_sizes = _reached(counts)
    data = unpad_rows(input[:counts[0]].flatten(0, 1), *packing(batch_sizes, input.device)[3:])
    return PackedSequence(data, torch.tensor(batch_sizes, dtype=torch.int64), order)


def _reached(counts: list) -> list:
    """How many of some counts in decreasing order reach each number: the lengths of sequences, or the sizes of batches."""
    return np.searchsorted(-np.array(counts), -np.arange(counts[0]) - 1, "right").tolist()


def pad_packed_sequence(sequence, batch_first=False, padding_value=0.0, total_length=None):
    """The padded tensor (L, N, *) (with `batch_first` (N, L, *)) of a packed sequence, and the lengths (N,), in the original order.

    `total_length`: L, if more than the longest.
    """
    data, sizes = sequence.data, sequence.batch_sizes.tolist()
    length, batch = len(sizes), sizes[0]
    if total_length is not None:
        if total_length < length:
            raise ValueError("Expected total_length to be at least the length of the longest sequence in input, but got "
                             f"total_length={total_length} and max sequence length being {length}")
        length = total_length
    pack = packing(sizes + [0] * (length - len(sizes)), data.device)
    padded = pad_rows(data, *pack[3:])
    if padding_value:
        padded = torch.where(pack.there.reshape((-1,) + (1,) * (data.dim() - 1)), padded, padding_value).to(data.dtype)
    padded = padded.unflatten(0, (length, batch))
    lengths = torch.tensor(_reached(sizes))
    if batch_first:
        padded = padded.transpose(0, 1)
    if sequence.unsorted_indices is not None:
        padded = padded.index_select(0 if batch_first else 1, sequence.unsorted_indices)
        lengths = lengths[sequence.unsorted_indices.cpu()]
    return padded, lengths


def pad_sequence(sequences, batch_first=False, padding_value=0.0, padding_side="right"):
    """Tensors (L_n, *) stacked to (max L, N, *) (with `batch_first` (N, max L, *)), filled up with `padding_value` on one side."""
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"pad_sequence: expected padding_side 'left' or 'right'; received {padding_side!r}")
    if isinstance(sequences, torch.Tensor):
        sequences = sequences.unbind(0)
    sequences = list(sequences)
    if not sequences or not all(isinstance(s, torch.Tensor) for s in sequences):
        raise RuntimeError("pad_sequence: Expected iterable for input sequences, of at least one tensor")
    longest = max(s.shape[0] for s in sequences)
    first = sequences[0]
    if all([present(s) and not s.requires_grad and s.dtype is first.dtype and s.shape[1:] == first.shape[1:] for s in sequences]):
        padded = first.new_full((len(sequences), longest, *first.shape[1:]), padding_value)     # lengths are no part of a recording
        starts = [0 if padding_side == "right" else longest - s.shape[0] for s in sequences]
        if not put_in_rows(padded, sequences, starts):
            for row, s, start in zip(padded, sequences, starts):
                row[start:start + s.shape[0]].copy_(s)
        return padded if batch_first else padded.transpose(0, 1)

    def padded(s):
        missing = longest - s.shape[0]
        if not missing:
            return s
        filling = s.new_full((missing, *s.shape[1:]), padding_value)
        return torch.cat([s, filling] if padding_side == "right" else [filling, s], 0)

    return torch.stack([padded(s) for s in sequences], 0 if batch_first else 1)


def unpad_sequence(padded_sequences, lengths, batch_first=False):
    """The list of the sequences in a padded tensor."""
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)
    return [sequence[:n] for sequence, n in zip(padded_sequences, _lengths(lengths).tolist())]


def pack_sequence(sequences, enforce_sorted=True):
    """Pack a list of tensors (L_n, *)."""
    return pack_padded_sequence(pad_sequence(sequences), [s.shape[0] for s in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences):
    """The list of the sequences in a packed one."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
