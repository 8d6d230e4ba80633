"""Channels of groups interleaved."""

from __future__ import annotations

from .. import functional as F
from .module import Module


class ChannelShuffle(Module):
    """The channels of (N, C, ...) in `groups`, then one of each group in turn. Zhang et al., 2018."""

    def __init__(self, groups):
        super().__init__()
        self.groups = groups

    def forward(self, input):
        return F.channel_shuffle(input, self.groups)

    def extra_repr(self):
        return f"groups={self.groups}"
