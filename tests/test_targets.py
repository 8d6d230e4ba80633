"""Code for other processors than the one at hand, and the replay of kernels."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tolerance import agree

import antorcha as torch
from antorcha.base import config
from antorcha.runtime import cpu, jit
from antorcha.targets import llvm
from benchmarks import kernels

ROOT = Path(__file__).parent.parent

# Training steps of a perceptron (in blocks of rows) and of attention, products of odd sizes, 16-bit floats, integers.
SCRIPT = """
import antorcha as torch
from antorcha.graph import flush
F = torch.nn.functional
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(13, 37), torch.nn.Tanh(), torch.nn.Linear(37, 5))
optimizer = torch.optim.AdamW(model.parameters())
x, y = torch.randn(301, 13), torch.randint(0, 5, (301,))
for _ in range(3):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    print(loss.item())
code = "".join(k["kernel"].assembly() for k in flush.last().kernels())
q = torch.randn(2, 3, 19, 8, requires_grad=True)
F.scaled_dot_product_attention(q, q, q, is_causal=True).square().sum().backward()
print(q.grad.norm().item(), (torch.randn(67, 131).double() @ torch.randn(131, 43).double()).norm().item())
print((torch.randn(9, 33).half() * 3 + 0.1).exp().sum().item(), torch.randn(9, 33).bfloat16().softmax(-1).amax().item())
print((torch.arange(1000) // 7 % 13).sum().item(), torch.randn(1000).erf().round(decimals=2).sum().item())
print(" ".join(name for name in ("zmm", "ymm", "vfmadd") if name in code))
"""


def run(processor: str) -> list[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=500,
                          env={**os.environ, "PYTHONPATH": path, "ANTORCHA_CPU": processor})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def here() -> list[str]:
    with contextlib.redirect_stdout(io.StringIO()) as told:
        exec(SCRIPT, {})
    return told.getvalue().splitlines()


@pytest.mark.skipif(cpu.host().machine != "x86_64", reason="other levels of x86-64")
@pytest.mark.parametrize("level, with_, without", [("generic", "", "zmm ymm vfmadd"), ("avx2", "ymm vfmadd", "zmm")])
def test_lesser_processors_compute_the_same(level, with_, without, here):
    if not cpu.NAMED[level].features <= cpu.host().features:
        pytest.skip("needs a processor that has them")
    *values, used = run(level)
    for ours, theirs in zip(values, here):
        agree([float(v) for v in ours.split()], [float(v) for v in theirs.split()])
    assert set(with_.split()) <= set(used.split()) and not set(without.split()) & set(used.split())


@pytest.fixture(scope="module")
def for_arm() -> dict[str, str]:
    """Native code for 64-bit ARM of kernels of all kinds."""
    found = {path: text for path, text in kernels.texts("neon", ["gpt", "halves"]) if path.endswith(".s")}
    with kernels.written_for("neon"):
        found.update({name: jit.assembly(ir) for name, ir in kernels.shared().items()})
    return found


def test_code_for_arm_refers_to_nothing_that_is_missing(for_arm):
    for path, text in for_arm.items():
        for name in re.findall(r"^\s+bl?\s+([A-Za-z_]\w*)$", text, re.M):
            assert f"\n{name}:" in text or jit._resolve(name), f"{path} calls {name}"


def test_code_for_arm_multiplies_in_vectors(for_arm):
    micro = for_arm["micro-kernels torch.float32"]
    body = micro[micro.index("micro_8_3:"):]
    body = body[:body.index(".Lfunc_end")]
    assert len(re.findall(r"fmla\s+v\d+\.4s, v\d+\.4s, v\d+", body)) == 8 * 3      # the register tile, one sum a register
    assert not re.search(r"\b(str|stp)\s+q\d+, .*\[sp", body[body.index("fmla"):body.rindex("fmla")])      # and none is spilled
    assert re.search(r"fmla\s+v\d+\.2d", for_arm["micro-kernels torch.float64"])
    vectors = [path for path, text in for_arm.items() if re.search(r"v\d+\.(4s|2d|8h|16b)", text)]
    assert len(vectors) > 0.7 * len(for_arm)


@pytest.mark.skipif(cpu.host().machine != "x86_64", reason="other levels of x86-64")
def test_avx512_scales_by_floats_and_masks_extremes(monkeypatch):
    """One instruction for 2**n and a comparison for NaN, where LLVM would convert n to an integer and back, and blend."""
    x = torch.randn(40, 500)
    monkeypatch.setitem(kernels.PROGRAMS, "extremes", lambda: (x.logsumexp(1).tolist(), x.amin(1).tolist()))
    code = "".join(text for path, text in kernels.texts("avx512", ["extremes"]) if path.endswith(".s"))
    assert re.search(r"vscalefps\s.*zmm", code) and not re.search(r"vcvttps2dq\s.*zmm", code)
    assert all(re.search(rf"v{extreme}ps\s.*zmm\d+ {{%k\d}}", code) for extreme in ("max", "min"))


def test_extremes_keep_nan_wherever_it_is():
    for place in (0, 7, 16, 70, 900, 999):
        x = torch.linspace(-3, 3, 1000)
        x[place] = torch.nan
        assert all(f(x, 0).isnan().item() for f in (torch.amax, torch.amin, torch.logsumexp))
        x[place] = torch.inf
        assert (x.amax().item(), (-x).amin().item()) == (torch.inf, -torch.inf)


def test_code_for_another_processor_is_not_run():
    foreign = "neon" if cpu.host().machine == "x86_64" else "avx2"
    with kernels.written_for(foreign), pytest.raises(RuntimeError, match="ANTORCHA_CPU: .* can be looked at, not run"):
        jit.load_module(f"for {foreign}", lambda: "")
    assert config.cpu == "host" or os.environ.get("ANTORCHA_CPU")


def test_replay_shows_what_a_change_changes(tmp_path, monkeypatch, capsys):
    only = ["record exp", "record sin"]
    assert kernels.save(tmp_path, config.cpu, only) >= 3
    assert kernels.compare(tmp_path, config.cpu, only, 5) == 0
    assert capsys.readouterr().out == "no difference\n"
    monkeypatch.setitem(kernels.PROGRAMS, "record sin", lambda: torch.ones(3).sin().tolist())
    monkeypatch.setattr(llvm, "literal", lambda value, d, literal=llvm.literal: literal(value * 1.001 if 0 < value < 1 else value, d))
    assert kernels.compare(tmp_path, config.cpu, only, 5) > 0
    told = capsys.readouterr().out
    assert "record exp" in told and ".ll: " in told and ".loop" not in told.split("record sin")[0] and "differ" in told
