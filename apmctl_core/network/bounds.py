"""How much a server may send: an answer that is too long is refused while it arrives, whatever it announced.

The bounds are hooks of the HTTP client (httpx) that all libraries of the Hub share, so no request needs a check of its
own. A request for a file carries in its extensions how long the file is; all other answers are read into memory, and
are short.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from apmctl_core.errors import NetworkError

ANSWER_BYTES = 16 << 20
_CALL_BYTES = 4 * ANSWER_BYTES  # a listing may come in any number of pages
_PAGE_BYTES = 4 << 10  # what an answer counts at least: empty pages can go on for ever, too

_LIMITS = "apmctl.limits"  # status -> bytes
_ANNOUNCED: Mapping[int, int | None] = {200: None, 206: None}
_HINT = "is HF_ENDPOINT the address of a Hub?"


def expecting(size: int, begun: int = 0) -> dict[str, Any]:
    """The extensions of a request for a file of `size` bytes, of which the first `begun` may be left out."""
    return {_LIMITS: {200: size, 206: size - begun}}


class Bounds:
    """The bounds of one call, which may make many requests.

    With `data`, files of unknown length have the one that they announce: those that `datasets` fetches.
    """

    def __init__(self, *, data: bool = False) -> None:
        self._data = data
        self._left = _CALL_BYTES

    def hooks(self, others: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """The hooks of an HTTP client, after those that it has; once is enough."""
        if self._check in others["response"]:
            return dict(others)
        return {"request": [*others["request"], self._ask], "response": [*others["response"], self._check]}

    def _ask(self, request: Any) -> None:
        from huggingface_hub import constants

        request.headers["Accept-Encoding"] = "identity"  # a short answer can unpack into a long one
        if self._data:  # redirects inherit what the first request says
            listing = str(request.url).startswith(f"{constants.ENDPOINT}/api/")
            request.extensions.setdefault(_LIMITS, {} if listing else _ANNOUNCED)

    def _check(self, response: Any) -> None:
        """Bound what can be read of an answer. Raises NetworkError if it is packed or announces too much."""
        if response.request.method == "HEAD":
            return
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise NetworkError(f"{_source(response)} is compressed, which was not asked for", _HINT)
        limits = response.request.extensions.get(_LIMITS, {})
        announced, is_file = int(response.headers.get("Content-Length", 0)), response.status_code in limits
        if is_file:
            limit = limits[response.status_code]
            limit = max(announced, ANSWER_BYTES) if limit is None else limit
        else:
            self._left -= _PAGE_BYTES
            limit = min(ANSWER_BYTES, self._left)
        if announced > limit:
            raise _too_long(response, limit)
        response.iter_raw = partial(self._read, response, response.iter_raw, limit, is_file)

    def _read(
        self, response: Any, pieces: Callable[..., Any], limit: int, is_file: bool, chunk_size: int | None = None
    ) -> Iterator[bytes]:
        """The body in pieces, in the place of the client's `iter_raw`. Raises NetworkError for one that goes on."""
        length = 0
        with contextlib.closing(pieces(chunk_size)) as body:
            for piece in body:
                length += len(piece)
                if length > limit:
                    raise _too_long(response, limit)
                yield piece
        if not is_file:
            self._left -= length


def _too_long(response: Any, limit: int) -> NetworkError:
    return NetworkError(f"{_source(response)} is longer than {max(limit, 0):,} bytes", _HINT)


def _source(response: Any) -> str:
    url = response.request.url
    name = url.raw_path.partition(b"?")[0].rpartition(b"/")[2]  # escaped, and so printable
    return f"what {url.host} sends for {name.decode('ascii')[-60:]}"
