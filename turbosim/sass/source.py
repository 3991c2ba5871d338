"""A Triton function in a Python file: where it is, what its machine code depends on, and how to import it."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from turbosim.errors import ConfigError, UsageError, did_you_mean
from turbosim.hw.document import shown


@dataclass(frozen=True)
class Source:
    """FUNCTION of FILE."""

    path: Path
    function: str

    @property
    def where(self) -> str:
        """``file:function``, for messages."""
        return f"{shown(self.path)}:{self.function}"

    @property
    def root(self) -> Path:
        """The folder that imports start from: the first above the file that is no package."""
        folder = self.path.resolve().parent
        while (folder / "__init__.py").is_file():
            folder = folder.parent
        return folder

    @property
    def module(self) -> str:
        """The dotted name under which the file is imported from :attr:`root`."""
        return ".".join(self.path.resolve().relative_to(self.root).with_suffix("").parts)

    def digest(self) -> str:
        """Return a digest of the file and of all that it imports from below :attr:`root`.

        Raises ConfigError when one of them cannot be read or parsed.
        """
        digest = hashlib.sha256()
        for path in sorted(_closure(self.path.resolve(), self.root)):
            digest.update(f"{path.relative_to(self.root)}\0".encode() + path.read_bytes() + b"\0")
        return digest.hexdigest()

    def check_defined(self) -> None:
        """Raise UsageError where the file can be read and defines functions, none of which is *function*."""
        try:
            body = ast.parse(self.path.read_bytes()).body
        except (OSError, SyntaxError, ValueError):
            return
        names = [x.name for x in body if isinstance(x, ast.FunctionDef)]
        if names and self.function not in names:
            raise UsageError(f"{shown(self.path)}: has no function {self.function!r}: it defines {', '.join(names)}"
                             f"{did_you_mean(self.function, names)}")

    def load(self) -> Any:
        """Import the file and return the ``JITFunction``. Raises ConfigError or UsageError, with the reason."""
        from triton.runtime.jit import JITFunction

        module = self._import()
        found = getattr(module, self.function, None)
        names = [n for n, v in vars(module).items() if isinstance(_inner(v), JITFunction)]
        if found is None:
            raise UsageError(f"{shown(self.path)}: has no function {self.function!r}: its @triton.jit functions are "
                             f"{', '.join(names) or 'none'}{did_you_mean(self.function, names)}")
        function = _inner(found)
        if not isinstance(function, JITFunction):
            raise UsageError(f"{self.where}: is not a @triton.jit function; those of the file are "
                             f"{', '.join(names) or 'none'}")
        return function

    def _import(self) -> ModuleType:
        path, name = self.path.resolve(), self.module
        script = sys.modules.get("__main__")
        if script is not None and Path(str(getattr(script, "__file__", ""))).resolve() == path:
            # Importing it again would run it again.
            return script
        if "." not in name:
            # Alone, the file may be called like any module, as copy.py.
            name = f"_turbosim_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{name}"
        known = sys.modules.get(name)
        if known is not None and "." in name and Path(str(known.__file__)).resolve() == path:
            return known
        with _importing_from(self.root):
            try:
                if "." in name:
                    module = importlib.import_module(name)
                else:
                    spec = importlib.util.spec_from_file_location(name, path)
                    assert spec is not None
                    assert spec.loader is not None
                    module = sys.modules[name] = importlib.util.module_from_spec(spec)
                    spec.loader.exec_module(module)
            except Exception as error:
                sys.modules.pop(name, None)
                at = _line_in(error, path)
                raise ConfigError(f"{shown(self.path)}{at}: cannot be imported: {type(error).__name__}: {error}"
                                  ) from None
        if Path(str(module.__file__)).resolve() != path:
            raise UsageError(f"{shown(self.path)}: its package {name.partition('.')[0]!r} has been imported from "
                             f"{shown(Path(str(module.__file__)))}; use one of the two at a time")
        return module


def parse_reference(text: str) -> Source:
    """Return the source that FILE.py:FUNCTION names. Raises UsageError for another form, ConfigError without a file."""
    file, colon, function = text.rpartition(":")
    if not colon or not file.endswith(".py") or not function.isidentifier():
        raise UsageError(f"kernel {text!r}: is written FILE.py:FUNCTION, as softmax.py:softmax")
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f"{file}: no such file")
    return Source(path, function)


def _inner(value: Any) -> Any:
    """Return what autotuners and heuristics wrap; their choices are the description's to make."""
    seen = 0
    while type(value).__name__ in ("Autotuner", "Heuristics") and seen < 8:
        value, seen = value.fn, seen + 1
    return value


def _line_in(error: Exception, path: Path) -> str:
    """Return ``:line`` of *path* that an error came from, or nothing."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f":{error.lineno}"
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f":{line}" if line else ""


@contextmanager
def _importing_from(root: Path) -> Iterator[None]:
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))


def _closure(path: Path, root: Path) -> set[Path]:
    """Return *path* and the files below *root* that it imports, at any level."""
    found, waiting = {path}, [path]
    while waiting:
        for other in _imported(waiting.pop(), root):
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def _imported(path: Path, root: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise ConfigError(f"{shown(path)}:{error.lineno}: is not Python: {error.msg}") from None
    except ValueError as error:
        raise ConfigError(f"{shown(path)}: is not Python: {error}") from None
    except OSError as error:
        raise ConfigError(f"{shown(path)}: cannot be read: {error.strerror}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            base = root
        elif isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1] if 0 < node.level <= len(path.parents) else root
            prefix = f"{node.module}." if node.module else ""
            names = [node.module] if node.module else []
            names += [prefix + alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            for n in range(1, len(parts) + 1):
                at = base.joinpath(*parts[:n])
                for file in (at.with_suffix(".py"), at / "__init__.py"):
                    if file.is_file():
                        yield file.resolve()
