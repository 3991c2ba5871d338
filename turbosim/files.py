"""Writing files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write *data* to *path*, completely or not at all, with the permissions of any new file. Raises OSError."""
    write_together({path: data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write *files*, path -> content, each as :func:`write_whole` does, and none if not all fit. Raises OSError."""
    staged: dict[Path, Path] = {}
    os.umask(mask := os.umask(0))
    try:
        for path, data in files.items():
            handle, scratch = tempfile.mkstemp(dir=path.resolve().parent, prefix=f".{path.name}.")
            staged[path] = Path(scratch)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
            except OSError as error:
                # A full disk's error names no file.
                raise OSError(error.errno, error.strerror, str(path)) from None
            staged[path].chmod(0o666 & ~mask)
        for path, whole in staged.items():
            whole.replace(path)
    except BaseException:
        for whole in staged.values():
            whole.unlink(missing_ok=True)
        raise
