"""Whether derivatives are recorded: no_grad and its relatives, as contexts and decorators."""

from __future__ import annotations

from ..base.grad_mode import mode, set_grad

new = object.__new__


def is_grad_enabled() -> bool:
    return mode.grad


class _Decorator:
    """A context manager that also decorates functions and generators' functions."""

    def __call__(self, function):
        import functools
        import inspect

        if inspect.isclass(function):
            function.__init__ = self(function.__init__)
            return function
        if inspect.isgeneratorfunction(function):
            @functools.wraps(function)
            def generator(*args, **kwargs):
                with self.clone():
                    items = function(*args, **kwargs)
                    try:
                        item = next(items)
                    except StopIteration as stop:
                        return stop.value
                while True:
                    try:
                        sent = yield item
                    except BaseException as e:
                        with self.clone():
                            item = items.throw(e)
                        continue
                    with self.clone():
                        try:
                            item = items.send(sent)
                        except StopIteration as stop:
                            return stop.value
            return generator

        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            with self.clone():
                return function(*args, **kwargs)
        return wrapped

    def clone(self):
        return type(self)()


class no_grad(_Decorator):
    """Operations inside record no derivative."""

    wanted = False

    def __new__(cls, function=None):
        self = new(cls)
        self._before = []
        return self if function is None else self(function)

    def __enter__(self):
        before = mode.grad
        self._before.append(before)
        if before is not self.wanted:
            set_grad(self.wanted)

    def __exit__(self, *exc):
        before = self._before.pop()
        if mode.grad is not before:
            set_grad(before)


class enable_grad(no_grad):
    """Operations inside record their derivative, also within `no_grad`."""

    wanted = True


class set_grad_enabled(_Decorator):
    """Switch the recording of derivatives on or off, as a function, context manager or decorator."""

    def __init__(self, mode_: bool):
        self._previous = mode.grad
        self.mode = mode_
        set_grad(bool(mode_))

    def __call__(self, function):
        set_grad(self._previous)
        return super().__call__(function)

    def __enter__(self):
        set_grad(bool(self.mode))

    def __exit__(self, *exc):
        set_grad(self._previous)

    def clone(self):
        return type(self)(self.mode)


class inference_mode(_Decorator):
    """Like `no_grad`; results made inside cannot take part in differentiation later."""

    def __new__(cls, mode=True):
        self = super().__new__(cls)
        if callable(mode):
            self.__init__(True)
            return self(mode)
        return self

    def __init__(self, mode=True):
        self.mode = mode if isinstance(mode, bool) else True

    def __enter__(self):
        self._before = mode.grad, mode.inference
        if self.mode:
            set_grad(False)
            mode.inference = True

    def __exit__(self, *exc):
        recorded, mode.inference = self._before
        set_grad(recorded)

    def clone(self):
        return type(self)(self.mode)
