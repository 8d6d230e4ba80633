"""The command `antorcha`.

    antorcha run script.py ARGS...       run a script that says `import torch` on antorcha, unchanged
    antorcha run -m package.module ...   the same of a module
    antorcha explain script.py ARGS...   run it, and print the graphs, kernels and times of what it computed
    antorcha cache info | clear          the compiled code kept between runs
    antorcha version
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

USAGE = (__doc__ or "").split("\n\n", 1)[1]


def main(arguments: list[str] | None = None) -> int:
    """Carry out a command line; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    command, rest = (given[0], given[1:]) if given else ("", [])
    if command in ("run", "explain"):
        if not rest or rest[0] in ("-h", "--help"):
            print(USAGE)
            return 0 if rest else 2
        return run(rest) if command == "run" else explain(rest)
    if command == "cache" and rest in (["info"], ["clear"]):
        return cache(rest[0])
    if command in ("version", "--version", "-V"):
        from .version import antorcha_version, torch_version

        print(f"antorcha {antorcha_version}, with the API of torch {torch_version.partition('+')[0]}; Python {sys.version.split()[0]}")
        return 0
    if command in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    what = f"received {' '.join(given)!r}" if given else "received none"
    print(f"antorcha: expected one of the commands below; {what}.\n\n{USAGE}", file=sys.stderr)
    return 2


def run(arguments: list[str]) -> int:
    """Run a script, or with -m a module, as `python` would, with `torch` meaning antorcha."""
    from .shim import install

    install()
    if arguments[0] == "-m":
        return _run_module(arguments[1:])
    script = arguments[0]
    try:
        with open(script, "rb") as file:
            source = file.read()
    except OSError as error:
        print(f"antorcha run: can't open {script!r}: {error.strerror}. Give the path of a Python script.", file=sys.stderr)
        return 2
    sys.argv = list(arguments)
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    module = ModuleType("__main__")
    module.__dict__.update(__file__=os.path.abspath(script), __builtins__=__builtins__, __spec__=None, __cached__=None)
    sys.modules["__main__"] = module
    return _guarded(lambda: exec(compile(source, script, "exec"), module.__dict__))


def _run_module(arguments: list[str]) -> int:
    import runpy

    if not arguments:
        print("antorcha run -m: expected the name of a module; received none.", file=sys.stderr)
        return 2
    sys.argv = list(arguments)
    sys.path[0] = os.getcwd()
    return _guarded(lambda: runpy.run_module(arguments[0], run_name="__main__", alter_sys=True))


def _guarded(body) -> int:
    """Run `body`; an error is printed as Python prints it, beginning at the script's own first line."""
    try:
        body()
    except SystemExit:
        raise
    except BaseException as error:
        trace = error.__traceback__
        for _ in range(2):  # this function and the lambda
            trace = trace.tb_next if trace is not None and trace.tb_next is not None else trace
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


def explain(arguments: list[str]) -> int:
    """Run a script and print what was recorded, compiled and timed."""
    from .explaining import Recorder

    code = "--code" in arguments[:1]
    with Recorder() as recorder:
        status = run(arguments[1:] if code else arguments)
    print(recorder.report(code=code))
    return status


def cache(command: str) -> int:
    """Print the size of the cache of compiled code, or empty it."""
    from .runtime.cache import DiskCache, default_directory

    directory = default_directory()
    kept = [os.path.join(folder, name) for folder, _, names in os.walk(directory) for name in names]
    size = sum(os.path.getsize(path) for path in kept if os.path.exists(path))
    if command == "clear":
        DiskCache(directory).clear()
        print(f"cleared {directory}: {len(kept)} files, {size / 2**20:.1f} MiB")
    else:
        print(f"{directory}: {len(kept)} files, {size / 2**20:.1f} MiB")
    return 0
