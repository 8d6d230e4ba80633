"""The layers of docs/decisions.md: imports go down the list, and importing the package loads NumPy at most."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "antorcha"
ORDER = ["base", "runtime", "targets", "loops", "graph", "ops", "core"]     # all else is the surface, on top
LANGUAGE = ("loops.ir",)    # what targets read: the language between the layers, importable from below


def rank(module: str) -> int:
    top = module.split(".")[0]
    return ORDER.index(top) if top in ORDER else len(ORDER)


def imported(path: Path):
    """(line, module within the package) of every import, inside functions too."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[:-node.level] if path.name != "__init__.py" else here[:len(here) - node.level]
            parts = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                yield node.lineno, ".".join([*parts, alias.name] if (PACKAGE.joinpath(*parts, alias.name + ".py").exists()
                                                                       or PACKAGE.joinpath(*parts, alias.name).is_dir()) else parts)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "antorcha":
                    yield node.lineno, alias.name[len("antorcha."):]


def test_imports_go_down():
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for line, target in imported(path):
            if rank(target) > rank(module) and target and not target.startswith(LANGUAGE):
                wrong.append(f"{path.relative_to(PACKAGE.parent)}:{line} imports {target}, which lies above")
    assert not wrong, "\n".join(wrong)


def test_importing_loads_numpy_at_most():
    script = ("import sys; before = set(sys.modules); import antorcha; new = {m.split('.')[0] for m in set(sys.modules) - before}\n"
              "print(sorted(m for m in new if m in ('llvmlite', 'scipy', 'matplotlib', 'torch', 'PIL', 'tqdm')))")
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_importing_loads_no_module_that_only_computing_needs():
    needed = "'_hashlib', 'subprocess', 'antorcha.targets.llvm', 'antorcha.graph.flush', 'antorcha.loops.lower', 'antorcha.runtime.jit'"
    script = f"import sys, numpy; before = set(sys.modules); import antorcha; print((set(sys.modules) - before) & {{{needed}}})"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"
