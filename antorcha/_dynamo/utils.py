"""Questions about the compiler."""

from __future__ import annotations


def is_compile_supported(device_type) -> bool:
    """Whether `torch.compile` works for a kind of device: for those there are."""
    import antorcha

    return device_type == "cpu" or device_type == "cuda" and antorcha.cuda.is_available()
