"""Checkpoints: parts of a network whose intermediate values are not kept but computed again in the backward pass.

Chen, Xu, Zhang and Guestrin (2016), "Training deep nets with sublinear memory cost". Two ways:

- use_reentrant=False: what operations within would keep for the backward pass is kept as a placeholder; the first that is needed has
  the part run again, and the values fill all placeholders. Everything autograd can do works.
- use_reentrant=True: the part is one operation, whose derivative runs it again and starts a backward pass of its own within.
"""

from __future__ import annotations

import contextlib
import warnings
import weakref

import antorcha as torch

from ..autograd.graph import saved_tensors_hooks
from ..base.grad_mode import mode, set_autocast
from ..core.generator import rewind, snapshots

__all__ = ["checkpoint", "checkpoint_sequential", "CheckpointError", "CheckpointFunction", "check_backward_validity", "detach_variable",
           "get_device_states", "set_device_states", "noop_context_fn", "set_checkpoint_early_stop", "DefaultDeviceType",
           "set_checkpoint_debug_enabled"]

_DEFAULT_DETERMINISM_MODE = "default"


class CheckpointError(RuntimeError):
    """The part kept something else when it was run again."""


class _Options:
    early_stop: bool | None = None
    debug: bool | None = None


@contextlib.contextmanager
def _option(name: str, value):
    before = getattr(_Options, name)
    setattr(_Options, name, value)
    try:
        yield
    finally:
        setattr(_Options, name, before)


def set_checkpoint_early_stop(enable: bool):
    """A context: whether recomputing stops once all that is needed has been computed."""
    return _option("early_stop", enable)


def set_checkpoint_debug_enabled(enabled: bool | None):
    """A context: whether errors list the operations of both runs, as with debug=True."""
    return _option("debug", enabled)


def noop_context_fn():
    """Two contexts that do nothing."""
    return contextlib.nullcontext(), contextlib.nullcontext()


class DefaultDeviceType:
    """The type of device whose random numbers are kept where no tensor tells another."""

    _type = "cpu"

    @staticmethod
    def set_device_type(device: str = "cpu") -> None:
        DefaultDeviceType._type = device

    @staticmethod
    def get_device_type() -> str:
        return DefaultDeviceType._type


def detach_variable(inputs: tuple) -> tuple:
    """The inputs with their tensors detached; these require grad as before."""
    if not isinstance(inputs, tuple):
        raise RuntimeError(f"Only tuple of tensors is supported. Got Unsupported input type: {type(inputs).__name__}")
    return tuple(x.detach().requires_grad_(x.requires_grad) if isinstance(x, torch.Tensor) else x for x in inputs)


def check_backward_validity(inputs) -> None:
    """Warn where no input requires grad."""
    if not any(isinstance(x, torch.Tensor) and x.requires_grad for x in inputs):
        warnings.warn("None of the inputs have requires_grad=True. Gradients will be None", stacklevel=3)


def get_device_states(*args) -> tuple[list, list]:
    """(devices, states of their random numbers) of the tensors' devices other than the CPU."""
    return [], []


def set_device_states(devices, states, *, device_type=None) -> None:
    """Set what `get_device_states` returned."""


class _Surroundings:
    """What a part may depend on besides its arguments: the random numbers (if asked for) and autocast, as they are now."""

    def __init__(self, preserve_rng_state: bool):
        self.numbers = snapshots() if preserve_rng_state else None
        self.autocast = mode.autocast

    @contextlib.contextmanager
    def again(self):
        """Inside, it is as it was; random numbers drawn inside do not advance the generators."""
        before = snapshots(), mode.autocast
        set_autocast(self.autocast)
        if self.numbers is not None:
            rewind(self.numbers)
        try:
            yield
        finally:
            set_autocast(before[1])
            if self.numbers is not None:
                rewind(before[0])


# -- as one operation -------------------------------------------------------------------------------------------

