"""torch.nn.parallel: one process, one device."""

from __future__ import annotations

from ..modules.module import Module


class DataParallel(Module):
    """`module` on the device it is on; keys of its state begin with "module.", as in PyTorch."""

    def __init__(self, module, device_ids=None, output_device=None, dim=0):
        super().__init__()
        self.module, self.device_ids, self.output_device, self.dim = module, device_ids or [], output_device, dim

    def forward(self, *inputs, **kwargs):
        return self.module(*inputs, **kwargs)


class DistributedDataParallel(Module):
    """Refused when it is made: there is no communication between processes."""

    def __init__(self, module, *args, **kwargs):
        raise RuntimeError("DistributedDataParallel: antorcha trains in one process. Use the module itself, or DataParallel.")


def data_parallel(module, inputs, device_ids=None, output_device=None, dim=0, module_kwargs=None):
    """module(*inputs)."""
    return module(*(inputs if isinstance(inputs, tuple) else (inputs,)), **(module_kwargs or {}))
