"""How the site is made of these pages; `make site` builds it."""

import os
import re
import tomllib
from pathlib import Path

_DOCS = Path(__file__).resolve().parent
_ROOT = _DOCS.parent
_FROM_ROOT = {"index": "README.md", "changelog": "CHANGELOG.md"}
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
_project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project, version = _project["name"], _project["version"]
html_title = f"{project} {version}"
html_theme = "furo"
html_theme_options = {"source_repository": _project["urls"]["Repository"], "source_directory": "docs/"}
html_copy_source = False
extensions = ["myst_parser"]
myst_heading_anchors = 3
nitpicky = True


def _linked(text, folder):
    """Text whose links to files outside of docs/ lead to the repository. Dead links stay: the build fails on them."""

    def target(link):
        path = (folder / link[0]).resolve()
        if path.is_relative_to(_DOCS) or not path.exists():
            return os.path.relpath(path, _DOCS)
        return f"{_project['urls']['Repository']}/blob/v{version}/{path.relative_to(_ROOT)}"

    return _LINK.sub(target, text)


def _read(app, page, source):
    page_text = _linked(source[0], _DOCS)
    name = _FROM_ROOT.get(page)
    source[0] = page_text if name is None else _linked((_ROOT / name).read_text(encoding="utf-8"), _ROOT) + page_text


def setup(app):
    """Sphinx calls this."""
    app.connect("source-read", _read)