class CheckpointFunction(torch.autograd.Function):
    """The operation of a part that is checkpointed with use_reentrant=True."""

    @staticmethod
    def forward(ctx, run_function, preserve_rng_state, *args):
        check_backward_validity(args)
        ctx.run_function = run_function
        ctx.surroundings = _Surroundings(preserve_rng_state)
        ctx.inputs = [None if isinstance(x, torch.Tensor) else x for x in args]
        ctx.places = [i for i, x in enumerate(args) if isinstance(x, torch.Tensor)]
        ctx.save_for_backward(*[args[i] for i in ctx.places])
        with torch.no_grad():
            return run_function(*args)

    @staticmethod
    def backward(ctx, *grads):
        if not mode.accumulates:
            raise RuntimeError("When use_reentrant=True, torch.utils.checkpoint is incompatible with .grad() or passing an `inputs` "
                               "parameter to .backward(). To resolve this error, you can either set use_reentrant=False, or call "
                               ".backward() without passing the `inputs` argument.")
        inputs = list(ctx.inputs)
        for i, tensor in zip(ctx.places, ctx.saved_tensors):
            inputs[i] = tensor
        detached = detach_variable(tuple(inputs))
        with ctx.surroundings.again(), torch.enable_grad():
            outputs = ctx.run_function(*detached)
        outputs = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
        pairs = [(o, g) for o, g in zip(outputs, grads) if isinstance(o, torch.Tensor) and o.requires_grad and g is not None]
        if not pairs:
            raise RuntimeError("none of output has requires_grad=True, this checkpoint() is not necessary")
        torch.autograd.backward([o for o, _ in pairs], [g for _, g in pairs])
        return (None, None, *[x.grad if isinstance(x, torch.Tensor) else None for x in detached])


# -- as placeholders --------------------------------------------------------------------------------------------

class _Placeholder:
    """Stands for a value that an operation would have kept."""

    __slots__ = ("__weakref__",)


class _Done(Exception):
    """All that is needed has been computed again."""


class _Part:
    """One run of a checkpointed function: placeholders in the order of what was kept, and their values once computed again.

    A value is held as long as its placeholder: autograd drops both when it has passed the operation."""

    def __init__(self, run, describe: bool, early_stop: bool, debug: bool):
        self.run, self.describe, self.early_stop, self.debug = run, describe, early_stop, debug
        self.placeholders: list = []        # weak references
        self.kinds: list = []               # (shape, dtype, device) of each
        self.values: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def pack(self, tensor):
        placeholder = _Placeholder()
        self.placeholders.append(weakref.ref(placeholder))
        self.kinds.append(_kind(tensor))
        return placeholder

    def unpack(self, placeholder):
        if placeholder not in self.values:
            self._compute_again()
        return self.values[placeholder]

    def _compute_again(self) -> None:
        found: list = []

        def pack(tensor):
            i = len(found)
            found.append(_kind(tensor))
            placeholder = self.placeholders[i]() if i < len(self.placeholders) else None
            if placeholder is not None:
                self.values[placeholder] = tensor.detach()
            if self.early_stop and len(found) == len(self.placeholders):
                raise _Done
            return tensor.detach()

        with saved_tensors_hooks(pack, lambda tensor: tensor), torch.enable_grad(), contextlib.suppress(_Done):
            self.run()
        self._check(found)

    def _check(self, found: list) -> None:
        if len(found) != len(self.kinds):
            raise CheckpointError("torch.utils.checkpoint: A different number of tensors was saved during the original forward and "
                                  f"recomputation.\nNumber of tensors saved during forward: {len(self.kinds)}\n"
                                  f"Number of tensors saved during recomputation: {len(found)}." + self._both(found))
        differing = [i for i, (a, b) in enumerate(zip(self.kinds, found)) if a != b]
        if self.describe and differing:
            lines = "\n".join(f"tensor at position {i}:\nsaved metadata: {_shown(self.kinds[i])}\nrecomputed metadata: {_shown(found[i])}"
                              for i in differing)
            raise CheckpointError("torch.utils.checkpoint: Recomputed values for the following tensors have different metadata than during "
                                  f"the forward pass.\n{lines}" + self._both(found))

    def _both(self, found: list) -> str:
        if not self.debug:
            return "\nPass debug=True to checkpoint() to see what each run kept."
        return "".join(f"\nKept by the {name}:\n" + "\n".join(f"  {_shown(k)}" for k in kinds)
                       for name, kinds in (("first run", self.kinds), ("second run", found)))


