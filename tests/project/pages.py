"""The project's pages as tests read them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from tests.command import ROOT

PAGES = sorted(p.relative_to(ROOT).as_posix() for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    return tomllib.loads(text("pyproject.toml"))["project"]


def anchors(path: Path) -> set[str]:
    """What a link to a heading of a page may end in, as GitHub and the site make it."""
    headings = _HEADING.findall(_FENCE.sub("", path.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def dead_links(name: str) -> list[str]:
    """Links of a page that lead to no file of the project, or to no heading of it."""
    dead = []
    for link in LINK.findall(_FENCE.sub("", text(name))):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        path = (ROOT / name).parent / file if file else ROOT / name
        if not path.exists() or (anchor and anchor not in anchors(path)):
            dead.append(link)
    return dead


def install_lines(name: str) -> set[str]:
    """The lines by which a page installs apmctl or PyTorch, without what is said beside them."""
    found = re.findall(r"pip install (?!--no-cache)(?=[^\n]*(?:torch|apmctl|\. |\.$))[^\n`#]*", text(name))
    return {line.rstrip() for line in found}
