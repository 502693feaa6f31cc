"""What a server may send: no more than was asked for, in memory and on the disk, and never a token to somebody else."""

from __future__ import annotations

import importlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from apmctl_core.artifacts import Store
from apmctl_core.errors import NetworkError
from apmctl_core.events import silent
from apmctl_core.hub.pull import pull
from apmctl_core.hub.push import push
from apmctl_core.network import bounds
from apmctl_core.network.clients import supervised
from apmctl_core.network.references import parse

from .attempts import fails, nothing_of, setting, tamper
from .conftest import LocalHub, point_to
from .samples import put_set, tree_of

ASKED = ["GET /api/datasets", r"GET .*/manifest\.json", r"GET .*/set\.safetensors"]
BIG = 20 << 20  # more than an answer may have


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("headers", [{}, {"Content-Length": str(48 << 20)}], ids=["endless", "announced"])
def test_a_pull_reads_what_it_asked_for(
    published: str, hub: LocalHub, other: Store, asked: str, headers: dict[str, str]
) -> None:
    hub.fail({"match": asked, "do": "endless", "headers": headers})
    error = fails(4, "is longer than", lambda: pull(other, parse(published)))
    assert "127.0.0.1" in error.message and "HF_ENDPOINT" in error.hint
    assert nothing_of(other)
    assert not any("set.safetensors" in name for name in tree_of(other))
    hub.fail()
    assert pull(other, parse(published)).artifact.kind == "set"


def test_a_file_may_have_the_size_that_was_agreed_on_and_not_a_byte_more(
    published: str, hub: LocalHub, other: Store, store: Store
) -> None:
    (made,) = store.list("set")
    size = made.manifest.files["set.safetensors"].size
    hub.fail({"match": r"GET .*/set\.safetensors", "do": "endless", "bytes": size + 1})
    fails(4, f"is longer than {size:,} bytes", lambda: pull(other, parse(published)))
    hub.fail({"match": r"GET .*/set\.safetensors", "do": "endless", "bytes": size})
    fails(3, "its sha256 differs", lambda: pull(other, parse(published)))


@pytest.mark.parametrize("asked", ["whoami", "/preupload/", "/lfs/objects/batch", "/commit/"])
def test_a_push_reads_no_more_than_it_asked_for(hub: LocalHub, store: Store, name: str, asked: str) -> None:
    hub.fail({"match": asked, "do": "endless"})
    fails(4, "is longer than", lambda: push(store, put_set(store), name))


@pytest.mark.parametrize("code", [302, 404, 503])
def test_what_comes_with_an_error_is_bounded(published: str, hub: LocalHub, other: Store, code: int) -> None:
    headers = {"Location": "/nowhere"}
    hub.fail({"match": r"GET .*/set\.safetensors", "do": "endless", "code": code, "headers": headers})
    fails(4, "is longer than 16,777,216 bytes", lambda: pull(other, parse(published)))
    assert len([request for request in hub.requests() if "set.safetensors" in request]) == 1


def test_what_is_compressed_is_refused_unread(published: str, hub: LocalHub, other: Store) -> None:
    hub.fail({"match": "GET /api/datasets", "do": "endless", "bytes": 10, "headers": {"Content-Encoding": "gzip"}})
    fails(4, "is compressed, which was not asked for", lambda: pull(other, parse(published)))


@pytest.mark.parametrize(("page", "asked", "left"), [(2, 20, 0), (8192, 7, 4096)])
def test_a_listing_of_endless_pages_ends(
    published: str, hub: LocalHub, monkeypatch: pytest.MonkeyPatch, page: int, asked: int, left: int
) -> None:
    from huggingface_hub import HfApi

    monkeypatch.setattr(bounds, "_CALL_BYTES", 20 * (4 << 10))
    again = {"Link": f'<{hub.url}/api/datasets/{published}/tree/main>; rel="next"'}
    hub.fail({"match": "/tree/", "do": "status", "code": 200, "body": "[]".rjust(page), "headers": again})
    with pytest.raises(NetworkError, match=f"is longer than {left:,} bytes"), supervised(silent):
        list(HfApi().list_repo_tree(published, repo_type="dataset"))
    assert len(hub.requests()) == asked


