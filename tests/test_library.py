"""torch.library: operators of one's own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import antorcha as torch


@torch.library.custom_op("tests::numpy_sin", mutates_args=())
def numpy_sin(x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.asarray(np.sin(x.numpy()) * np.float32(scale)))


numpy_sin.register_fake(lambda x, scale=1.0: torch.empty_like(x))
numpy_sin.register_autograd(lambda ctx, g: (g * ctx.saved_tensors[0].cos() * ctx.scale, None),
                            setup_context=lambda ctx, inputs, output: (ctx.save_for_backward(inputs[0]), setattr(ctx, "scale", inputs[1])))


def test_custom_operators_compute_and_differentiate():
    x = torch.tensor([0.5, 1.0], requires_grad=True)
    y = numpy_sin(x, scale=2.0)
    y.sum().backward()
    assert torch.allclose(y, 2 * x.sin()) and torch.allclose(x.grad, 2 * x.cos())
    assert torch.equal(torch.ops.tests.numpy_sin(x), torch.ops.tests.numpy_sin.default(x, 1.0))
    assert str(numpy_sin._opoverload._schema) == "numpy_sin(Tensor x, float scale=1.0) -> Tensor"
    assert torch.allclose(torch.vmap(numpy_sin)(x.detach()), x.detach().sin())
    assert set(torch.library.opcheck(numpy_sin, (x.detach(),)).values()) == {"SUCCESS"}
    with pytest.raises(RuntimeError, match="missing value for argument 'x'"):
        numpy_sin()
    with pytest.raises(RuntimeError, match="Expected a value of type 'Tensor'"):
        numpy_sin(3.0)


def test_operators_without_a_derivative_say_so():
    @torch.library.custom_op("tests::opaque", mutates_args=())
    def opaque(x: torch.Tensor) -> torch.Tensor:
        return x.clone()
    y = opaque(torch.ones(2, requires_grad=True))
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        y.sum().backward()


def test_libraries_define_and_implement():
    lib = torch.library.Library("tests_lib", "DEF")
    lib.define("scale(Tensor x, float factor=2.0, *, bool flip=False) -> Tensor")
    with pytest.raises(NotImplementedError, match="Register a kernel"):
        torch.ops.tests_lib.scale(torch.ones(1))
    lib.impl("scale", lambda x, factor, flip: x * (-factor if flip else factor), "CompositeImplicitAutograd")
    x = torch.ones(2, requires_grad=True)
    torch.ops.tests_lib.scale(x, 3.0, flip=True).sum().backward()
    assert x.grad.tolist() == [-3.0, -3.0]
    lib.define("scale.int(Tensor x, int a, int b) -> Tensor")
    lib.impl("scale.int", lambda x, a, b: x * a * b, "CPU")
    assert torch.ops.tests_lib.scale.int(torch.ones(1), 2, 3).item() == 6 and torch.ops.tests_lib.scale.overloads() == ["default", "int"]
    with pytest.raises(RuntimeError, match="multiple times"):
        lib.define("scale(Tensor x) -> Tensor")
    lib._destroy()
    with pytest.raises(AttributeError):
        torch.ops.tests_lib.scale  # noqa: B018
    with pytest.raises(RuntimeError, match="does not exist"):
        torch.library.register_autograd("tests_lib::scale", lambda ctx, g: g)


def test_definitions_without_a_library():
    torch.library.define("tests_free::double", "(Tensor x) -> Tensor")

    @torch.library.impl("tests_free::double", "cpu")
    def double(x):
        return x * 2
    torch.library.register_autograd("tests_free::double", lambda ctx, g: g * 2)
    x = torch.ones(1, requires_grad=True)
    torch.ops.tests_free.double(x).backward()
    assert x.grad.item() == 2


def test_operators_that_write_to_arguments():
    @torch.library.custom_op("tests::fill", mutates_args={"x"})
    def fill(x: torch.Tensor, value: float) -> None:
        x.fill_(value)
    x = torch.zeros(2)
    assert fill(x, 3.0) is None and x.tolist() == [3.0, 3.0] and fill._opoverload._schema.parameters[0].alias
    with pytest.raises(RuntimeError, match="writes to its arguments"):
        fill.register_autograd(lambda ctx, g: None)


@pytest.mark.oracle
def test_inferred_schemas_are_pytorchs():
    oracle = pytest.importorskip("torch")
    source = """
from typing import Optional, Sequence
def f(x: Tensor, n: int = 1, s: Optional[float] = None, *, sizes: Sequence[int], d: torch.dtype = torch.float32,
      y: Optional[Tensor] = None, name: str = "a", ts: list[Tensor]) -> tuple[Tensor, Tensor]: ...
"""
    texts = []
    for library in (torch, oracle):
        space = {"torch": library, "Tensor": library.Tensor}
        exec(source, space)
        texts.append(library.library.infer_schema(space["f"], mutates_args={"x"}))
    assert texts[0] == texts[1]


def test_own_modules_of_operators_are_no_namespaces_of_programs():
    program = "import antorcha as t; x = t.nn.functional.interpolate(t.ones(1, 1, 4, 4), size=2, mode='area'); print(x.sum().item())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "4.0", done.stderr
    assert callable(torch.ops.aten._softmax_backward_data)
    assert repr(torch.ops.some_program) == "<torch.ops.some_program>"
