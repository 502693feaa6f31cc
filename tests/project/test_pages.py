"""README, docs and the glossary: what they link to exists, and they agree with the code and with each other."""

from __future__ import annotations

import re
import runpy

import pytest
import setuptools

from tests.command import ROOT

from .pages import LINK, PAGES, dead_links, install_lines, project, text

README = text("README.md")
FOLD = README.index("## Try it")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    assert dead_links(page) == []


def test_the_readme_opens_with_a_picture_the_numbers_and_what_they_do_not_say() -> None:
    head = README[:FOLD]
    parts = [
        "![",
        "CC BY 4.0",
        "random real images |",
        "95 % intervals over five networks",
        "well-chosen real images are better",
        "nobody has run",
    ]
    places = [head.index(part) for part in parts]
    assert places == sorted(places)
    assert len(head.splitlines()) < 45


def test_the_numbers_at_the_top_are_those_measured_below() -> None:
    top = re.findall(r"(\d+\.\d \[\d+\.\d, \d+\.\d\]) %", README[:FOLD])
    assert len(top) == 9
    measured = README[README.index("## Measured") :]
    assert [number for number in top if number not in measured] == []


@pytest.mark.parametrize("page", ["README.md", "docs/glossary.md", "docs/docker.md", "docs/ci.md", "tools/demo.sh"])
def test_commands_that_a_page_names_exist(page: str) -> None:
    commands = set(re.findall(r"^## apmctl (\S+)", text("docs/commands.md"), re.MULTILINE))
    assert len(commands) > 10
    used = set(re.findall(r"(?:`|\$ |^  |run: |/store\" )apmctl ([a-z]+)\b", text(page), re.MULTILINE))
    assert used
    assert used <= commands


@pytest.mark.parametrize(
    "term",
    ["R", "E", "Kc", "G", "B", "alpha", "IPC", "DSA", "committee", "soft labels", "pool", "segment", "ZCA", "interval"],
)
def test_the_glossary_has(term: str) -> None:
    assert f"**{term}**" in text("docs/glossary.md")


def test_flags_in_the_glossary_exist() -> None:
    flags = set(re.findall(r"`(--[a-z-]+)", text("docs/glossary.md")))
    assert len(flags) > 10
    known = set(re.findall(r"--[a-z-]+", text("docs/commands.md")))
    assert flags <= known


def test_a_package_index_shows_pictures_and_links_of_this_version(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **words: given.update(words))
    runpy.run_path(str(ROOT / "setup.py"))
    shown, base = given["long_description"], project()["urls"]["Repository"]
    assert [link for link in LINK.findall(shown) if not link.startswith(("https://", "#"))] == []
    version = project()["version"]
    assert f"]({base}/raw/v{version}/docs/digits-ipc1.png)" in shown
    assert f"]({base}/blob/v{version}/docs/glossary.md)" in shown
    assert len(LINK.findall(shown)) == len(LINK.findall(README))


def test_pages_agree_on_how_to_install() -> None:
    readme = install_lines("README.md")
    address = project()["urls"]["Repository"]
    assert f"pip install git+{address}" in readme
    assert {"pip install .", "pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu"} <= readme
    for page in ("docs/ci.md", "docs/docker.md", "CONTRIBUTING.md"):
        assert install_lines(page) <= readme, page
    assert len(install_lines("docs/ci.md")) >= 2


def test_reliability_begins_with_ten_lines() -> None:
    head = text("docs/reliability.md").split("## What is promised")[0]
    assert len(re.findall(r"^- ", head, re.MULTILINE)) == 10


def test_the_changelog_is_for_users() -> None:
    assert re.findall(r"tests/|benchmarks/|`(?:\w+\.)+[A-Z_]\w+", text("CHANGELOG.md")) == []
