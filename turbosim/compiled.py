"""How the project compiles functions with numba."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import numba

# Arrays come from outside and none is allocated, so the counting of references, which would take most of the time of
# every call, is left out. Compiled functions must neither allocate arrays nor slice them.
_OPTIONS: dict[str, Any] = {"nogil": True, "boundscheck": False, "_nrt": False}


def jit(function: Any) -> Any:
    """Compile into the functions that call it.

    They are inlined in any case: a call would pass nine words for each array with two dimensions, which takes longer
    than most of these functions do.
    """
    return numba.njit(forceinline=True, **_OPTIONS)(function)


def jit_cached(function: Any) -> Any:
    """Compile once and keep the machine code on disk.

    Numba's cache only knows the file of *function*; its stamp is replaced by a digest of all files of the package that
    it is in, since constants and helpers of the others are compiled in.
    """
    dispatcher: Any = numba.njit(cache=True, **_OPTIONS)(function)
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for source in sorted(Path(function.__code__.co_filename).parent.glob("*.py")):
        digest.update(source.read_bytes())
    dispatcher._cache._cache_file._source_stamp = digest.hexdigest()  # noqa: SLF001 - there is no public way
    dispatcher._cache.load_overload = partial(_load, dispatcher._cache)  # noqa: SLF001
    return dispatcher


def _load(cache: Any, signature: Any, context: Any) -> Any:
    """Return what *cache* has for *signature*, or None.

    Numba first imports all that it can compile, SciPy's linear algebra among it, which takes 0.4 s and machine code
    that is there does not need. A miss compiles, which does the same.
    """
    with cache._guard_against_spurious_io_errors():  # noqa: SLF001
        return cache._load_overload(signature, context)  # noqa: SLF001
