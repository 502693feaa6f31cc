"""Errors as the shell prints them: one table from the type of an error to its exit code.

Foreseen errors become one line of message and one of hint, in which the paths and actions that the engine names in
backquotes are the flags and commands of this shell. Everything else keeps its traceback.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from typing import Any

from apmctl import fields
from apmctl_core import errors as core

DONE = 0
FAILED = 1
USAGE = 2
ARTIFACT = 3
DATA = 4
_SIGNALLED = 128
INTERRUPTED = _SIGNALLED + 2
TERMINATED = _SIGNALLED + 15

# The first type that fits decides, so derived types stand before their bases.
EXIT_CODES: tuple[tuple[type[core.ApmError], int], ...] = (
    (core.ConfigError, USAGE),
    (core.DeviceError, USAGE),
    (core.ArtifactError, ARTIFACT),
    (core.DataError, DATA),
    (core.NetworkError, DATA),
    (core.StoreError, FAILED),
    (core.NumericsError, FAILED),
    (core.MemoryExhaustedError, FAILED),
    (core.ApmError, FAILED),
)

_MEMORY_HINT = "bound it with --memory-budget, e.g. 2GB, or with a smaller --segment"
# What the file system refuses is foreseen wherever it happens, even where the engine has no better word for it.
_DISK_HINTS = {
    errno.ENOSPC: "free some space, then rerun the command",
    errno.EDQUOT: "free some space within the quota, then rerun the command",
    errno.EFBIG: "raise the limit on file sizes, then rerun the command",
    errno.EROFS: "choose a writable folder, e.g. with --store",
    errno.EACCES: "check the permissions, or choose another folder with --store",
    errno.EPERM: "check the permissions, or choose another folder with --store",
}

_TABLES = {"teachers": fields.TEACHERS, "distill": fields.DISTILL, "eval": fields.EVALUATE}
_RELABEL = {"distill.committee": "--committee"}
_SETTINGS = "store device compile segment memory_budget name revision tag private license create_pr"
_FLAGS = {name: "--" + name.replace("_", "-") for name in _SETTINGS.split()}
_FLAGS |= {"data_path": "--data", "wait": "--no-wait", "pool": "--teachers"}
_ACTIONS = "list show verify rm teachers distill relabel eval push pull presets doctor"


def translate(text: str, command: str) -> str:
    """A text of the engine with the flags of `command` for config paths, and commands for actions.

    Both stand in backquotes and may be followed by values, e.g. `model.width 64`; other words stay as they are.
    """
    flags = _FLAGS | (_RELABEL if command == "relabel" else fields.flags_of(_TABLES.get(command, ())))

    def replaced(match: re.Match[str]) -> str:
        word, values = match[1], match[2]
        if word in flags:
            return flags[word] + values
        return f"`apmctl {word}{values}`" if word in _ACTIONS.split() else match[0]

    return re.sub(r"`([\w.]+)((?: [^`]*)?)`", replaced, text)


@dataclass(frozen=True)
class Failure:
    """A foreseen failure, ready to be told: each text is one line."""

    type: str
    message: str
    hint: str
    exit_code: int

    def document(self) -> dict[str, Any]:
        """The JSON document in place of a result."""
        return {"error": {"type": self.type, "message": self.message, "hint": self.hint, "exit_code": self.exit_code}}


def describe(error: BaseException, command: str = "") -> Failure | None:
    """How to tell an error of a command; None for one that nobody foresaw."""
    if isinstance(error, core.Interrupted):
        return _failure(error, error.message, error.hint, _SIGNALLED + error.signal)
    if isinstance(error, KeyboardInterrupt):
        return _failure(error, "interrupted", "rerun the same command to resume", _SIGNALLED + 2)
    if isinstance(error, core.ApmError):
        message, hint = translate(error.message, command), translate(error.hint, command)
        return _failure(error, message, hint, exit_code_of(error))
    if isinstance(error, OSError) and error.errno in _DISK_HINTS:
        where = f"{error.filename}: " if error.filename else ""
        return _failure(error, f"{where}{error.strerror}", _DISK_HINTS[error.errno], FAILED)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return _failure(error, f"out of memory: {error}".removesuffix(": "), _MEMORY_HINT, FAILED)
    return _usage(error)


def exit_code_of(error: core.ApmError) -> int:
    """The exit code of a foreseen error."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def _usage(error: BaseException) -> Failure | None:
    """What the parser refused. Its errors have no public base in all versions, but all of them format themselves."""
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        return None
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "apmctl")
    message = _one_line(format_message())
    return Failure("UsageError", message, f"`{command} --help` lists what it takes", USAGE)


def _failure(error: BaseException, message: str, hint: str, code: int) -> Failure:
    return Failure(type(error).__name__, _one_line(message) or type(error).__name__, _one_line(hint), code)


def _one_line(text: str) -> str:
    return " ".join(text.split())
