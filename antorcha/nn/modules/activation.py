"""Activations as modules: each calls the function of its name with the options it was made with."""

from __future__ import annotations

from .. import functional as F
from .module import Module


def _activation(name: str, function: str, shown: str = "", **options):
    """A module class over a function of nn.functional; `shown`: its extra_repr as a format string."""

    def __init__(self, *args, **kwargs):
        Module.__init__(self)
        if len(args) > len(options) or set(kwargs) - set(options):
            raise TypeError(f"{name}: expected at most the options {', '.join(options) or 'none'}; received {args or ''} {kwargs or ''}")
        self.__dict__.update({**options, **dict(zip(options, args)), **kwargs})

    def forward(self, input):
        given = {option: getattr(self, option) for option in options}
        inplace = given.pop("inplace", False)
        result = getattr(F, function)(input, **given)
        return input.copy_(result) if inplace else result

    def extra_repr(self):
        text = shown.format(**{option: getattr(self, option) for option in options})
        if getattr(self, "inplace", False):
            text = f"{text}, inplace=True" if text else "inplace=True"
        return text

    body = dict(__init__=__init__, forward=forward, extra_repr=extra_repr, __doc__=f"`torch.nn.functional.{function}` as a module.",
                __module__=__name__)
    return type(name, (Module,), body)


ReLU = _activation("ReLU", "relu", inplace=False)
ReLU6 = _activation("ReLU6", "relu6", inplace=False)
Sigmoid = _activation("Sigmoid", "sigmoid")
Tanh = _activation("Tanh", "tanh")
GELU = _activation("GELU", "gelu", "approximate={approximate!r}", approximate="none")
SiLU = _activation("SiLU", "silu", inplace=False)
Mish = _activation("Mish", "mish", inplace=False)
Softplus = _activation("Softplus", "softplus", "beta={beta}, threshold={threshold}", beta=1.0, threshold=20.0)
ELU = _activation("ELU", "elu", "alpha={alpha}", alpha=1.0, inplace=False)
CELU = _activation("CELU", "celu", "alpha={alpha}", alpha=1.0, inplace=False)
SELU = _activation("SELU", "selu", inplace=False)
LeakyReLU = _activation("LeakyReLU", "leaky_relu", "negative_slope={negative_slope}", negative_slope=1e-2, inplace=False)
Hardtanh = _activation("Hardtanh", "hardtanh", "min_val={min_val}, max_val={max_val}", min_val=-1.0, max_val=1.0, inplace=False)
Hardswish = _activation("Hardswish", "hardswish", inplace=False)
Hardsigmoid = _activation("Hardsigmoid", "hardsigmoid", inplace=False)
LogSigmoid = _activation("LogSigmoid", "logsigmoid")
Softsign = _activation("Softsign", "softsign")
Tanhshrink = _activation("Tanhshrink", "tanhshrink")
GLU = _activation("GLU", "glu", "dim={dim}", dim=-1)
Softmax = _activation("Softmax", "softmax", "dim={dim}", dim=None)
LogSoftmax = _activation("LogSoftmax", "log_softmax", "dim={dim}", dim=None)
