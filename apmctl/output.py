"""The one sink of all output: human, JSON or quiet.

stdout carries the result alone. With `--json` it is one JSON document; with `--quiet` the bare essential. Errors,
notes and progress go to stderr.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, TextIO

from apmctl.errors import Failure
from apmctl.text import clean


@dataclasses.dataclass(frozen=True)
class Sink:
    """Where a command's result goes, in which form. `--json` decides what stdout carries even beside `--quiet`."""

    json: bool = False
    quiet: bool = False

    def result(self, document: Mapping[str, Any], human: str, brief: str) -> None:
        """Deliver a result, once a command: the document, the text for people, or the bare essential."""
        if self.json:
            _write(sys.stdout, to_json(document))
        else:
            _write(sys.stdout, brief if self.quiet else human)

    def note(self, text: str, level: str = "info") -> None:
        """Say something that is not the result."""
        if not self.quiet:
            _write(sys.stderr, f"{'note' if level == 'info' else level}: {clean(text)}")

    def line(self, text: str) -> None:
        """Write one line about progress."""
        if not self.quiet:
            _write(sys.stderr, clean(text))

    def complaint(self, failure: Failure) -> None:
        """Tell what is wrong on stderr: one line, and one with what to do."""
        _write(sys.stderr, f"error: {clean(failure.message)}")
        if failure.hint:
            _write(sys.stderr, f"hint: {clean(failure.hint)}")

    def failure(self, failure: Failure) -> None:
        """Tell of an error in place of a result: with `--json` it is the document on stdout."""
        self.complaint(failure)
        if self.json:
            _write(sys.stdout, to_json(failure.document()))


def to_json(document: Mapping[str, Any]) -> str:
    """One JSON document. What JSON cannot say becomes null: a number that is not finite says nothing anyway."""
    return json.dumps(plain(document), indent=2, allow_nan=False, ensure_ascii=True)


def plain(value: Any) -> Any:
    """A value of dicts, lists, strings, finite numbers and None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (bytes, bytearray)):
        return [plain(v) for v in value]
    if isinstance(value, PurePath):
        return str(value)
    raise TypeError(f"not for JSON: {type(value).__name__}")


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
        # A reader that has seen enough (`| head`) is no failure of the command: what follows goes nowhere.
        _discard(stream)


def _discard(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
