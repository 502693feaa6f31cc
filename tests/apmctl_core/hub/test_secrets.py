"""Credentials: never printed, never stored, never in a log, whatever goes wrong."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from apmctl_core.artifacts import Store
from apmctl_core.errors import ApmError
from apmctl_core.events import silent
from apmctl_core.hub.pull import pull
from apmctl_core.hub.push import push
from apmctl_core.network.clients import scrub, shown, supervised
from apmctl_core.network.references import parse

from .conftest import LocalHub, Said
from .samples import put_set


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("token hf_abcdEFGH1234 refused", "token *** refused"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("GET https://user:pass@host/x", "GET https://host/x"),
        ("PUT https://s3/x?X-Amz-Signature=abc&y=1 failed", "PUT https://s3/x failed"),
        ("nothing here", "nothing here"),
    ],
)
def test_what_is_shown_has_no_secrets(text: str, expected: str) -> None:
    assert scrub(text) == expected


def test_the_token_itself_is_not_shown_whatever_it_looks_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "correct-horse")
    assert shown(ValueError("bad header 'correct-horse'")) == "bad header '***'"


def test_what_is_shown_is_one_short_printable_line() -> None:
    text = shown("a\nb\x1b[2J" + "x" * 500)
    assert text.startswith("a b")
    assert len(text) == 200
    assert text.isprintable()
    assert shown(ValueError()) == "ValueError"


def everything_in(*roots: Path) -> bytes:
    return b"".join(p.read_bytes() for root in roots if root.exists() for p in root.rglob("*") if p.is_file())


def test_a_token_is_in_no_file_no_event_no_log_and_no_output(
    hub: LocalHub,
    store: Store,
    other: Store,
    name: str,
    said: Said,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    push(store, put_set(store), name, emit=said)
    pull(other, parse(name), emit=said)
    hub.fail({"match": "/lfs-put", "do": "status", "code": 503})
    for match in ("/lfs-put", "/preupload", "/refs", "/commit/"):
        hub.fail({"match": match, "do": "status", "code": 503})
        with pytest.raises(ApmError) as caught:
            push(store, put_set(store, "again", salt=2), name, emit=said)
        assert "hf_writer" not in caught.value.message + caught.value.hint
        assert "Signature" not in caught.value.message
    captured = capfd.readouterr()
    texts = [captured.out, captured.err, caplog.text, *said.notes]
    assert not any("hf_writer" in text for text in texts)
    assert not any("Signature" in text for text in (captured.out, captured.err, *said.notes))
    assert said.notes
    assert b"hf_writer" not in everything_in(store.root, other.root, hub.root)


def test_the_clients_limits_are_ours_for_a_call_and_then_its_own() -> None:
    from huggingface_hub import utils

    before = utils.get_session().timeout
    with supervised(silent):
        assert utils.get_session().timeout.read is not None
    assert utils.get_session().timeout == before
