"""PyTorch's paths to the parts of the loader: `torch.utils.data._utils.collate` and its like."""

import sys

from .. import collate, fetch, worker

for _module in (collate, fetch, worker):
    sys.modules[f"{__name__}.{_module.__name__.rsplit('.', 1)[1]}"] = _module
