"""The libraries that talk to the Hugging Face Hub, kept quiet, bounded in time and unable to give secrets away.

What they log about retries becomes a Note; progress bars and log lines, which would run into ours, are held back. Their
failures become errors of ours by one table, for data and artifacts alike; `what` names in messages what was asked for,
e.g. "repository owner/name".
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from apmctl_core.errors import ApmError, ConfigError, Interrupted, NetworkError
from apmctl_core.events import Emit, Note
from apmctl_core.network.bounds import Bounds

LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
CONSISTENCY = "Consistency check failed"
_RETRY = "rerun the same command; what has arrived is not sent again"

_LOGGERS = ("huggingface_hub", "datasets", "fsspec", "filelock")
_LINE = 200
_RETRIES = ("Retry", "retry", "resume download")
_CONNECT_S = 10.0
_STALLED_S = 60.0  # without one byte in either direction

_TOKEN = re.compile(r"hf_[A-Za-z0-9_]{4,}|(?<=Bearer )\S+")
_USER = re.compile(r"(?<=://)[^/\s@]*@")
_QUERY = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*")  # signed addresses carry their signature there


class _Listener(logging.Handler):
    """Passes the warnings of the clients on, so that retries are not silent, and says `renewed` before a retry."""

    def __init__(self, emit: Emit, renewed: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._emit = emit
        self._renewed = renewed
        self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self._renewed()
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
def supervised(emit: Emit, *, data: bool = False) -> Iterator[None]:
    """Silence the clients' progress bars and log lines, pass on what they say about retries; bound waits and answers.

    The client itself would wait for ever for a Hub that takes a connection and then says nothing, and read for ever
    from one that goes on. `data` is for whoever fetches files of unknown length.
    """
    from huggingface_hub import utils

    # `datasets` takes a second to import: whoever needs it has done so.
    libraries: list[Any] = [utils, *([sys.modules["datasets"].utils] if "datasets" in sys.modules else [])]
    bounds = Bounds(data=data)
    with contextlib.ExitStack() as stack:
        # The client takes a new session when a connection fails, and then says that it retries.
        listener = _Listener(emit, lambda: _bound(bounds, stack))
        for logger in map(logging.getLogger, _LOGGERS):
            stack.callback(vars(logger).update, handlers=logger.handlers, propagate=logger.propagate)
            logger.handlers, logger.propagate = [listener], False
        for library in libraries:
            if not library.are_progress_bars_disabled():
                stack.callback(library.enable_progress_bars)
                library.disable_progress_bars()
        _bound(bounds, stack)
        yield


def _bound(bounds: Bounds, stack: contextlib.ExitStack) -> None:
    """Bound the waits and the answers of the client's session until the stack is left."""
    from huggingface_hub import get_session

    session: Any = get_session()
    stack.callback(setattr, session, "event_hooks", session.event_hooks)
    session.event_hooks = bounds.hooks(session.event_hooks)
    if not any(session.timeout.as_dict().values()):  # else they are somebody's own
        stack.callback(setattr, session, "timeout", session.timeout)
        session.timeout = type(session.timeout)(_STALLED_S, connect=_CONNECT_S)


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


# --- failures


def translate(error: BaseException, what: str) -> BaseException | None:
    """The error for a failure of the Hub's clients, None for one that is neither the Hub's nor the network's.

    Our own errors are returned as they are: a client may have wrapped an interruption.
    """
    causes = list(chain(error))
    for cause in causes:
        if isinstance(cause, (ApmError, Interrupted, KeyboardInterrupt)):
            return cause
        failure = _of_the_hub(cause, what)
        if failure is not None:
            return failure
    if any(map(_is_network, causes)):
        problem = f"the Hub cannot be reached for {what}: {shown(causes[-1])}"
        return offline(what) if is_offline() else NetworkError(problem, "check the network")
    if any(isinstance(cause, OSError) and CONSISTENCY in str(cause) for cause in causes):
        return NetworkError(f"the Hub sent a file of {what} that is not as long as it says", _RETRY)
    return None


def missing(what: str) -> NetworkError:
    """The error for something that does not exist or is hidden from us: the Hub does not tell which."""
    return NetworkError(f"there is no {what} on the Hub, or it is private", f"check the name, or {LOGIN}")


def offline(what: str) -> NetworkError:
    """The error for something that would have to be fetched in offline mode."""
    return NetworkError(f"{what} is not on this machine, and offline mode is on", "unset HF_HUB_OFFLINE")


def _of_the_hub(error: BaseException, what: str) -> ApmError | None:
    from huggingface_hub import errors as hub

    if type(error).__name__ == "DatasetNotFoundError":  # of `datasets`, which takes a second to import
        return missing(what)
    # Derived types stand before their bases.
    table: tuple[tuple[Any, Callable[[Any], ApmError | None]], ...] = (
        (hub.LocalEntryNotFoundError, lambda _: None),  # its cause says more
        (hub.GatedRepoError, lambda _: NetworkError(f"{what} is gated", f"accept its terms on the Hub, then {LOGIN}")),
        (hub.RevisionNotFoundError, lambda _: NetworkError(f"{what} has no such revision", "check what follows the @")),
        (hub.RepositoryNotFoundError, lambda _: missing(what)),
        (hub.OfflineModeIsEnabled, lambda _: offline(what)),
        (hub.HFValidationError, lambda e: ConfigError(shown(e), "write owner/name")),
        (hub.HfHubHTTPError, lambda e: _by_status(e, what)),
    )
    return next((make(error) for kind, make in table if isinstance(error, kind)), None)


def _by_status(error: Any, what: str) -> NetworkError:
    status = status_of(error)
    answer = getattr(error, "server_message", None)
    answer = f": {shown(answer)}" if answer else ""
    conflict = (f"{what} was changed by somebody else meanwhile{answer}", _RETRY)
    refusal = (f"the Hub refuses what was sent for {what}{answer or f' ({status})'}", "change it, retry")
    table = {
        401: (f"the Hub refuses access to {what}: no token, or one that it does not accept", LOGIN),
        403: (f"the token may not access {what} in this way{answer}", "use a token with more rights"),
        409: conflict,
        412: conflict,
        400: refusal,
        413: refusal,
        422: refusal,
        429: (f"the Hub has had too many requests ({what})", "wait a few minutes"),
    }
    other = (f"the Hub answers for {what} with an error: {status or shown(error)}{answer}", "try again later")
    return NetworkError(*table.get(status or 0, other))


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an error, if it has one."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def transient(error: BaseException) -> bool:
    """Whether the same request may well succeed a moment later."""
    causes = list(chain(error))
    if isinstance(error, ApmError):  # a bound, which may have been reached in an answer that is an error
        return False
    status = next((status for cause in causes if (status := status_of(cause)) is not None), None)
    return any(map(_is_network, causes)) if status is None else status >= 500 or status == 408


def _is_network(error: BaseException) -> bool:
    """Whether an error of the clients, of any of their HTTP backends, is about the way to the Hub."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(
        names & {"TransportError", "ConnectionError", "TimeoutError", "RequestException", "LocalEntryNotFoundError"}
    )
