"""Where the storages of a checkpoint go: `map_location`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..base.device import device as Device
from ..ops.placement import device_name
from .options import packages
from .rebuild import StorageRef

Restore = Callable[[StorageRef, str], StorageRef]


def restorer(map_location: Any) -> Restore:
    """A function (storage, saved location) -> storage for each form that `map_location` can have."""
    if map_location is None:
        return _restore
    if isinstance(map_location, dict):
        moved = {str(old): str(new) for old, new in map_location.items()}
        return lambda stored, location: _restore(stored, moved.get(location, location))
    if isinstance(map_location, (str, Device)):
        target = str(Device(map_location))
        return lambda stored, location: _restore(stored, target)
    if callable(map_location):
        return lambda stored, location: _by_function(map_location, stored, location)
    raise TypeError(f"load: expected map_location None, a device, a dict or a function; received {type(map_location).__name__}")


def _by_function(function: Callable, stored: StorageRef, location: str) -> StorageRef:
    result = function(stored, location)
    if result is None:
        return _restore(stored, location)
    if not isinstance(result, StorageRef):
        raise TypeError(f"load: expected the map_location function to return a storage or None; received {type(result).__name__}")
    return result


def _restore(stored: StorageRef, location: str) -> StorageRef:
    for _, _, deserializer in packages:     # of the program's own (`register_package`)
        if (found := deserializer(stored, location)) is not None:
            return found
    try:
        device = device_name(location)
    except RuntimeError as e:
        raise RuntimeError(f"load: expected a device that this machine has; received storages saved on {location!r}. "
                           f"Load them on the CPU: load(..., map_location='cpu'). ({e})") from None
    return stored.on(device)
