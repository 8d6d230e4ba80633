"""The documents' programs run, and print what the documents say. ANTORCHA_UPDATE_DOCS=1 writes the outputs anew."""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"```(python|text|on one machine)\n(.*?)```\n", re.DOTALL)


@pytest.mark.parametrize("name", ["life_of_a_plus_b", "compile"])
def test_a_page_prints_what_it_says(name):
    path = ROOT / "docs" / f"{name}.md"
    text = path.read_text()
    names: dict = {}
    printed = ""
    wrong = []

    def visit(block: re.Match) -> str:
        nonlocal printed
        kind, body = block.groups()
        if kind == "python":
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(compile(body, str(path), "exec"), names)
            printed = output.getvalue()
            return block.group()
        if kind == "text" and body != printed:
            wrong.append((body, printed))
        return f"```{kind}\n{printed}```\n"

    renewed = BLOCK.sub(visit, text)
    if os.environ.get("ANTORCHA_UPDATE_DOCS"):
        path.write_text(renewed)
    else:
        assert not wrong


def test_the_readmes_programs_run():
    for name in ("README.md", "README.es.md"):
        for program in re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL):
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                exec(program, {})
            assert output.getvalue()
    assert output.getvalue() == "tensor([12.])\n"


def test_no_link_in_the_documents_is_broken():
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
