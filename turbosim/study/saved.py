"""A study as it is kept beside its results: its file, and the hardware it was resolved to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from turbosim.errors import UsageError
from turbosim.files import write_whole
from turbosim.hw import Resolved
from turbosim.hw.document import shown
from turbosim.hw.fields import tree
from turbosim.study.document import read_study
from turbosim.study.study import Study

STUDY = "study.yaml"
HARDWARE = "hardware"


def save_study(study: Study, folder: Path) -> None:
    """Write the file of *study* and its GPUs, as complete hardware files, to *folder*. Raises OSError."""
    _write(folder / STUDY, study.text)
    (folder / HARDWARE).mkdir(exist_ok=True)
    for name, resolved in study.hardware.items():
        _write(folder / HARDWARE / f"{name}.yaml", hardware_text(resolved))


def open_study(folder: Path) -> Study:
    """Return the study whose results are in *folder*. Raises UsageError if there is none."""
    path = folder / STUDY
    if not path.is_file():
        raise UsageError(f"{shown(folder)}: is not the folder of a study: there is no {STUDY} in it")
    return read_study(path, folder / HARDWARE)


def hardware_text(resolved: Resolved) -> str:
    """Return a GPU as a hardware file that extends no other, every number with its source."""
    entries: dict[tuple[str, ...], Any] = {}
    for path, leaf in resolved.leaves.items():
        if leaf.sources:
            entry: dict[str, Any] = {"value": leaf.text, "source": list(leaf.sources)}
            entries[path] = _Leaf(entry | ({"fitted_on": leaf.fitted_on} if leaf.fitted_on else {}))
        else:
            entries[path] = _Leaf({"": leaf.value})
    lines = ["# As resolved for a study: the values of the files that it was put together from."]
    _lines(tree(entries), 0, lines)
    lines += ["sources:", *(f"  {json.dumps(tag)}: {json.dumps(text)}" for tag, text in resolved.sources.items())]
    return "\n".join(lines) + "\n"


class _Leaf(dict[str, Any]):
    """A value, as opposed to a table."""


def _lines(table: dict[str, Any], depth: int, into: list[str]) -> None:
    for name, value in table.items():
        key = "  " * depth + (name if name.replace("_", "").replace(".", "").isalnum() else json.dumps(name))
        if not isinstance(value, _Leaf):
            into.append(f"{key}:")
            _lines(value, depth + 1, into)
        else:
            # JSON is YAML.
            into.append(f"{key}: {json.dumps(value[''] if '' in value else dict(value), ensure_ascii=False)}")


def _write(path: Path, text: str) -> None:
    """Write *text*, unless the file has it already."""
    data = text.encode()
    if not path.is_file() or path.read_bytes() != data:
        write_whole(path, data)
