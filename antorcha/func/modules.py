"""Modules as functions of their parameters."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager

import antorcha as torch

from ..core.tensor import Tensor


def functional_call(module, parameter_and_buffer_dicts, args=None, kwargs=None, *, tie_weights=True, strict=False):
    """module(*args, **kwargs) with the given values in place of its parameters and buffers, which are as before afterwards.

    parameter_and_buffer_dicts: {name: tensor}, or several of them without common names. args: a tuple, or the one argument.
    tie_weights: a value given under one name of a shared parameter is used under all its names. strict: every name must be given,
    and no other (RuntimeError).
    """
    if isinstance(parameter_and_buffer_dicts, dict):
        values = parameter_and_buffer_dicts
    elif isinstance(parameter_and_buffer_dicts, Sequence):
        values = {}
        for part in parameter_and_buffer_dicts:
            if not isinstance(part, dict):
                raise ValueError("Expected all elements of parameter_and_buffer_dicts to be dictionaries")
            again = values.keys() & part.keys()
            if again:
                raise ValueError(f"{sorted(again)[0]} appears in multiple dictionaries; behavior of functional call is ambiguous")
            values.update(part)
    else:
        raise ValueError(
            f"Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got "
            f"{type(parameter_and_buffer_dicts)}"
        )
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    with replaced(module, values, tie_weights, strict):
        return module(*args, **(kwargs or {}))


def _names(module) -> dict:
    """name -> tensor, of all parameters and buffers, those that are shared under each of their names."""
    return {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers(remove_duplicate=False))}


def _tied(names: dict, values: dict) -> dict:
    """`values` under all names of the tensors that they replace."""
    groups: dict = {}
    for name, t in names.items():
        groups.setdefault(id(t), []).append(name)
    out = dict(values)
    for group in groups.values():
        given = [n for n in group if n in values]
        if len({id(values[n]) for n in given}) > 1:
            raise ValueError(
                f"functional_call got multiple values for keys {sorted(given)}, which are tied. Consider using tie_weights=False"
            )
        if given:
            out.update({n: values[given[0]] for n in group})
    return out


@contextmanager
def replaced(module, values: dict, tie_weights: bool = True, strict: bool = False):
    """Inside, `values` are the module's parameters and buffers of these names. Buffers that the module assigns anew are left in
    `values`."""
    names = _names(module)
    every = _tied(names, values) if tie_weights else dict(values)
    if strict:
        missing, unexpected = sorted(names.keys() - every.keys()), sorted(every.keys() - names.keys())
        text = [
            f"{what} key(s): {', '.join(map(repr, keys))}."
            for what, keys in (("Unexpected", unexpected), ("Missing", missing))
            if keys
        ]
        if text:
            raise RuntimeError("Error(s) in reparametrizing for {}:\n\t{}".format(type(module).__name__, "\n\t".join(text)))
    places = [(name, *_owner(module, name)) for name in every if name in names]
    before = [owner[leaf] for _, owner, leaf in places]
    try:
        for name, owner, leaf in places:
            owner[leaf] = every[name]
        yield
    finally:
        for (name, owner, leaf), old in zip(places, before):
            if name in values:
                values[name] = owner[leaf]
            owner[leaf] = old


def _owner(module, name: str) -> tuple[dict, str]:
    """(the table that holds the parameter or buffer, its name there)."""
    path, _, leaf = name.rpartition(".")
    holder = module.get_submodule(path)
    return (holder._parameters if leaf in holder._parameters else holder._buffers), leaf


def stack_module_state(models):
    """(parameters, buffers) of several modules of one architecture, each stacked along a first dimension: for `vmap` over an
    ensemble with `functional_call`. The stacks of parameters are leaves that require grad as the parameters do."""
    models = list(models)
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({m.training for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    if len({type(m) for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    parameters = _stacked([dict(m.named_parameters()) for m in models])
    buffers = _stacked([dict(m.named_buffers()) for m in models])
    return parameters, buffers


def _stacked(tables: list[dict]) -> dict:
    return {name: _stack([table[name] for table in tables]) for name in tables[0]}


def _stack(tensors: list[Tensor]) -> Tensor:
    if len({t.requires_grad for t in tensors}) > 1:
        raise RuntimeError("Expected parameters and buffers of the same name to all require grad, or none of them.")
    return torch.stack([t.detach() for t in tensors]).requires_grad_(tensors[0].requires_grad)


def replace_all_batch_norm_modules_(root):
    """Let every batch normalisation in `root` normalise by its batch alone and keep no running statistics, so that the module can
    be mapped with `vmap`."""
    from ..nn.modules import BatchNorm1d, BatchNorm2d, BatchNorm3d

    for module in root.modules():
        if isinstance(module, (BatchNorm1d, BatchNorm2d, BatchNorm3d)):
            module.running_mean = module.running_var = module.num_batches_tracked = None
            module.track_running_stats = False
    return root
