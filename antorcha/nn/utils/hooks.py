"""Hooks that stand for a change of a module's parameter."""

from __future__ import annotations


def undo(module, is_it, complaint: str):
    """Remove the first forward pre-hook for which `is_it(hook)`, after its own `remove(module)`. ValueError(complaint) without one."""
    for key, hook in module._forward_pre_hooks.items():
        if is_it(hook):
            hook.remove(module)
            del module._forward_pre_hooks[key]
            return module
    raise ValueError(complaint)