def _kind(tensor) -> tuple:
    return tuple(tensor.shape), tensor.dtype, tensor.device


def _shown(kind: tuple) -> dict:
    return dict(zip(("shape", "dtype", "device"), kind))


def _with_placeholders(function, args, kwargs, preserve_rng_state, context_fn, determinism_check, debug, early_stop):
    if determinism_check not in ("default", "none"):
        raise ValueError(f"determinism_check should be one of ['default', 'none'], but got {determinism_check}")
    forward_context, again_context = context_fn()
    surroundings = _Surroundings(preserve_rng_state)

    def run():
        with surroundings.again(), again_context:
            function(*args, **kwargs)

    part = _Part(run, determinism_check == "default", early_stop if _Options.early_stop is None else _Options.early_stop,
                 debug if _Options.debug is None else _Options.debug)
    with saved_tensors_hooks(part.pack, part.unpack), forward_context:
        return function(*args, **kwargs)


# -- the two functions ------------------------------------------------------------------------------------------

def checkpoint(function, *args, use_reentrant: bool | None = None, context_fn=noop_context_fn,
               determinism_check: str = _DEFAULT_DETERMINISM_MODE, debug: bool = False, early_stop: bool = True, **kwargs):
    """function(*args, **kwargs), without keeping its intermediate values for the backward pass, which computes them again.

    preserve_rng_state (keyword, True): draw the same random numbers again. context_fn: gives the contexts of the first and of the second
    run. determinism_check: "default" compares shapes, dtypes and devices of what both runs keep (CheckpointError), "none" does not.
    debug: errors list what each run kept. early_stop: end the second run when nothing more is needed. The last four, and keywords for
    `function`, are for use_reentrant=False.
    """
    if use_reentrant is None:
        warnings.warn("torch.utils.checkpoint: the use_reentrant parameter should be passed explicitly. use_reentrant=False is "
                      "recommended; without it, use_reentrant=True is assumed.", stacklevel=2)
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if not use_reentrant:
        return _with_placeholders(function, args, kwargs, preserve, context_fn, determinism_check, debug, early_stop)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    if context_fn is not noop_context_fn or debug is not False:
        raise ValueError("Passing `context_fn` or `debug` is only supported when use_reentrant=False.")
    return CheckpointFunction.apply(function, preserve, *args)


def checkpoint_sequential(functions, segments: int, input, use_reentrant: bool | None = None, **kwargs):
    """The functions (or the children of a Sequential) one after the other, checkpointed in `segments` parts but for the last."""
    if use_reentrant is None:
        warnings.warn("torch.utils.checkpoint.checkpoint_sequential: the use_reentrant parameter should be passed explicitly. "
                      "use_reentrant=False is recommended; without it, use_reentrant=True is assumed.", stacklevel=2)
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    if isinstance(functions, torch.nn.Sequential):
        functions = list(functions.children())
    size = len(functions) // segments

    def part(start, stop):
        def run(x):
            for function in functions[start:stop]:
                x = function(x)
            return x
        return run

    start = 0
    for _ in range(segments - 1):
        input = checkpoint(part(start, start + size), input, use_reentrant=use_reentrant, preserve_rng_state=preserve)
        start += size
    return part(start, len(functions))(input)
