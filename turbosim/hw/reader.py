"""Collecting the values and the defects of a hardware file and of the files it extends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from turbosim.errors import ConfigError, TurbosimError, did_you_mean
from turbosim.hw.document import key_place, read_document, shown, value_place
from turbosim.hw.fields import ROOT, Node, missing, node_at
from turbosim.hw.find import config_directory
from turbosim.hw.fitted import FittedRecord, read_record
from turbosim.hw.rules import Finding, violations
from turbosim.hw.rules import Path as Field
from turbosim.units import example, parse

_LEAF_KEYS = ("value", "source", "fitted_on")
_KIND_NAMES = {str: "a text", bool: "true or false", int: "a whole number"}


@dataclass(frozen=True)
class Leaf:
    """One value of a hardware file, with where it stands and where it comes from."""

    path: Field
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
class Kind:
    """A kind of file: what it is called, its fields, the folder of its bases, and the rules between its values."""

    noun: str
    root: Node
    folder: Callable[[], Path]
    rules: Callable[[Mapping[Field, Any]], Iterator[tuple[Finding, ...]]]
    extra: tuple[str, ...] = ("extends", "sources")
    """Tables beside the fields."""


GPU = Kind("hardware file", ROOT, config_directory, violations, ("extends", "sources", "fitted"))


@dataclass
class Reader:
    """What stands in *file*, once :meth:`read` is done."""

    file: Path
    kind: Kind = GPU
    leaves: dict[Field, Leaf] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    records: list[FittedRecord] = field(default_factory=list)
    """What values of the file and of those it extends were fitted on."""
    chain: list[Path] = field(default_factory=list)
    """The files read, base first."""
    _defects: list[tuple[int, int, int, str]] = field(default_factory=list)
    """Number of the file in the chain, line, column, text."""
    _spoilt: set[Field] = field(default_factory=set)
    """Fields and tables that are given, but not acceptable."""
    _tables: dict[Field, tuple[int, int]] = field(default_factory=dict)
    """Where the tables of *file* itself stand."""
    _complete: bool = True
    """Whether every file of the chain could be read."""

    def read(self) -> None:
        """Read the file. Raises ConfigError if it is no table at all; other defects are collected."""
        documents = self._documents()
        self.chain = [file for file, _ in documents]
        for file, document in documents:
            self._sources(file, document)
            self._fitted(file, document)
            self._walk(file, document, self.kind.root, ())

    def defects(self, whole: bool = True) -> list[str]:
        """Return every defect, in the order of the files and their lines.

        With *whole* false the file may lack fields, as one that only serves to be extended does.
        """
        if whole:
            self._check_name()
        told = set(self._spoilt)
        if whole and self._complete:
            for path in missing({*self.leaves, *self._spoilt}, self.kind.root):
                told.add(path)
                self._defect(self.file, self._table_of(path), path, f"missing{_hint(path, self.kind.root)}")
        known: dict[Field, Any] = {**dict.fromkeys(self._spoilt), **{p: leaf.value for p, leaf in self.leaves.items()}}
        for sides in self.kind.rules(known):
            self._rule(sides, told, whole)
        self._defects.sort(key=lambda item: item[:3])
        return list(dict.fromkeys(text for *_, text in self._defects))

    def _rule(self, sides: tuple[Finding, ...], told: set[Field], whole: bool) -> None:
        """Report a broken rule at a value of the file itself if one is involved."""
        given = [s for s in sides if s.field in self.leaves]
        own = [s for s in given if self.leaves[s.field].file == self.file]
        if given:
            side = (own or given)[0]
            leaf = self.leaves[side.field]
            self._defect(leaf.file, (leaf.line, leaf.column), side.field, side.detail(self._text))
            return
        path = sides[0].field
        if whole and self._complete and not any(path[:n] in told for n in range(1, len(path) + 1)):
            self._defect(self.file, self._table_of(path), path, sides[0].detail(self._text))

    def _text(self, path: Field) -> str:
        leaf = self.leaves[path]
        return leaf.text if leaf.file == self.file else f"{leaf.text} in {leaf.file.name}"

    def _documents(self) -> list[tuple[Path, CommentedMap]]:
        """Return the documents from the base to the file, as far as they can be read."""
        found: list[tuple[Path, CommentedMap]] = [(self.file, read_document(self.file, self.kind.noun))]
        while (base := found[0][1].get("extends")) is not None:
            file, document = found[0]
            try:
                path = self._base(file, base, [f for f, _ in found])
            except ConfigError as error:
                self._complete = False
                line, column = key_place(document, "extends")
                self._defects.append((0, line, column, f"{shown(file)}:{line}:{column}: extends: {error}"))
                break
            try:
                found.insert(0, (path, read_document(path, self.kind.noun)))
            except ConfigError as error:
                self._complete = False
                self._defects.append((0, 0, 0, str(error)))
                break
        return found

    def _base(self, file: Path, base: object, chain: list[Path]) -> Path:
        """Return the file that *file* extends under the name *base*."""
        candidates = [file.parent / f"{base}.yaml", self.kind.folder() / f"{base}.yaml"]
        path = next((c for c in candidates if c.is_file()), None)
        if path is None:
            # Extending a file of the chain would be refused next.
            known = sorted(p.stem for d in {c.parent for c in candidates} for p in d.glob("*.yaml")
                           if not any(p.resolve() == seen.resolve() for seen in chain))
            raise ConfigError(f"no {self.kind.noun} {base!r}{did_you_mean(str(base), known)}")
        if any(path.resolve() == seen.resolve() for seen in chain):
            raise ConfigError(f"{base!r} is part of the chain that extends it: {' <- '.join(f.stem for f in chain)}")
        return path

    def _sources(self, file: Path, document: CommentedMap) -> None:
        table = document.get("sources")
        if table is None:
            return
        if not isinstance(table, CommentedMap):
            self._defect(file, key_place(document, "sources"), ("sources",), "is a table from tag to citation")
            return
        for tag, text in table.items():
            # A tag whose citation is bad is known all the same: its uses are not wrong.
            self.sources[str(tag)] = str(text)
            if not isinstance(text, str) or not text.strip():
                self._defect(file, key_place(table, tag), ("sources", str(tag)),
                             f"is the text of a citation, got {text!r}")

    def _fitted(self, file: Path, document: CommentedMap) -> None:
        if "fitted" not in self.kind.extra or "fitted" not in document:
            return
        record, defects = read_record(document["fitted"])
        if record is not None:
            self.records.append(record)
        for path, rule in defects:
            node, place = document, key_place(document, "fitted")
            for key in ("fitted", *path):
                if not isinstance(node, CommentedMap) or key not in node:
                    break
                place, node = key_place(node, key), node[key]
            self._defect(file, place, ("fitted", *path), rule)

    def _defect(self, file: Path, place: tuple[int, int], path: Field, message: str) -> None:
        line, column = place
        text = f"{shown(file)}:{line}:{column}: {'.'.join(path)}: {message}"
        self._defects.append((self.chain.index(file), line, column, text))

    def _walk(self, file: Path, mapping: CommentedMap, node: Node, path: Field) -> None:
        for key, value in mapping.items():
            name = str(key)
            if not path and name in self.kind.extra:
                continue
            here = (*path, name)
            place = key_place(mapping, key)
            child = node.child(name)
            if child is None:
                known = [n for n, _ in node.children] + (list(self.kind.extra) if not path else [])
                self._defect(file, place, here, f"unknown field{did_you_mean(name, known)}")
            elif child.is_table:
                if file == self.file:
                    self._tables[here] = place
                if isinstance(value, CommentedMap) and (value or node.item is None):
                    self._walk(file, value, child, here)
                else:
                    self._spoilt.add(here)
                    self._defect(file, place, here, f"is {child.contents}, got {_seen(value)}")
            elif child.kind == "quantity":
                self._quantity(file, mapping, key, child, here)
            else:
                self._plain(file, mapping, key, child, here)

    def _plain(self, file: Path, mapping: CommentedMap, key: Any, node: Node, path: Field) -> None:
        value = mapping[key]
        rule = None
        if node.choices and str(value) not in node.choices:
            rule = f"is one of {', '.join(node.choices)}, got {_seen(value)}{did_you_mean(str(value), node.choices)}"
        elif not isinstance(value, node.python) or (node.python is int and isinstance(value, bool)):
            rule = f"is {_KIND_NAMES[node.python]}, got {_seen(value)}"
        if rule is not None:
            self._spoil(file, key_place(mapping, key), path, rule)
        else:
            self._keep(Leaf(path, value, str(value), (), None, file, *value_place(mapping, key)))

    def _quantity(self, file: Path, mapping: CommentedMap, key: Any, node: Node, path: Field) -> None:
        entry = mapping[key]
        tags: tuple[str, ...] = ()
        fitted_on = None
        if isinstance(entry, CommentedMap):
            place = key_place(mapping, key)
            for extra in entry:
                if extra not in _LEAF_KEYS:
                    self._defect(file, key_place(entry, extra), (*path, str(extra)),
                                 f"unknown field{did_you_mean(str(extra), _LEAF_KEYS)}")
            tags = tuple(self._tags(file, entry, place, path))
            fitted_on = entry.get("fitted_on")
            if fitted_on is not None and not isinstance(fitted_on, str):
                self._defect(file, key_place(entry, "fitted_on"), path, f"fitted_on is a text, got {fitted_on!r}")
            if "value" not in entry:
                self._spoil(file, place, path, f"has no value; write for example value: {example(node.dimension)}")
                return
            mapping, key = entry, "value"
        else:
            number = isinstance(entry, (int, float, str)) and not isinstance(entry, bool)
            written = entry if number else example(node.dimension)
            self._defect(file, key_place(mapping, key), path,
                         f"a number needs a source: write {{value: {written}, source: TAG}}, got {_seen(entry)}")
            if not number:
                self._spoilt.add(path)
                return
        self._number(file, mapping, key, node, path, tags, fitted_on)

    def _number(self, file: Path, mapping: CommentedMap, key: Any, node: Node, path: Field, tags: tuple[str, ...],
                fitted_on: str | None) -> None:
        written = mapping[key]
        try:
            value, rule = node.check(parse(written, node.dimension))
        except TurbosimError as error:
            self._spoil(file, key_place(mapping, key), path, str(error))
            return
        place = value_place(mapping, key)
        if rule is not None:
            self._spoil(file, place, path, f"{rule}, got {written}")
        else:
            self._keep(Leaf(path, value, str(written), tags, fitted_on, file, *place))

    def _tags(self, file: Path, entry: CommentedMap, place: tuple[int, int], path: Field) -> Iterator[str]:
        """Yield the source tags of a number that are explained."""
        tags = entry.get("source")
        tags = [tags] if isinstance(tags, str) else tags
        if not isinstance(tags, list) or not tags:
            self._defect(file, place, path, "has no source: add source: TAG and explain TAG under sources")
            return
        for tag in tags:
            if isinstance(tag, str) and tag in self.sources:
                yield tag
            elif self._complete or not isinstance(tag, str):
                self._defect(file, key_place(entry, "source"), path,
                             f"source {tag!r} is not explained under sources{did_you_mean(str(tag), self.sources)}")

    def _keep(self, leaf: Leaf) -> None:
        self.leaves[leaf.path] = leaf
        self._spoilt.discard(leaf.path)

    def _spoil(self, file: Path, place: tuple[int, int], path: Field, message: str) -> None:
        """Report a value that cannot be used, nor can one that it replaces."""
        self._defect(file, place, path, message)
        self._spoilt.add(path)
        self.leaves.pop(path, None)

    def _check_name(self) -> None:
        leaf = self.leaves.get(("name",))
        if leaf is None:
            return
        if leaf.file != self.file:
            self._defect(self.file, (1, 1), ("name",), f"missing; write name: {self.file.stem}")
        elif leaf.value != self.file.stem:
            self._defect(self.file, (leaf.line, leaf.column), ("name",),
                         f"must be the file's name {self.file.stem!r}, got {leaf.value!r}")

    def _table_of(self, path: Field) -> tuple[int, int]:
        """Return where the innermost table of the file that *path* lies in stands."""
        return next((self._tables[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self._tables), (1, 1))


def _hint(path: Field, root: Node) -> str:
    """Return how to write the missing field *path*."""
    node = node_at(path, root)
    if node is None:
        return ""
    if node.is_table:
        return f"; it is {node.contents}"
    if node.choices:
        return f"; it is one of {', '.join(node.choices)}"
    written = f"{{value: {example(node.dimension)}, source: TAG}}"
    return f"; write for example {path[-1]}: {written}" if node.dimension else ""


def _seen(value: Any) -> str:
    """Return *value* for a message."""
    if value is None:
        return "nothing"
    if isinstance(value, CommentedMap):
        return "a table" if value else "an empty table"
    return "a list" if isinstance(value, list) else repr(value)
