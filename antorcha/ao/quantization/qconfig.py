"""Configurations: which observers (or fake quantization) activations and weights get."""

from __future__ import annotations

from collections import namedtuple

import antorcha as torch

from ...nn import Identity, Module
from . import fake_quantize as fake
from . import observer as obs


class QConfig(namedtuple("QConfig", ["activation", "weight"])):
    """Factories of what observes activations and weights: classes, or `with_args` of such."""

    __slots__ = ()

    def __new__(cls, activation, weight):
        for x in (activation, weight):
            if isinstance(x, Module):
                raise ValueError("QConfig: expected classes or factories of observers; received an instance. Use with_args: "
                                 "MinMaxObserver.with_args(dtype=torch.qint8)")
        return super().__new__(cls, activation, weight)


default_qconfig = QConfig(obs.default_observer, obs.default_weight_observer)
default_debug_qconfig = QConfig(obs.default_debug_observer, obs.default_weight_observer)
default_per_channel_qconfig = QConfig(obs.default_observer, obs.default_per_channel_weight_observer)
default_reuse_input_qconfig = QConfig(obs.default_reuse_input_observer, obs.NoopObserver)
default_dynamic_qconfig = QConfig(obs.default_dynamic_quant_observer, obs.default_weight_observer)
per_channel_dynamic_qconfig = QConfig(obs.default_dynamic_quant_observer, obs.default_per_channel_weight_observer)
float16_dynamic_qconfig = QConfig(obs.PlaceholderObserver.with_args(dtype=torch.float16, is_dynamic=True),
                                  obs.PlaceholderObserver.with_args(dtype=torch.float16))
float16_static_qconfig = QConfig(obs.PlaceholderObserver.with_args(dtype=torch.float16),
                                 obs.PlaceholderObserver.with_args(dtype=torch.float16))
float_qparams_weight_only_qconfig = QConfig(obs.default_placeholder_observer, obs.default_float_qparams_observer)
default_qat_qconfig = QConfig(fake.default_fake_quant, fake.default_weight_fake_quant)
default_qat_qconfig_v2 = QConfig(fake.default_fused_act_fake_quant, fake.default_fused_wt_fake_quant)
default_dynamic_qat_qconfig = QConfig(fake.default_dynamic_fake_quant, fake.default_weight_fake_quant)
default_embedding_qat_qconfig = QConfig(obs.NoopObserver.with_args(dtype=torch.float32), fake.default_embedding_fake_quant)
default_weight_only_qconfig = QConfig(Identity, fake.default_weight_fake_quant)
default_activation_only_qconfig = QConfig(fake.default_fake_quant, Identity)
default_quint8_weight_qconfig = QConfig(obs.HistogramObserver, obs.MinMaxObserver)
default_symmetric_qnnpack_qconfig = QConfig(obs.HistogramObserver.with_args(dtype=torch.qint8, reduce_range=False, eps=2**-12),
                                            obs.weight_observer_range_neg_127_to_127)
default_per_channel_symmetric_qnnpack_qconfig = QConfig(
    obs.HistogramObserver.with_args(dtype=torch.qint8, reduce_range=False, eps=2**-12),
    obs.per_channel_weight_observer_range_neg_127_to_127)
_SIGNED = fake.FusedMovingAvgObsFakeQuantize.with_args(observer=obs.MovingAverageMinMaxObserver, quant_min=-128, quant_max=127,
                                                       dtype=torch.qint8, reduce_range=False, eps=2**-12)
default_symmetric_qnnpack_qat_qconfig = QConfig(_SIGNED, fake.fused_wt_fake_quant_range_neg_127_to_127)
default_per_channel_symmetric_qnnpack_qat_qconfig = QConfig(_SIGNED, fake.fused_per_channel_wt_fake_quant_range_neg_127_to_127)

BACKENDS = ("fbgemm", "x86", "qnnpack", "onednn")


def _known(what: str, backend: str) -> str:
    if backend not in BACKENDS:
        raise AssertionError(f"{what}: expected a backend among {', '.join(BACKENDS)}; received {backend}")
    return backend


def get_default_qconfig(backend="x86", version=0):
    """The configuration PyTorch recommends for a processor's instructions: for "fbgemm" and "x86" activations of 7 bits and a scale for
    each row of a weight."""
    if _known("get_default_qconfig", backend) == "qnnpack":
        return QConfig(obs.HistogramObserver.with_args(reduce_range=False), obs.default_weight_observer)
    return QConfig(obs.HistogramObserver.with_args(reduce_range=backend != "onednn"), obs.default_per_channel_weight_observer)


def get_default_qat_qconfig(backend="x86", version=1):
    """`get_default_qconfig` for training: with fake quantization."""
    _known("get_default_qat_qconfig", backend)
    rows = backend != "qnnpack"
    seen = dict(observer=obs.MovingAverageMinMaxObserver, quant_min=0, quant_max=255)
    if version == 0:
        return QConfig(fake.FakeQuantize.with_args(**seen, reduce_range=backend in ("fbgemm", "x86")),
                       fake.default_per_channel_weight_fake_quant if rows else fake.default_weight_fake_quant)
    return QConfig(fake.FusedMovingAvgObsFakeQuantize.with_args(**seen, reduce_range=backend in ("fbgemm", "x86")),
                   fake.default_fused_per_channel_wt_fake_quant if rows else fake.default_fused_wt_fake_quant)


def qconfig_equals(q1, q2) -> bool:
    """Whether two configurations make the same observers."""
    if q1 is None or q2 is None:
        return q1 is q2
    return all(_parts(a) == _parts(b) for a, b in zip(q1, q2))


def _parts(factory):
    partial = factory.p if isinstance(factory, obs.Partial) else factory
    return (partial.func, partial.keywords) if hasattr(partial, "keywords") else (partial, {})


__all__ = [
    "QConfig",
    "default_activation_only_qconfig",
    "default_debug_qconfig",
    "default_dynamic_qat_qconfig",
    "default_dynamic_qconfig",
    "default_embedding_qat_qconfig",
    "default_per_channel_qconfig",
    "default_per_channel_symmetric_qnnpack_qat_qconfig",
    "default_per_channel_symmetric_qnnpack_qconfig",
    "default_qat_qconfig",
    "default_qat_qconfig_v2",
    "default_qconfig",
    "default_quint8_weight_qconfig",
    "default_reuse_input_qconfig",
    "default_symmetric_qnnpack_qat_qconfig",
    "default_symmetric_qnnpack_qconfig",
    "default_weight_only_qconfig",
    "float16_dynamic_qconfig",
    "float16_static_qconfig",
    "float_qparams_weight_only_qconfig",
    "get_default_qat_qconfig",
    "get_default_qconfig",
    "per_channel_dynamic_qconfig",
    "qconfig_equals",
]
