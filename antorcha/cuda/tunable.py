"""torch.cuda.tunable: choosing among libraries' matrix products by measuring. antorcha emits its own products and chooses by their sizes,
so there is nothing to tune: the settings are kept, and what would tune raises."""

from __future__ import annotations

from ..unavailable import unavailable_function

_INSTEAD = "products are antorcha's own kernels, chosen by their sizes; there is nothing to measure beforehand."
_settings = {"enabled": False, "tuning": True, "untuned": False, "filename": "tunableop_results.csv", "duration": 30, "iterations": 100,
             "rotating": -1}


def _getter(key: str, text: str):
    def get():
        return _settings[key]
    get.__doc__ = text
    return get


def _setter(key: str, text: str):
    def put(value=True) -> None:
        _settings[key] = value
    put.__doc__ = text
    return put


is_enabled, enable = _getter("enabled", "What `enable` was told."), _setter("enabled", "Kept only.")
tuning_is_enabled, tuning_enable = _getter("tuning", "What `tuning_enable` was told."), _setter("tuning", "Kept only.")
record_untuned_is_enabled = _getter("untuned", "What `record_untuned_enable` was told.")
record_untuned_enable = _setter("untuned", "Kept only.")
get_max_tuning_duration, set_max_tuning_duration = _getter("duration", "Milliseconds."), _setter("duration", "Kept only.")
get_max_tuning_iterations, set_max_tuning_iterations = _getter("iterations", "How often."), _setter("iterations", "Kept only.")
get_rotating_buffer_size, set_rotating_buffer_size = _getter("rotating", "Megabytes."), _setter("rotating", "Kept only.")
get_filename = _getter("filename", "The file for results.")
tune_gemm_in_file = unavailable_function("torch.cuda.tunable.tune_gemm_in_file", _INSTEAD)
mgpu_tune_gemm_in_file = unavailable_function("torch.cuda.tunable.mgpu_tune_gemm_in_file", _INSTEAD)


def set_filename(filename: str, insert_device_ordinal: bool = False) -> None:
    """Kept only."""
    _settings["filename"] = filename


def set_numerical_check_tolerances(enable: bool, atol: float = 1e-5, rtol: float = 1e-5) -> None:
    """Kept only."""
    _settings["tolerances"] = (enable, atol, rtol)


def get_results() -> tuple:
    """(): nothing is tuned."""
    return ()


def get_validators() -> tuple:
    """(): nothing is tuned."""
    return ()


def read_file(filename: str | None = None) -> bool:
    """False: results of another engine's kernels are of no use here."""
    return False


__all__ = ["enable", "get_filename", "get_max_tuning_duration", "get_max_tuning_iterations", "get_results", "get_rotating_buffer_size",
           "get_validators", "is_enabled", "mgpu_tune_gemm_in_file", "read_file", "record_untuned_enable", "record_untuned_is_enabled",
           "set_filename", "set_max_tuning_duration", "set_max_tuning_iterations", "set_numerical_check_tolerances",
           "set_rotating_buffer_size", "tune_gemm_in_file", "tuning_enable", "tuning_is_enabled"]
