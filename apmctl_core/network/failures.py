"""Failures of the Hub's clients as errors of ours: one table, for data and artifacts alike.

`what` names what was asked for in messages, e.g. "repository owner/name".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apmctl_core.errors import ApmError, ConfigError, Interrupted, NetworkError
from apmctl_core.network.clients import chain, is_network, is_offline, shown

LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
CONSISTENCY = "Consistency check failed"
_RETRY = "rerun the same command; what has arrived is not sent again"


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
    if any(map(is_network, causes)):
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
    status = next((status for cause in causes if (status := status_of(cause)) is not None), None)
    return any(map(is_network, causes)) if status is None else status >= 500 or status == 408


def broken_off(error: BaseException) -> bool:
    """Whether a download ended in a way that the client itself does not retry."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    causes = list(chain(error))
    if any(isinstance(cause, LocalEntryNotFoundError) for cause in causes):  # it has tried for half a minute
        return False
    names = {type(cause).__name__ for cause in causes}
    lost = bool(names & {"ReadError", "ChunkedEncodingError"}) or any(CONSISTENCY in str(cause) for cause in causes)
    return lost or any((status_of(cause) or 0) >= 500 for cause in causes)
