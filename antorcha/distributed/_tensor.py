"""torch.distributed._tensor: the name that torch.distributed.tensor had before."""

import sys

from . import tensor

sys.modules[__name__] = tensor
sys.modules[f"{__name__}.experimental"] = tensor.experimental
sys.modules[f"{__name__}.placement_types"] = tensor.placement_types
