"""
Files that hold keys: written whole or not at all, readable by their owner alone.

Everything the relay keeps secret on disk goes through here, so that one place decides on modes and on order. It must
not decide what is written.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

_OWNER_ONLY = 0o600


def write_private(path: Path, content: bytes) -> None:
    """
    Replace one file atomically, with mode 0600.

    Args:
        path: The file; its folder exists.
        content: All of its bytes.

    Raises: OSError: the folder cannot be written.

    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # mode 0600 from the start
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def create_folder(path: Path, files: Mapping[str, bytes]) -> bool:
    """
    Create a folder of secrets with all its files in one step, so that a crash leaves either all of them or none.

    Args:
        path: The folder to create; its parent exists.
        files: File name, or folder and file name → bytes.

    Returns: False when the folder existed already, also when another process was quicker; its files are untouched.
    Raises: OSError: the parent cannot be written.

    """
    if path.exists():
        return False
    staged = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))  # mode 0700 from the start
    try:
        for name, content in files.items():
            (staged / name).parent.mkdir(mode=0o700, exist_ok=True)
            with os.fdopen(os.open(staged / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync_folder(staged)
        # A rename onto a folder that is not empty fails: that is how two first starts at once agree on one authority.
        staged.rename(path)
    except OSError:
        if not path.exists():
            raise
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(staged)
    _sync_folder(path.parent)
    return True


def _sync_folder(path: Path) -> None:
    """Make a rename inside a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
