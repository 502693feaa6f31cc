"""Errors as the shell prints them: one table from the type of an error to its exit code.

Foreseen errors become one line of message and one of hint, in which the paths and actions that the engine names in
backquotes are the flags and commands of this shell. Everything else keeps its traceback.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from apmctl import fields
from apmctl_core import errors as core
from apmctl_core.storage.files import CAUSES, store_error

DONE, FAILED, USAGE, ARTIFACT, DATA = range(5)
SIGNALLED = 128  # plus the number of the signal

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

_TABLES = {"teachers": fields.TEACHERS, "distill": fields.DISTILL, "eval": fields.EVALUATE, "compare": fields.EVALUATE}
_OF_SET = {"data.test_split": "--test-split"}  # where the test images of a set lie, which its recipe decides
_MORE = {"eval": _OF_SET, "compare": _OF_SET, "relabel": {"distill.committee": "--committee", **_OF_SET}}
_SETTINGS = "store device compile segment memory_budget workers skip_broken name revision tag private license create_pr"
_FLAGS = {name: "--" + name.replace("_", "-") for name in _SETTINGS.split()}
_FLAGS |= {"data_path": "--data", "pool": "--teachers"}
_ACTIONS = "list show verify rename rm teachers distill relabel eval compare push pull presets doctor gc resume"

RUNNING: ContextVar[str] = ContextVar("command", default="")  # whose flags notes name
LINE: ContextVar[str] = ContextVar("line", default="")  # as a person could type it again


def translate(text: str, command: str) -> str:
    """A text of the engine with the flags of `command` for config paths, and commands for actions.

    Both stand in backquotes and may be followed by values, e.g. `model.width 64`; other words stay as they are.
    """
    flags = _FLAGS | fields.flags_of(_TABLES.get(command, ())) | _MORE.get(command, {})

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
    name, hint, code = type(error).__name__, "", FAILED
    if isinstance(error, core.Interrupted):
        message, hint, code = error.message, translate(error.hint, command), SIGNALLED + error.signal
    elif isinstance(error, KeyboardInterrupt):
        message, hint, code = "interrupted", "rerun the same command to resume", SIGNALLED + 2
    elif isinstance(error, core.ApmError):
        message, hint, code = translate(error.message, command), translate(error.hint, command), exit_code_of(error)
    elif isinstance(error, OSError) and error.errno in CAUSES:  # wherever it happens
        failure = store_error(error, error.filename or "a file", "read or write")
        message, hint = failure.message, translate(failure.hint, command)
    elif isinstance(error, MemoryError) or name == "OutOfMemoryError":
        message, hint = f"out of memory: {error}".removesuffix(": "), _MEMORY_HINT
    elif hasattr(error, "format_message"):  # of the parser, whose errors have no public base in all versions
        usage = getattr(getattr(error, "ctx", None), "command_path", "apmctl")
        message = error.format_message().replace("Value error, ", "")
        name, hint, code = "UsageError", f"see `{usage} --help`", USAGE
    else:
        return None
    return Failure(name, " ".join(message.split()) or name, " ".join(hint.split()), code)


def exit_code_of(error: core.ApmError) -> int:
    """The exit code of a foreseen error."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))
