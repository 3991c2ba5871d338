"""Where hardware files are."""

from __future__ import annotations

from pathlib import Path

from turbosim.errors import ConfigError, UsageError, did_you_mean


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

    Raises UsageError for an unknown name, ConfigError for a missing file and for a folder.
    """
    text = str(name)
    path = Path(text)
    is_file_name = text.endswith((".yaml", ".yml"))
    known = list_gpus()
    if not is_file_name and text in known:
        return config_directory() / f"{text}.yaml"
    if path.is_dir():
        raise ConfigError(f"{text}: is a folder, not a hardware file; to check the files in it: "
                          f"turbosim hw check {path}/*.yaml")
    if is_file_name:
        if not path.is_file():
            raise ConfigError(f"{text}: no such file")
        return path
    if path.is_file():
        raise ConfigError(f"{text}: the name of a hardware file ends in .yaml or .yml")
    raise UsageError(f"unknown GPU {text!r}: not among {', '.join(known)}{did_you_mean(text, known)}")
