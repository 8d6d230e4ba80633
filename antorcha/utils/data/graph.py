"""The stages that a pipeline is made of (`torch.utils.data.graph`)."""

from __future__ import annotations

from .datapipes.datapipe import IterDataPipe, MapDataPipe

__all__ = ["traverse", "traverse_dps"]


def traverse_dps(datapipe) -> dict:
    """{id of the stage: (the stage, the same of the stages that it draws from)}."""
    return _traverse(datapipe, frozenset())


def traverse(datapipe, only_datapipe: bool | None = None) -> dict:
    """The older name of `traverse_dps`."""
    return traverse_dps(datapipe)


def _traverse(datapipe, seen: frozenset) -> dict:
    if id(datapipe) in seen:
        return {}
    seen |= {id(datapipe)}
    below: dict = {}
    for source in _sources(vars(datapipe)):
        below.update(_traverse(source, seen))
    return {id(datapipe): (datapipe, below)}


def _sources(value):
    """The stages that a stage's attributes hold, in containers and in the shared source of forks too."""
    if isinstance(value, (IterDataPipe, MapDataPipe)):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _sources(item)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _sources(item)
    elif type(value).__name__ == "_Source":
        yield value.datapipe


def stages(datapipe) -> list:
    """All stages of a pipeline, each once."""
    found: dict = {}

    def collect(graph: dict) -> None:
        for key, (stage, below) in graph.items():
            found[key] = stage
            collect(below)

    collect(traverse_dps(datapipe))
    return list(found.values())
