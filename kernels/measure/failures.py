"""Why a case failed, in a line."""

from __future__ import annotations

from turbosim.errors import UsageError

LONGEST = 300
"""Characters of a reason: compilers print whole modules."""

# By class name, since this module is read where torch and triton are missing.
_CLASSES = {"OutOfResources": "out of resources", "OutOfMemoryError": "out of memory",
            "CompilationError": "compile error", "PTXASError": "compile error", "AcceleratorError": "CUDA error"}
_WORDS = (("out of memory", "out of memory"), ("CUDA error", "CUDA error"), ("Error [CUDA]", "CUDA error"),
          ("PassManager::run failed", "compile error"), ("ptxas", "compile error"))


def reason_of(error: Exception) -> str:
    """Return ``class: message``; the classes are ``out of resources``, ``out of memory``, ``compile error``, ``CUDA
    error``, ``not supported`` (a :class:`~turbosim.errors.UsageError`) and, for others, ``error: exception name``."""
    message = " ".join(str(error).split())
    name = _class_of(error, message)
    return shorten(message if message.startswith(f"{name}: ") else f"{name}: {message}")


def shorten(text: str) -> str:
    """Return *text* on one line of at most ``LONGEST`` characters."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[:LONGEST - 3] + "..."


def _class_of(error: Exception, message: str) -> str:
    if isinstance(error, UsageError):
        return "not supported"
    for parent in type(error).__mro__:
        if parent.__name__ in _CLASSES:
            return _CLASSES[parent.__name__]
    for words, name in _WORDS:
        if words in message:
            return name
    return f"error: {type(error).__name__}"
