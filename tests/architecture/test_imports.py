"""The order of imports, and the words that stay out of the engine.

An import counts wherever it stands, in functions too. Imports for type checkers alone keep to the order but may close
a circle: none runs. `from package import name` counts as an import of `package.name` where that is a module, else of
the package.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("apmctl_core", "apmctl")
ROWS = (
    {"errors", "events", "version", "seeding", "registry", "intervals"},
    {"config"},
    {"storage", "machine", "network"},
    {"data", "values", "artifacts", "formats"},
    {"models", "training"},
    {"methods", "stages", "evaluation"},
    {"hub", "jobs"},
    {"api"},
)
SHELL = len(ROWS)  # the row of all of apmctl/, and of `apmctl_core/__init__.py`, which re-exports the API
WRITE_FOR_PEOPLE = {"apmctl_core.hub.card"}  # cards name commands
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
COMMAND = re.compile(r"\bapmctl [a-z]+")


@dataclass(frozen=True)
class Import:
    """A module that imports another, or something from outside."""

    source: str
    target: str
    typing: bool


@cache
def modules() -> dict[str, ast.Module]:
    trees = {}
    for path in (p for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        trees[name] = ast.parse(path.read_text(encoding="utf-8"))
    return trees


def nodes(tree: ast.AST, typing: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether only type checkers see it."""
    for child in ast.iter_child_nodes(tree):
        guarded = isinstance(tree, ast.If) and "TYPE_CHECKING" in ast.dump(tree.test) and child in tree.body
        yield child, typing or guarded
        yield from nodes(child, typing or guarded)


def targets(node: ast.AST, source: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{source} has a relative import"
        assert node.module is not None
        whole = (f"{node.module}.{alias.name}" for alias in node.names)
        yield from {name if name in modules() else node.module for name in whole}


@cache
def imports() -> frozenset[Import]:
    return frozenset(
        Import(source, target, typing)
        for source, tree in modules().items()
        for node, typing in nodes(tree)
        for target in targets(node, source)
    )


def inside(name: str) -> bool:
    return name.split(".")[0] in PACKAGES


def row(module: str) -> int:
    parts = module.split(".")
    if parts[0] == "apmctl":
        return SHELL
    if len(parts) == 1:
        return SHELL - 1
    return next(i for i, names in enumerate(ROWS) if parts[1] in names)


def closed(links: dict[str, set[str]]) -> set[frozenset[str]]:
    """The strongly connected components of more than one module, or of one that links to itself."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        rest = [*links.get(start, ())]
        while rest:
            name = rest.pop()
            if name not in seen:
                seen.add(name)
                rest += links.get(name, ())
        return seen

    far = {name: reached(name) for name in links}
    return {
        frozenset(other for other in far[name] if name in far.get(other, ())) for name in links if name in far[name]
    }


def test_every_module_has_a_row() -> None:
    names = {m.split(".")[1] for m in modules() if m.startswith("apmctl_core.")}
    assert names >= {"config", "jobs"}
    assert names - set().union(*ROWS) == set()


def test_imports_point_only_downwards() -> None:
    up = {(i.source, i.target) for i in imports() if inside(i.target) and row(i.target) > row(i.source)}
    assert up == set()


def test_no_circle_between_modules() -> None:
    links: dict[str, set[str]] = {}
    for i in imports():
        if inside(i.target) and not i.typing:
            links.setdefault(i.source, set()).add(i.target)
    assert closed(links) == set()


def test_the_engine_knows_neither_the_shell_nor_a_terminal() -> None:
    banned = {"apmctl", "rich", "typer", "click"}
    assert [i for i in imports() if i.source.startswith("apmctl_core") and i.target.split(".")[0] in banned] == []


def docstrings(tree: ast.Module) -> set[ast.AST]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {n.body[0].value for n in ast.walk(tree) if isinstance(n, kinds) and ast.get_docstring(n) is not None}  # type: ignore[union-attr]


def named(tree: ast.Module) -> set[str]:
    """Flags and commands in the strings of a module, docstrings aside: those are for who reads the code."""
    beside = docstrings(tree)
    strings = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and n not in beside)
    texts = (text.replace("pip install --upgrade", "") for text in strings if isinstance(text, str))
    return {word for text in texts for word in (*FLAG.findall(text), *COMMAND.findall(text))}


def test_the_engine_names_no_flag_and_no_command() -> None:
    engine = {name: tree for name, tree in modules().items() if name.startswith("apmctl_core")}
    assert engine.keys() >= WRITE_FOR_PEOPLE
    assert {name: words for name in engine.keys() - WRITE_FOR_PEOPLE if (words := named(engine[name]))} == {}


@pytest.mark.parametrize(
    ("links", "circles"),
    [
        ({"a": {"b"}, "b": {"c"}}, set()),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}, {frozenset("abc")}),
        ({"a": {"a"}}, {frozenset("a")}),
    ],
)
def test_a_circle_is_seen(links: dict[str, set[str]], circles: set[frozenset[str]]) -> None:
    assert closed(links) == circles


def test_a_lazy_import_a_flag_and_a_command_are_seen() -> None:
    code = """
if TYPE_CHECKING:
    import a
def f():
    "apmctl list, of a docstring"
    import b
    raise Error(f"--ipc {1}", "`apmctl list` shows")
"""
    tree = ast.parse(code)
    seen = {(t, typing) for node, typing in nodes(tree) for t in targets(node, "x")}
    assert seen == {("a", True), ("b", False)}
    assert named(tree) == {"--ipc", "apmctl list"}
