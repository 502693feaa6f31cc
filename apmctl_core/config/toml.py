"""Configuration files: reading them, and naming the line where an error lies."""

from __future__ import annotations

import contextlib
import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apmctl_core.errors import ConfigError


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a configuration file. Raises ConfigError where it cannot be read or parsed."""
    try:
        return tomllib.loads(_text(path))
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"cannot read {path}: {e}", "give the path of a TOML file") from e
    except ValueError as e:
        line = re.search(r"at line (\d+)", str(e))
        where = f"{path}:{line[1]}" if line else str(path)
        raise ConfigError(f"{where}: not TOML: {e}", "`presets NAME` prints a file to start from") from e


@contextlib.contextmanager
def blaming(path: Path | None) -> Iterator[None]:
    """ConfigErrors of the block, which reads what `path` says, name the file, and the line of their field.

    Their settings are those of the file, in plain quotes, not of the command.
    """
    try:
        yield
    except ConfigError as e:
        if path is None:
            raise
        message = e.message.replace("`", "'")
        line = line_of(_text(path), e.field) if e.field else None
        where = f"{path}:{line}" if line else str(path)
        raise ConfigError(f"{where}: {message}", e.hint, field=e.field) from e


def line_of(text: str, field: str) -> int | None:
    """The line where a TOML text sets the field of a dotted path; None where it does not.

    Found by parsing ever longer beginnings of the text: however a field is written, the shortest beginning that has it
    ends with it.
    """
    lines, start = text.split("\n"), 1
    for end in range(1, len(lines) + 1):
        try:
            values: Any = tomllib.loads("\n".join(lines[:end]))
        except ValueError:  # in the middle of a value
            continue
        found = functools.reduce(lambda v, name: v.get(name) if isinstance(v, dict) else None, field.split("."), values)
        if found is not None:
            return start
        start = end + 1
    return None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
