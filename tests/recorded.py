"""What a computation took, for tests that look at its kernels."""

from __future__ import annotations

from antorcha.explaining import Recorder


def kernels(work) -> tuple:
    """(what `work` gives, the kernels that it took). What it gives is computed, if it is a tensor."""
    with Recorder() as recorder:
        result = work()
        if hasattr(result, "data_ptr"):
            result.data_ptr()
    return result, recorder.kernels()


def program_text(work) -> str:
    """The loop programs of what `work` computes."""
    return "\n".join([k["program"].text() for k in kernels(work)[1] if k["program"]])
