"""Reading hardware files: YAML with units, sources and inheritance, checked in one go.

A number is written ``{value: 4.8 TB/s, source: TAG}``; the tags are explained in the file's ``sources`` table. All
defects of a file are reported together, each as ``file:line:col: path: message``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml.comments import CommentedMap

from turbosim.errors import ConfigError, TurbosimError, UsageError, did_you_mean
from turbosim.hw.document import position, read_document, shown
from turbosim.hw.fields import ROOT, Node, node_at
from turbosim.hw.spec import Gpu
from turbosim.units import parse

_EXTRA_KEYS = ("extends", "sources")
_LEAF_KEYS = ("value", "source", "fitted_on")


@dataclass(frozen=True)
class Leaf:
    """One value of a hardware file, with where it stands and where it comes from."""

    path: tuple[str, ...]
    value: Any
    """In SI units."""
    text: str
    """As written."""
    sources: tuple[str, ...]
    """Tags of the ``sources`` table."""
    fitted_on: str | None
    file: Path
    line: int
    column: int

    @property
    def where(self) -> str:
        """``file:line:col``."""
        return f"{shown(self.file)}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Resolved:
    """A hardware file with everything it inherits."""

    gpu: Gpu
    leaves: dict[tuple[str, ...], Leaf]
    sources: dict[str, str]
    file: Path
    chain: tuple[Path, ...]
    """The files it was put together from, base first."""


def config_directory() -> Path:
    """Return the folder of the shipped hardware files: inside an installed package, or ``hwconfigs/`` of a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_hwconfigs"
    return installed if installed.is_dir() else package.parent / "hwconfigs"


def list_gpus() -> list[str]:
    """Return the names of the shipped GPUs and design points."""
    return sorted(p.stem for p in config_directory().glob("*.yaml") if not p.name.startswith("_"))


def find(name: str | Path) -> Path:
    """Return the file of a GPU name, or the path itself if it ends in .yaml or .yml.

    Raises UsageError for an unknown name, ConfigError for a missing file.
    """
    text = str(name)
    if text.endswith((".yaml", ".yml")):
        path = Path(text)
        if not path.is_file():
            raise ConfigError(f"{text}: no such file")
        return path
    known = list_gpus()
    if text not in known:
        raise UsageError(f"unknown GPU {text!r}: not among {', '.join(known)}{did_you_mean(text, known)}")
    return config_directory() / f"{text}.yaml"


def load_gpu(name: str | Path) -> Gpu:
    """Return the GPU called *name*, or described by the YAML file *name*.

    Raises UsageError for an unknown name and ConfigError, listing every defect, for a file that is not acceptable.
    """
    return load_resolved(name).gpu


def load_resolved(name: str | Path) -> Resolved:
    """Return a GPU with the source and position of every value. Raises as :func:`load_gpu`."""
    return _Reader().read(find(name))


