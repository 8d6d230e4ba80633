"""torch.random: seeds and states of the default generator."""

from __future__ import annotations

from contextlib import contextmanager

from .core.generator import Generator, default_generator, rewind, seed_devices, snapshots


def manual_seed(seed) -> Generator:
    """Seed the default generators, of the CPU and of every GPU."""
    seed_devices(int(seed))
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator from the operating system."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state():
    """The state of the default generator, a uint8 tensor."""
    return default_generator.get_state()


def set_rng_state(new_state) -> None:
    """Put the default generator into a state."""
    default_generator.set_state(new_state)


@contextmanager
def fork_rng(devices=None, enabled=True, device_type="cuda", **ignored):
    """What is drawn inside does not advance the default generators: the CPU's and those of `devices` (all that are used, if not said)."""
    names = None if devices is None else [f"cuda:{d}" if isinstance(d, int) else str(d) for d in devices]
    states = snapshots(names) if enabled else []
    try:
        yield
    finally:
        rewind(states)


def thread_safe_generator() -> Generator | None:
    """The generator of a DataLoader's worker that is a thread; None elsewhere, where the default generator is meant: workers are processes
    here, each with a default generator of its own."""
    return None
