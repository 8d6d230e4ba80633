"""torch.amp: products in 16-bit floats (`autocast`), and losses scaled so that their gradients do not vanish there (`GradScaler`)."""

from .autocast_mode import autocast, custom_bwd, custom_fwd, is_autocast_available
from .grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]