@dataclass
class _Reader:
    defects: list[str] = field(default_factory=list)
    leaves: dict[tuple[str, ...], Leaf] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def read(self, path: Path) -> Resolved:
        chain = self._chain(path)
        for file, document in chain:
            self._sources(file, document)
            self._walk(file, document, ROOT, ())
        self._check_name(path)
        missing = list(_missing(ROOT, (), self.leaves))
        self.defects += [f"{shown(path)}:1:1: {'.'.join(m)}: missing" for m in missing]
        gpu = None if self.defects else self._build(path)
        if gpu is None:
            raise ConfigError("\n".join(dict.fromkeys(self.defects)))
        return Resolved(gpu, self.leaves, self.sources, path, tuple(file for file, _ in chain))

    def _chain(self, path: Path) -> list[tuple[Path, CommentedMap]]:
        """Return the documents from the base to *path*."""
        chain: list[tuple[Path, CommentedMap]] = []
        file = path
        while True:
            document = read_document(file)
            chain.insert(0, (file, document))
            base = document.get("extends")
            if base is None:
                return chain
            where = f"{shown(file)}:{position(document, 'extends')}: extends"
            candidates = [file.parent / f"{base}.yaml", config_directory() / f"{base}.yaml"]
            found = next((c for c in candidates if c.is_file()), None)
            if found is None:
                known = sorted(p.stem for d in {c.parent for c in candidates} for p in d.glob("*.yaml"))
                raise ConfigError(f"{where}: no hardware file {base!r}{did_you_mean(str(base), known)}")
            if any(found.resolve() == seen.resolve() for seen, _ in chain):
                raise ConfigError(f"{where}: {base!r} is part of the chain that extends it: "
                                  f"{' <- '.join(f.stem for f, _ in chain)}")
            file = found

    def _sources(self, file: Path, document: CommentedMap) -> None:
        table = document.get("sources")
        if table is None:
            return
        if not isinstance(table, CommentedMap):
            self._defect(file, document, "sources", ("sources",), "is a table from tag to citation")
            return
        for tag, text in table.items():
            if not isinstance(text, str) or not text.strip():
                self._defect(file, table, tag, ("sources", str(tag)), "is the text of a citation")
            else:
                self.sources[str(tag)] = text

    def _defect(self, file: Path, parent: CommentedMap, key: Any, path: tuple[str, ...], message: str) -> None:
        self.defects.append(f"{shown(file)}:{position(parent, key)}: {'.'.join(path)}: {message}")

    def _walk(self, file: Path, mapping: CommentedMap, node: Node, path: tuple[str, ...]) -> None:
        for key, value in mapping.items():
            name = str(key)
            if not path and name in _EXTRA_KEYS:
                continue
            here = (*path, name)
            child = node.child(name)
            if child is None:
                known = [n for n, _ in node.children] + (list(_EXTRA_KEYS) if not path else [])
                self._defect(file, mapping, key, here, f"unknown field{did_you_mean(name, known)}")
            elif child.kind in ("model", "table"):
                if isinstance(value, CommentedMap):
                    self._walk(file, value, child, here)
                else:
                    self._defect(file, mapping, key, here, f"is a table of {', '.join(n for n, _ in child.children)}")
            elif child.kind == "quantity":
                self._quantity(file, mapping, key, value, child, here)
            else:
                self._plain(file, mapping, key, value, child, here)

    def _plain(self, file: Path, mapping: CommentedMap, key: Any, value: Any, node: Node,
               path: tuple[str, ...]) -> None:
        if node.choices and str(value) not in node.choices:
            self._defect(file, mapping, key, path,
                         f"is one of {', '.join(node.choices)}, got {value!r}{did_you_mean(str(value), node.choices)}")
        elif not isinstance(value, node.python) or (node.python is int and isinstance(value, bool)):
            self._defect(file, mapping, key, path, f"is {_KIND_NAMES[node.python]}, got {value!r}")
        else:
            self._keep(file, mapping, key, path, value, str(value), (), None)

    def _quantity(self, file: Path, mapping: CommentedMap, key: Any, value: Any, node: Node,
                  path: tuple[str, ...]) -> None:
        if not isinstance(value, CommentedMap):
            self._defect(file, mapping, key, path,
                         f"a number needs a source: write {{value: {value}, source: TAG}}, got {value!r}")
            return
        for extra in value:
            if extra not in _LEAF_KEYS:
                self._defect(file, value, extra, (*path, str(extra)),
                             f"unknown field{did_you_mean(str(extra), _LEAF_KEYS)}")
        if "value" not in value:
            self._defect(file, mapping, key, path, "has no value")
            return
        tags = value.get("source")
        tags = [tags] if isinstance(tags, str) else tags
        if not isinstance(tags, list) or not tags:
            self._defect(file, mapping, key, path, "has no source: add source: TAG and explain TAG under sources")
            return
        for tag in tags:
            if not isinstance(tag, str) or tag not in self.sources:
                self._defect(file, value, "source", path,
                             f"source {tag!r} is not explained under sources{did_you_mean(str(tag), self.sources)}")
        fitted_on = value.get("fitted_on")
        if fitted_on is not None and not isinstance(fitted_on, str):
            self._defect(file, value, "fitted_on", path, f"fitted_on is a text, got {fitted_on!r}")
        try:
            number = parse(value["value"], node.dimension)
        except TurbosimError as error:
            self._defect(file, value, "value", path, str(error))
            return
        self._keep(file, value, "value", path, number, str(value["value"]), tuple(tags), fitted_on)

    def _keep(self, file: Path, mapping: CommentedMap, key: Any, path: tuple[str, ...], value: Any, text: str,
              tags: tuple[str, ...], fitted_on: str | None) -> None:
        line, column = mapping.lc.value(key)
        self.leaves[path] = Leaf(path, value, text, tags, fitted_on, file, line + 1, column + 1)

    def _check_name(self, path: Path) -> None:
        leaf = self.leaves.get(("name",))
        if leaf is not None and leaf.file != path:
            self.defects.append(f"{shown(path)}:1:1: name: missing; write name: {path.stem}")
        elif leaf is not None and leaf.value != path.stem:
            self.defects.append(f"{leaf.where}: name: must be the file's name {path.stem!r}, got {leaf.value!r}")

    def _build(self, file: Path) -> Gpu | None:
        tree: dict[str, Any] = {}
        for path, leaf in self.leaves.items():
            place = tree
            for key in path[:-1]:
                place = place.setdefault(key, {})
            node = node_at(path)
            counted = node is not None and node.kind == "quantity" and not node.dimension
            whole = counted and leaf.value == int(leaf.value)
            place[path[-1]] = int(leaf.value) if whole else leaf.value
        try:
            return Gpu.model_validate(tree)
        except ValidationError as error:
            for item in error.errors():
                bad = self.leaves.get(tuple(str(p) for p in item["loc"]))
                message = item["msg"].removeprefix("Value error, ")
                if bad is not None:
                    self.defects.append(f"{bad.where}: {'.'.join(bad.path)}: {message}, got {bad.text}")
                else:
                    self.defects.append(f"{self._place_of_rule(message, file)}: {message}")
            return None

    def _place_of_rule(self, message: str, file: Path) -> str:
        """Return where to mend a broken rule: a value that *message* names, of *file* itself if there is one."""
        named = [leaf for leaf in self.leaves.values() if ".".join(leaf.path) in re.findall(r"[\w.]+", message)]
        own = [leaf for leaf in named if leaf.file == file]
        return next((leaf.where for leaf in own or named), f"{shown(file)}:1:1")


_KIND_NAMES = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


def _missing(node: Node, path: tuple[str, ...], leaves: dict[tuple[str, ...], Leaf]) -> Iterator[tuple[str, ...]]:
    """Yield the paths of required fields that have no value."""
    for name, child in node.children:
        here = (*path, name)
        present = any(p[: len(here)] == here for p in leaves)
        if not present:
            if child.required and node.kind == "model":
                yield here
        elif child.children:
            yield from _missing(child, here, leaves)
