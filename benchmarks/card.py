"""Everything that waits for a GPU, in one command: the tests, every record on CPU and GPU, all measurements.

    python -m benchmarks.card [--torch PYTHON] [--out FOLDER] [--minutes M] [--dry-run]

PYTHON is the interpreter of an environment with PyTorch, to measure beside it. Each part is a process of its own with a time limit; what
fails or takes too long leaves the others alone. FOLDER (./card) then holds results.json, results.md, and what each part printed.
`--minutes`: for the longest part. `--dry-run`: a few of each, in small sizes, on the driver of the tests; no GPU is needed.

Tests that fail are run again without the first of them, in a new process: after an invalid access a GPU refuses all that follows.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from .cuda import WHAT

ROOT = Path(__file__).parent.parent
OUTCOME = re.compile(r"^(tests/\S+?\.py::.+?) (PASSED|FAILED|ERROR|SKIPPED)\b", re.MULTILINE)
FACTS = """
import json, antorcha as torch
p = torch.cuda.get_device_properties(0)
print(json.dumps({"name": p.name, "capability": [p.major, p.minor], "memory": p.total_memory, "processors": p.multi_processor_count}))
"""
DRY = ["add", "softmax"]    # records


def run(command: list[str], log: Path, seconds: float) -> tuple[int | None, str]:
    """(the exit status, None after the time limit, and what was printed) of a process and all that it starts."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    with open(log, "a") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = None
    return status, log.read_text(errors="replace")


def tests(selection: list[str], log: Path, seconds: float) -> dict:
    """How the tests of a selection went."""
    stop, outcomes, late, chosen = time.monotonic() + seconds, {}, False, selection
    while True:
        log.write_text("")
        command = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider", "-o", "addopts=", *chosen]
        status, text = run(command, log, stop - time.monotonic())
        log.with_suffix(f".{len(list(log.parent.glob(log.stem + '.*')))}.txt").write_text(text)
        found = dict(OUTCOME.findall(text))
        if not found:
            outcomes[f"nothing ran: {' '.join(text.split())[-200:]}"] = "ERROR"
        outcomes.update(found)
        failed = [name for name, how in found.items() if how in ("FAILED", "ERROR")]
        late = late or status is None
        if len(failed) < 2 or late:
            break
        chosen = [*[option for option in selection if option.startswith("--")], *failed[1:]]
    count = {how: sum(o == how for o in outcomes.values()) for how in ("PASSED", "FAILED", "ERROR", "SKIPPED")}
    return {**{how.lower(): n for how, n in count.items()}, "out of time": late,
            "failures": [name for name, how in outcomes.items() if how in ("FAILED", "ERROR")]}


def last_json(text: str) -> dict | None:
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    return None


def measured(what: str, options, seconds: float) -> dict | None:
    """What benchmarks/cuda.py prints; None if it fails or takes too long."""
    command = [sys.executable, "-m", "benchmarks.cuda", "--only", what, *(["--torch", options.torch] if options.torch else [])]
    status, text = run(command + ["--quick", "--fake"] * options.dry_run, options.out / f"{what}.txt", seconds)
    return (last_json(text) or {}).get(what) if status == 0 else None


def table(results: dict) -> str:
    """The results for people."""
    facts = results["card"] or {}
    lines = [f"# {facts.get('name', 'no GPU')}, compute capability {'.'.join(map(str, facts.get('capability', ['?'])))}", "",
             "| tests | passed | failed | skipped | in time |", "|---|---|---|---|---|"]
    for name, t in results["tests"].items():
        lines.append(f"| {name} | {t['passed']} | {t['failed'] + t['error']} | {t['skipped']} | {'no' if t['out of time'] else 'yes'} |")
        lines += [f"| - {failure} | | | | |" for failure in t["failures"]]
    for what, engines in results["measured"].items():
        if engines is None:
            lines += ["", f"{what}: failed, or out of time"]
            continue
        lines += ["", f"| {what} | {' | '.join(engines)} |", "|---" * (len(engines) + 1) + "|"]
        for key in dict.fromkeys(k for found in engines.values() if found for k in found if k != "losses"):
            cells = [f"{found[key]:.3f}" if found and key in found else "-" for found in engines.values()]
            lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch")
    parser.add_argument("--out", type=Path, default=Path("card"))
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--only", nargs="*", choices=("records", "others", *WHAT), default=("records", "others", *WHAT))
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args(given)
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    for old in options.out.glob("*.txt"):
        old.unlink()
    seconds, fake = 60 * options.minutes, ["--fake-gpu"] * options.dry_run
    _, text = run([sys.executable, "-c", FACTS], options.out / "card.txt", 60)
    results: dict = {"card": last_json(text), "tests": {}, "measured": {}}
    if results["card"] is None and not options.dry_run:
        sys.exit(f"There is no GPU: {text.strip().splitlines()[-1]}")
    records = [f"tests/test_gpu.py::test_records_agree[{name}]" for name in DRY] if options.dry_run else \
        ["tests/test_gpu.py", "-k=test_records_agree"]
    others = ["tests/test_gpu.py::test_memory_and_streams"] if options.dry_run else ["tests/test_gpu.py", "-k=not test_records_agree"]
    for name, selection in (("others", others), ("records", records)):
        if name in options.only:
            results["tests"][name] = tests([*selection, *fake], options.out / f"{name}.txt", seconds)
            print(name, {k: v for k, v in results["tests"][name].items() if k != "failures"}, flush=True)
    for what in WHAT:
        if what in options.only:
            results["measured"][what] = measured(what, options, seconds)
            print(what, results["measured"][what], flush=True)
    (options.out / "results.json").write_text(json.dumps(results, indent=1))
    (options.out / "results.md").write_text(table(results))
    print(f"\n{table(results)}\n{options.out / 'results.json'}")


if __name__ == "__main__":
    main()
