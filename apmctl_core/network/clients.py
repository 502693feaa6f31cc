"""The libraries that talk to the Hugging Face Hub, kept quiet, bounded in time and unable to give secrets away.

What they log about retries becomes a Note; progress bars and log lines, which would run into ours, are held back.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

from apmctl_core.events import Emit, Note

_LOGGERS = ("huggingface_hub", "datasets", "fsspec", "filelock")
_LINE = 200
_RETRIES = ("Retry", "retry", "resume download")
_CONNECT_S = 10.0
_STALLED_S = 60.0  # without one byte in either direction

_TOKEN = re.compile(r"hf_[A-Za-z0-9_]{4,}|(?<=Bearer )\S+")
_USER = re.compile(r"(?<=://)[^/\s@]*@")
_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")  # signed addresses carry their signature there


class _Listener(logging.Handler):
    """Passes the warnings of the clients on, so that retries are not silent."""

    def __init__(self, emit: Emit) -> None:
        super().__init__(logging.WARNING)
        self._emit = emit
        self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        whole = record.getMessage()
        text = shown(whole)
        if any(sign in whole for sign in _RETRIES) and text != self._last:
            self._last = text
            self._emit(Note(text=f"Hub: {text}", level="warning"))


def is_offline() -> bool:
    """Whether the user has told the Hub's client to stay off the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


@contextlib.contextmanager
def listening(emit: Emit) -> Iterator[None]:
    """Silence the progress bars and log lines of the clients, and pass on what they say about retries."""
    from huggingface_hub import utils

    # `datasets` takes a second to import: whoever needs it has done so.
    libraries: list[Any] = [utils, *([sys.modules["datasets"].utils] if "datasets" in sys.modules else [])]
    listener = _Listener(emit)
    with contextlib.ExitStack() as stack:
        for logger in map(logging.getLogger, _LOGGERS):
            stack.callback(vars(logger).update, handlers=logger.handlers, propagate=logger.propagate)
            logger.handlers, logger.propagate = [listener], False
        for library in libraries:
            if not library.are_progress_bars_disabled():
                stack.callback(library.enable_progress_bars)
                library.disable_progress_bars()
        yield


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Give up on a Hub that takes a connection and then says nothing: the client itself would wait for ever."""
    from huggingface_hub import utils

    session: Any = utils.get_session()  # type: ignore[attr-defined]  # public, by its documentation
    before = getattr(session, "timeout", None)
    if before is None or any(before.as_dict().values()):  # another backend, or somebody's own limits
        yield
        return
    session.timeout = type(before)(_STALLED_S, connect=_CONNECT_S)
    try:
        yield
    finally:
        session.timeout = before


def shown(error: object) -> str:
    """An error or a log record as one line that may be printed: short, without credentials or control characters."""
    text = scrub(" ".join(str(error).split())) or type(error).__name__
    text = text if len(text) <= _LINE else text[: _LINE - 1] + "…"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def scrub(text: str) -> str:
    """A text without tokens, without names and passwords in addresses, and without what follows their question mark."""
    from huggingface_hub import get_token

    token = get_token()
    if token and len(token) >= 4:
        text = text.replace(token, "***")
    return _QUERY.sub(r"\1", _USER.sub("", _TOKEN.sub("***", text)))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what caused it, what caused that."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def is_network(error: BaseException) -> bool:
    """Whether an error of the clients, of any of their HTTP backends, is about the way to the Hub."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(
        names & {"TransportError", "ConnectionError", "TimeoutError", "RequestException", "LocalEntryNotFoundError"}
    )
