"""What goes wrong on the way to the Hub, in our words: NetworkError for the way, the credentials and what is not
there; ArtifactError for what is there and should not be.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from apmctl_core.errors import ApmError, ArtifactError, ConfigError, Interrupted, NetworkError
from apmctl_core.network.clients import chain, is_network, shown
from apmctl_core.storage.files import store_error

LOGIN = "log in with `hf auth login`, or set HF_TOKEN"
AGAIN = "give the same command again; what has arrived is not sent twice"
CONSISTENCY = "Consistency check failed"


def translate(error: BaseException, repo: str) -> BaseException:
    """The error for a failure of the Hub's client about a repository; ours are passed through.

    An interruption may have been wrapped by the client on its way.
    """
    causes = list(chain(error))
    for cause in causes:
        if isinstance(cause, (ApmError, Interrupted, KeyboardInterrupt)):
            return cause
        found = _of_the_hub(cause, repo)
        if found is not None:
            return found
    for cause in causes:
        if is_network(cause):
            return NetworkError(f"the Hub cannot be reached for {repo}: {shown(causes[-1])}", "check the network")
    for cause in causes:
        if isinstance(cause, OSError) and CONSISTENCY in str(cause):
            return NetworkError(f"what the Hub sends of {repo} is not as long as it says", AGAIN)
        if isinstance(cause, OSError) and cause.errno is not None:
            return store_error(cause, Path(str(cause.filename or "a file")), "read or write")
    kind = type(causes[-1]).__name__
    return NetworkError(f"the Hub's client failed for {repo} ({kind}): {shown(causes[-1])}", "try again later")


def missing(repo: str, type: str | None = None) -> NetworkError:
    """The error for a repository that is not there, or not for us: the Hub does not tell the one from the other."""
    what = f"{NAMES[type]} repository" if type else "repository"
    return NetworkError(f"there is no {what} {repo} on the Hub, or it is private", f"check the name, or {LOGIN}")


NAMES = {"dataset": "data set", "model": "model"}


def _of_the_hub(error: BaseException, repo: str) -> ApmError | None:
    from huggingface_hub import errors as hub

    # Derived types stand before their bases; older clients have no name of their own for an entry on the Hub.
    entry: Any = getattr(hub, "RemoteEntryNotFoundError", hub.EntryNotFoundError)
    table: tuple[tuple[Any, Callable[[Any], ApmError | None]], ...] = (
        (hub.LocalEntryNotFoundError, lambda _: None),  # its cause says more
        (hub.GatedRepoError, lambda _: NetworkError(f"{repo} is gated", f"accept its terms on the Hub, then {LOGIN}")),
        (hub.RevisionNotFoundError, lambda _: NetworkError(f"{repo} has no such revision", "check what follows the @")),
        (entry, lambda _: ArtifactError(f"{repo} lacks a file that its manifest lists", "ask who pushed it")),
        (hub.RepositoryNotFoundError, lambda _: missing(repo)),
        (hub.OfflineModeIsEnabled, lambda _: offline(repo)),
        (hub.HFValidationError, lambda e: ConfigError(shown(e), "write owner/name")),
        (hub.HfHubHTTPError, lambda e: _by_status(e, repo)),
    )
    return next((make(error) for kind, make in table if isinstance(error, kind)), None)


def offline(repo: str) -> NetworkError:
    """The error for a repository that was never pulled here, while nothing may be fetched."""
    return NetworkError(f"{repo} was not pulled before, and offline mode is on", "unset HF_HUB_OFFLINE")


def _by_status(error: Any, repo: str) -> NetworkError:
    status = status_of(error)
    said = getattr(error, "server_message", None)
    said = f": {shown(said)}" if said else ""
    if status == 401:
        return NetworkError(f"the Hub does not accept the token for {repo}", LOGIN)
    if status == 403:
        return NetworkError(f"the token may not do this to {repo}{said}", "use a token that may write to it")
    if status in (409, 412):
        return NetworkError(f"{repo} was changed by somebody else meanwhile{said}", AGAIN)
    if status in (400, 413, 422):
        return NetworkError(f"the Hub refuses what was sent for {repo}{said or f' ({status})'}", "change it, try again")
    if status == 429:
        return NetworkError(f"the Hub has had too many requests ({repo})", "wait a few minutes")
    return NetworkError(f"the Hub answers for {repo} with an error: {status or shown(error)}{said}", "try again later")


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an error, if it has one."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def transient(error: BaseException) -> bool:
    """Whether the same request may well succeed a moment later."""
    for cause in chain(error):
        status = status_of(cause)
        if status is not None:
            return status >= 500 or status == 408
    return any(is_network(cause) for cause in chain(error))


def broken_off(error: BaseException) -> bool:
    """Whether a download ended in a way that the client itself does not try again."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    causes = list(chain(error))
    if any(isinstance(cause, LocalEntryNotFoundError) for cause in causes):  # it has tried for half a minute
        return False
    names = {type(cause).__name__ for cause in causes}
    lost = bool(names & {"ReadError", "ChunkedEncodingError"}) or any(CONSISTENCY in str(cause) for cause in causes)
    return lost or any((status_of(cause) or 0) >= 500 for cause in causes)
