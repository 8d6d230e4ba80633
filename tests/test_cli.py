"""The command line and the alias `torch`: what a script sees when it runs on antorcha."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from antorcha import shim
from antorcha.version import antorcha_version


def antorcha(*arguments, cwd=None, **environment):
    """Run the command; returns (exit status, output, errors)."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(shim.__file__)))
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run([sys.executable, "-m", "antorcha", *map(str, arguments)], capture_output=True, text=True, cwd=cwd,
                          timeout=500, env={**os.environ, "PYTHONPATH": path, **environment})
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(text))
        return path

    return write


def test_torch_is_antorcha(script):
    path = script("""
        import importlib.metadata, sys
        import torch, antorcha
        import torch.nn.functional as F
        from torch import nn
        from torch.utils.data import DataLoader
        assert torch is antorcha and torch.nn is nn and F is antorcha.nn.functional
        assert sys.modules["torch.nn.functional"] is sys.modules["antorcha.nn.functional"]
        assert nn.__spec__.name == "antorcha.nn"
        assert importlib.metadata.version("torch") == torch.__version__
        assert torch.__version__.startswith("2.13.0")
        print(__name__, sys.argv[1:], F.relu(torch.tensor([-1.0, 2.0])).tolist())
    """)
    assert antorcha("run", path, "--lr", "3") == (0, "__main__ ['--lr', '3'] [0.0, 2.0]\n", "")


@pytest.mark.parametrize("statement, error, name", [
    ("torch.package", "AttributeError", "torch.package"),
    ("from torch import package", "ImportError", "torch.package"),
    ("from torch.nn.functional import scaled_grouped_mm", "ImportError", "torch.nn.functional.scaled_grouped_mm"),
    ("import torch.package", "ImportError", "torch.package"),
    ("torch.zeros(2).sparse_resize_", "AttributeError", "torch.Tensor.sparse_resize_"),
])
def test_missing_names_are_said_to_be_missing_here(script, statement, error, name):
    path = script(f"""
        import torch
        try:
            {statement}
        except {error} as e:
            print(e)
    """)
    status, output, errors = antorcha("run", path)
    assert (status, errors) == (0, "")
    assert output.startswith(f"{name} is part of PyTorch but missing here")


def test_hasattr_still_answers(script):
    path = script("import torch; print(hasattr(torch, 'nothing'), hasattr(torch.zeros(1), 'nothing'))")
    assert antorcha("run", path)[1] == "False False\n"


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_worker_processes_see_the_alias(script, how):
    path = script(f"""
        import multiprocessing
        import torch

        def work(i):
            return torch.tensor([i]).add(1).item(), torch.__name__

        if __name__ == "__main__":
            with multiprocessing.get_context({how!r}).Pool(1) as pool:
                print(pool.map(work, [1, 2]))
    """)
    status, output, errors = antorcha("run", path)
    assert (status, output, errors) == (0, "[(2, 'torch'), (3, 'torch')]\n", "")


def test_errors_and_exit_status_are_the_scripts(script):
    status, _, errors = antorcha("run", script("import torch\n\ndef f():\n    1 / 0\n\nf()\n"))
    assert status == 1
    lines = errors.splitlines()
    assert lines[0].startswith("Traceback") and lines[1].endswith("line 6, in <module>")
    assert lines[-1].startswith("ZeroDivisionError")
    assert antorcha("run", script("import sys; sys.exit(7)"))[0] == 7
    status, _, errors = antorcha("run", "no_such_script.py")
    assert status == 2 and "no_such_script.py" in errors


def test_usage_version_and_cache(tmp_path):
    status, output, _ = antorcha("version")
    assert status == 0 and antorcha_version in output
    assert antorcha("frobnicate")[0] == 2 and antorcha("--help")[0] == 0
    cache = {"ANTORCHA_CACHE": str(tmp_path / "cache")}
    assert "0 files" in antorcha("cache", "info", **cache)[1]
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "mine.txt").write_text("not antorcha's")
    assert antorcha("cache", "clear", **cache)[0] == 0
    assert (tmp_path / "cache" / "mine.txt").exists()


def test_the_list_of_names_is_whole():
    names = shim.known_names()
    assert {"matmul", "nn", "float32"} <= names["torch"] and "view" in names["torch.Tensor"]
