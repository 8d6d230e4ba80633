"""Settings for all stages of a pipeline at once (`torch.utils.data.graph_settings`)."""

from __future__ import annotations

import antorcha as torch

from .datapipes.iter.sharding import SHARDING_PRIORITIES
from .graph import stages

__all__ = ["apply_random_seed", "apply_sharding", "apply_shuffle_seed", "apply_shuffle_settings", "get_all_graph_pipes", "share_out"]


def get_all_graph_pipes(graph: dict) -> list:
    """All stages in what `traverse_dps` returns."""
    return [stage for pipe, _ in graph.values() for stage in stages(pipe)]


def apply_sharding(datapipe, num_of_instances: int, instance_id: int, sharding_group=SHARDING_PRIORITIES.DEFAULT):
    """Tell each sharding filter which share is this process's. Returns the pipeline."""
    for stage in stages(datapipe):
        if hasattr(type(stage), "apply_sharding"):
            stage.apply_sharding(num_of_instances, instance_id, sharding_group)
    return datapipe


def apply_shuffle_settings(datapipe, shuffle: bool | None = None):
    """Turn the shufflers on or off; with True and no shuffler, one is put behind the pipeline, with a warning. Returns the pipeline."""
    if shuffle is None:
        return datapipe
    shufflers = [stage for stage in stages(datapipe) if hasattr(type(stage), "set_shuffle")]
    if shuffle and not shufflers:
        import warnings

        warnings.warn("`shuffle=True` was set, but the datapipe does not contain a `Shuffler`. Adding one at the end. "
                      "Be aware that the default buffer size might not be sufficient for your task.", stacklevel=3)
        return datapipe.shuffle()
    for shuffler in shufflers:
        shuffler.set_shuffle(shuffle)
    return datapipe


def apply_shuffle_seed(datapipe, rng):
    """The older name of `apply_random_seed`."""
    return apply_random_seed(datapipe, rng)


def apply_random_seed(datapipe, rng):
    """Draw a seed from the generator `rng` for each stage that takes one. Returns the pipeline."""
    for stage in stages(datapipe):
        if hasattr(type(stage), "set_seed"):
            stage.set_seed(int(torch.empty((), dtype=torch.int64).random_(generator=rng).item()))
    return datapipe


def draw_epoch_seed(generator) -> int:
    """The seed of a loader's epoch, from which those of the stages are drawn: the first process's, where there are several."""
    seed = torch.empty((), dtype=torch.int64).random_(generator=generator)
    if torch.distributed.is_initialized():
        torch.distributed.broadcast(seed, src=0)
    return int(seed.item())


def begin_epoch(datapipe, seed: int) -> None:
    """Draw the stages' seeds from `seed`: the same ones in each worker."""
    apply_random_seed(datapipe, torch.Generator().manual_seed(seed))


def share_out(datapipe, workers: int = 1, worker: int = 0) -> None:
    """Tell the sharding filters this process's share: of all processes that train together, and within one of its loader's workers."""
    if torch.distributed.is_initialized():
        apply_sharding(datapipe, torch.distributed.get_world_size(), torch.distributed.get_rank(), SHARDING_PRIORITIES.DISTRIBUTED)
    if workers > 1:
        apply_sharding(datapipe, workers, worker, SHARDING_PRIORITIES.MULTIPROCESSING)
