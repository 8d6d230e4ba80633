"""torch.hub: weights from the network, kept in a cache with their checksums checked."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import Request, urlopen

HASH_REGEX = re.compile(r"-([a-f0-9]*)\.")
READ_DATA_CHUNK = 128 * 1024
_directory: list = [None]


def _get_torch_home() -> str:
    cache = os.getenv("XDG_CACHE_HOME", "~/.cache")
    return os.path.expanduser(os.getenv("TORCH_HOME", os.path.join(cache, "torch")))


def get_dir() -> str:
    """The folder downloads are kept in: $TORCH_HOME/hub, or ~/.cache/torch/hub."""
    return _directory[0] or os.path.join(_get_torch_home(), "hub")


def set_dir(d) -> None:
    """Keep downloads in `d`."""
    _directory[0] = os.path.expanduser(d)


def download_url_to_file(url: str, dst: str, hash_prefix: str | None = None, progress: bool = True) -> None:
    """Download `url` to the file `dst`, which appears whole or not at all.

    `hash_prefix`: what the SHA-256 of the content must begin with; RuntimeError otherwise.
    """
    dst = Path(dst).expanduser()
    digest = hashlib.sha256()
    with urlopen(Request(url, headers={"User-Agent": "antorcha"})) as source, \
            tempfile.NamedTemporaryFile(dir=dst.parent, prefix=dst.name, suffix=".partial", delete=False) as target:
        total, done = int(source.headers.get("Content-Length") or 0), 0
        try:
            while chunk := source.read(READ_DATA_CHUNK):
                target.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if progress and sys.stderr.isatty():
                    print(f"\r{dst.name}: {done >> 20} of {total >> 20} MiB" if total else f"\r{dst.name}: {done >> 20} MiB", end="",
                          file=sys.stderr)
            target.close()
            if hash_prefix is not None and not digest.hexdigest().startswith(hash_prefix):
                raise RuntimeError(f'invalid hash value (expected "{hash_prefix}", got "{digest.hexdigest()}")')
            os.replace(target.name, dst)
        finally:
            Path(target.name).unlink(missing_ok=True)
    if progress and sys.stderr.isatty():
        print(file=sys.stderr)


def load_state_dict_from_url(url: str, model_dir=None, map_location=None, progress: bool = True, check_hash: bool = False,
                             file_name: str | None = None, weights_only: bool = True):
    """`torch.load` of what is at `url`, downloaded once. `check_hash`: the file's name ends in the first digits of its SHA-256."""
    from .io import load

    folder = Path(model_dir or os.path.join(get_dir(), "checkpoints"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (file_name or os.path.basename(urlparse(url).path))
    if not path.exists():
        found = HASH_REGEX.search(path.name) if check_hash else None
        print(f'Downloading: "{url}" to {path}', file=sys.stderr)
        download_url_to_file(url, str(path), found.group(1) if found else None, progress)
    return load(path, map_location=map_location, weights_only=weights_only)


def _entry_points(folder: str):
    import importlib.util

    spec = importlib.util.spec_from_file_location("hubconf", os.path.join(folder, "hubconf.py"))
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


def _local(repo: str, source: str) -> str:
    if source != "local":
        raise NotImplementedError(
            f"torch.hub: expected source='local', a folder with a hubconf.py; received {source!r}: repositories are not "
            "fetched here. Clone it and give the folder."
        )
    return os.path.expanduser(repo)


def load(repo_or_dir, model, *args, source="github", trust_repo=None, force_reload=False, verbose=True, skip_validation=False, **kwargs):
    """The object that the function `model` of a folder's hubconf.py returns."""
    return getattr(_entry_points(_local(repo_or_dir, source)), model)(*args, **kwargs)


def list(github, force_reload=False, skip_validation=False, trust_repo=None, verbose=True, source="local"):
    """The functions of a folder's hubconf.py."""
    return [name for name, value in vars(_entry_points(_local(github, source))).items() if callable(value) and not name.startswith("_")]


def help(github, model, force_reload=False, skip_validation=False, trust_repo=None, source="local"):
    """The documentation of one of them."""
    return getattr(_entry_points(_local(github, source)), model).__doc__