def get(url: str, *, data: bool) -> int:
    """The bytes of an answer."""
    from huggingface_hub import get_session

    with supervised(silent, data=data):
        return len(get_session().get(url).content)


def test_files_of_unknown_length_have_the_one_that_they_announce(hub: LocalHub, published: str) -> None:
    file, listing = f"{hub.url}/datasets/{published}/resolve/main/data.bin", f"{hub.url}/api/datasets/{published}"
    announced = {"do": "endless", "bytes": BIG, "headers": {"Content-Length": str(BIG)}}
    hub.fail({"match": "/resolve/", "to": f"{hub.url}/cdn", "do": "redirect", "times": 1}, {"match": "/", **announced})
    assert get(file, data=True) == BIG
    for url, data in ((file, False), (listing, True)):
        with pytest.raises(NetworkError, match="is longer than 16,777,216 bytes"):
            get(url, data=data)
    hub.fail({"match": "/api/", "to": f"{hub.url}/cdn", "do": "redirect", "times": 1}, {"match": "/", **announced})
    with pytest.raises(NetworkError, match="is longer"):
        get(listing, data=True)
    hub.fail({"match": "/resolve/", "do": "endless"})
    with pytest.raises(NetworkError, match="is longer"):
        get(file, data=True)


def test_a_session_that_is_new_after_a_failed_connection_is_bounded_as_well(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import get_session
    from huggingface_hub.utils import http_backoff

    def lost(**_: object) -> None:
        raise importlib.import_module(type(session).__module__.partition(".")[0]).ConnectError("lost")

    hub.fail({"match": "GET /api/", "do": "endless"})
    with pytest.raises(NetworkError, match="is longer than 16,777,216 bytes"), supervised(silent):
        session = get_session()
        monkeypatch.setattr(session, "request", lost)
        http_backoff("GET", f"{hub.url}/api/models/o/n")
    assert get_session() is not session
    assert all(len(hooks) <= 1 for hooks in get_session().event_hooks.values())
    assert get_session().timeout.read is None


# --- headers -------------------------------------------------------------------------------------------------------


@pytest.fixture
def babbler() -> Iterator[tuple[str, list[int]]]:
    """A server whose headers do not end, and the bytes that it could send to each who asked."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sent: list[int] = []

        def babble() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                sent.append(0)
                with connection:
                    try:
                        connection.sendall(b"HTTP/1.1 200 OK\r\n")
                        while sent[-1] < BIG:
                            sent[-1] += connection.send(b"X-Header: " + b"x" * 4000 + b"\r\n")
                    except OSError:
                        continue

        thread = threading.Thread(target=babble)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", sent
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_headers_without_end_are_refused(
    babbler: tuple[str, list[int]], other: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, sent = babbler
    point_to(monkeypatch, url, tmp_path / "hf")
    fails(4, "cannot be reached", lambda: pull(other, parse("tester/thing")))
    assert 0 < max(sent) < BIG


# --- tokens and the disk ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ASKED)
def test_a_redirect_to_another_host_carries_no_token(published: str, hub: LocalHub, other: Store, asked: str) -> None:
    elsewhere = hub.url.replace("127.0.0.1", "localhost")
    hub.fail({"match": asked, "do": "redirect", "to": elsewhere, "times": 1})
    assert pull(other, parse(published)).artifact.kind == "set"
    seen = set(zip(hub.requests("host"), hub.requests("authorised"), strict=True))
    assert seen == {(hub.url.removeprefix("http://"), True), (elsewhere.removeprefix("http://"), False)}


def test_a_listing_of_more_than_the_disk_has_is_refused_before_the_download(
    published: str, hub: LocalHub, other: Store
) -> None:
    size = 1 << 49
    tamper(hub, published, setting("files", "set.safetensors", "size", to=size))
    repository = hub.repository(published)
    repository.commit("main", None, "huge", {}, (), {"set.safetensors": ("0" * 64, size)})
    fails(1, "the disk of .* has .* free", lambda: pull(other, parse(published)))
    assert [request.rpartition("/")[2] for request in hub.requests() if "/resolve/" in request] == ["manifest.json"]
    assert nothing_of(other)
