"""The one sink of all output, which derives the human, the JSON and the quiet form from one value.

stdout carries only the result. Errors, notes and progress go to stderr.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, Protocol, TextIO

import msgspec

from apmctl.blocks import Block, as_text
from apmctl.errors import RUNNING, Failure, translate
from apmctl.text import clean


class Result(Protocol):
    """What a command hands over: a dataclass, whose fields are the JSON document."""

    def brief(self) -> str:
        """What `--quiet` prints."""

    def blocks(self) -> Iterable[Block]:
        """What people read."""


@dataclasses.dataclass(frozen=True)
class Sink:
    """Where the result of a command goes, and in which form. `--json` takes precedence over `--quiet` on stdout."""

    json: bool = False
    quiet: bool = False

    def result(self, result: Result) -> None:
        """Print the result of a command, once a command."""
        if self.json:
            self.text(to_json(result))
        elif self.quiet:
            self.text(result.brief())
        elif sys.stdout.isatty():
            from rich.console import Console

            self.text(as_text(result.blocks(), Console(file=sys.stdout)))
        else:
            self.text(as_text(result.blocks()))

    def text(self, text: str) -> None:
        """Print text on stdout as it is."""
        _write(sys.stdout, text)

    def note(self, text: str, level: str = "info") -> None:
        """Print a note or a warning."""
        self.line(labelled(text, level))

    def line(self, text: str) -> None:
        """Print one line of progress."""
        if not self.quiet:
            _write(sys.stderr, clean(text))

    def complaint(self, failure: Failure) -> None:
        """Print an error on stderr: a line that says what is wrong, and one that says what to do."""
        hint = f"\nhint: {clean(failure.hint)}" if failure.hint else ""
        _write(sys.stderr, f"error: {clean(failure.message)}{hint}")

    def failure(self, failure: Failure) -> None:
        """Print an error in place of a result: with `--json` it is also the document on stdout."""
        self.complaint(failure)
        if self.json:
            self.text(to_json(failure))


def labelled(text: str, level: str) -> str:
    """A note or a warning as one line, in which settings and actions that the engine names are flags and commands."""
    return f"{'note' if level == 'info' else level}: {translate(text, RUNNING.get())}"


def to_json(document: Any) -> str:
    """A value as one JSON document. Numbers that are not finite become null."""
    return json.dumps(plain(document), indent=2, allow_nan=False, ensure_ascii=True)


def plain(value: Any) -> Any:
    """A value as dicts, lists, strings, finite numbers and None; `document()` of a value takes precedence."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "document"):
        return plain(value.document())
    if isinstance(value, msgspec.Struct):
        return plain(msgspec.structs.asdict(value))
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, PurePath) else value


def _write(stream: TextIO, text: str) -> None:
    if not text:
        return
    try:
        stream.write(text + "\n")
        stream.flush()
    except UnicodeEncodeError:
        encoding = stream.encoding or "ascii"
        _write(stream, text.encode(encoding, "backslashreplace").decode(encoding))
    except BrokenPipeError:
        # A reader that stops early (`| head`) is not a failure of the command: the rest is discarded.
        with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("w") as null:
            os.dup2(null.fileno(), stream.fileno())
