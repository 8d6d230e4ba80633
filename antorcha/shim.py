"""`import torch` answered by antorcha: what `antorcha run` installs before a script begins.

After `install()`, `torch` and `torch.x.y` are the module objects `antorcha` and `antorcha.x.y`,
`importlib.metadata.version("torch")` answers, worker processes see the same, and a name that antorcha lacks raises an
error that names it and says that it is missing here.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from types import ModuleType

from .version import torch_version

OURS, THEIRS = "antorcha", "torch"


class MissingModule(ModuleNotFoundError):
    """A module, or a name imported from one, that antorcha does not have."""


@cache
def known_names() -> dict[str, frozenset[str]]:
    """The public names of PyTorch's modules, and of `torch.Tensor`."""
    names: dict[str, set[str]] = {}
    module = ""
    for line in Path(__file__).with_name("torch_names.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        words = line.split()
        if not line.startswith(" "):
            module = words.pop(0)
        names.setdefault(module, set()).update(words)
    return {module: frozenset(found) for module, found in names.items()}


def explain_missing(name: str) -> str:
    """What to say of the dotted `name`, such as torch.linalg.qr, that antorcha does not have."""
    owner, _, leaf = name.rpartition(".")
    names = known_names()
    if leaf in names.get(owner, ()) or name in names or any(module.startswith(name + ".") for module in names):
        return f"{name} is part of PyTorch but missing here: antorcha does not have it yet."
    if owner in names:
        return f"{name} is missing here: antorcha does not have it, and PyTorch's public API does not list it either."
    return f"{name} is missing here: antorcha does not have it."


def _their_name(name: str) -> str:
    return THEIRS + name.removeprefix(OURS) if name.startswith(OURS) else name


class _Alias(MetaPathFinder, Loader):
    """First among the finders: gives antorcha's module for a torch name, and the metadata of a distribution `torch`."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname != THEIRS and not fullname.startswith(THEIRS + "."):
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        ours = OURS + spec.name.removeprefix(THEIRS)
        try:
            module = importlib.import_module(ours)
        except ModuleNotFoundError as error:
            owner, _, leaf = ours.rpartition(".")
            module = getattr(sys.modules.get(owner), leaf, None)  # a namespace that is kept in another module
            if not isinstance(module, ModuleType):
                if isinstance(error, MissingModule) or error.name == ours:
                    # With antorcha's name: `from torch import x` would swallow the error if it bore the name it asks for.
                    raise MissingModule(explain_missing(spec.name), name=ours) from None
                raise
        self._specs[spec.name] = (module.__spec__, module.__dict__.get("__path__"))
        return module

    def exec_module(self, module: ModuleType) -> None:
        """The module ran under its own name; undo what the import system has just written over."""
        name = module.__spec__.name if module.__spec__ else ""
        if name in self._specs:
            module.__spec__, path = self._specs.pop(name)
            # Where a module is a package, `from torch.nn.functional import x` asks the finders for a missing x, and so
            # _Missing can say what a bare "cannot import name" would not.
            module.__path__ = path if path is not None else []
            module.__name__ = name      # which libraries that patch torch look at; imports within go by __package__
        _help_with_missing_names(module)

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterable[Distribution]:
        if context is None or context.name is None or context.name.lower() == THEIRS:
            yield _TorchDistribution()

    _specs: dict[str, tuple] = {}


class _Missing(MetaPathFinder):
    """Last among the finders: reached for an antorcha module that no other has found."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        owner, _, leaf = fullname.rpartition(".")
        if fullname.startswith(OURS + ".") and not leaf.startswith("_"):
            raise MissingModule(explain_missing(_their_name(fullname)), name=_their_name(fullname))


class _TorchDistribution(Distribution):
    def read_text(self, filename: str) -> str | None:
        if filename == "METADATA":
            return f"Metadata-Version: 2.1\nName: {THEIRS}\nVersion: {torch_version}\nSummary: PyTorch's API, by antorcha\n"
        return None

    def locate_file(self, path: object) -> Path:
        return Path(__file__).parent / str(path)


def _help_with_missing_names(module: ModuleType) -> None:
    """Let an attribute that the module lacks raise AttributeError with `explain_missing`'s words."""
    own = module.__dict__.get("__getattr__")
    if getattr(own, "explains", False):
        return

    def __getattr__(name: str):
        if own is not None:
            try:
                return own(name)
            except (AttributeError, MissingModule):
                pass
        if name.startswith("__"):
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        raise AttributeError(explain_missing(f"{_their_name(module.__name__)}.{name}"))

    __getattr__.explains = True  # type: ignore[attr-defined]
    module.__getattr__ = __getattr__  # type: ignore[method-assign]


def _help_with_missing_methods(tensor: type) -> None:
    if "__getattr__" in tensor.__dict__:
        return

    def __getattr__(self, name: str):
        if name in known_names()["torch.Tensor"]:
            raise AttributeError(explain_missing(f"torch.Tensor.{name}"))
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    tensor.__getattr__ = __getattr__  # type: ignore[attr-defined]


class _InstallWhenUnpickled:
    """Sent to a worker process that starts afresh, before the worker imports the script."""

    def __reduce__(self):
        return install, ()


def _alias_in_workers() -> None:
    """Workers that fork have the alias already; those that spawn are told in the data that prepares them."""
    import multiprocessing
    from multiprocessing import spawn

    if "forkserver" in multiprocessing.get_all_start_methods():     # from Python 3.14 on its server would import the script, unprepared
        multiprocessing.set_forkserver_preload([OURS])
    prepare = spawn.get_preparation_data
    if getattr(prepare, "aliases", False):
        return

    def get_preparation_data(name: str) -> dict:
        return {**prepare(name), OURS: _InstallWhenUnpickled()}

    get_preparation_data.aliases = True  # type: ignore[attr-defined]
    spawn.get_preparation_data = get_preparation_data


def install() -> None:
    """From here on `import torch` gives antorcha, in this process and the workers it starts."""
    present = sys.modules.get(THEIRS)
    if present is not None and present is not sys.modules.get(OURS):
        raise RuntimeError("antorcha.shim.install: expected no torch in sys.modules; PyTorch itself was imported before.")
    if any(isinstance(finder, _Alias) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Alias())
    sys.meta_path.append(_Missing())
    _alias_in_workers()
    module = importlib.import_module(THEIRS)
    _help_with_missing_methods(module.Tensor)
