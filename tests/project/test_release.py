"""What surrounds the code: citation, workflows, scripts of a release, the container's recipe."""

from __future__ import annotations

import os
import re
import runpy
from typing import Any

import pytest
import yaml

from tests.command import ROOT

from .pages import install_lines, project, text

CPU_TORCH = "torch torchvision --index-url https://download.pytorch.org/whl/cpu"


def workflow(name: str) -> Any:
    return yaml.safe_load(text(f".github/workflows/{name}.yml"))


def steps(job: Any) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_the_citation_names_this_version_and_the_authors_of_both_papers() -> None:
    cff = yaml.safe_load(text("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= cff.keys()
    assert str(cff["version"]) == project()["version"]
    papers = {paper["url"][-10:]: [a["family-names"] for a in paper["authors"]] for paper in cff["references"]}
    assert papers == {
        "2312.08912": ["Chen", "Huang", "Lu", "Li", "Wang", "Cheng", "Wang"],
        "2310.06982": ["Chen", "Yang", "Wang", "Mirzasoleiman"],
    }
    for paper in cff["references"]:
        names = ", ".join(f"{a['given-names']} {a['family-names']}" for a in paper["authors"])
        assert names in text("README.md")
        assert paper["url"] in text("README.md")


def test_ci_runs_the_script_on_linux_and_macos_and_builds_the_site() -> None:
    jobs = workflow("ci")["jobs"]
    systems = {entry["os"].partition("-")[0] for entry in jobs["test"]["strategy"]["matrix"]["include"]}
    assert systems == {"ubuntu", "macos"}
    assert steps(jobs["test"]) == [".ci/run"]
    assert steps(jobs["site"]) == ["make site"]


def test_a_release_is_checked_before_it_is_published_without_a_token() -> None:
    document = workflow("release")
    build, publish = (document["jobs"][name] for name in ("build", "publish"))
    assert [step.split()[0] for step in steps(build)] == ["tools/check_release.py", "tools/check_wheel.sh"]
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"}
    assert "secrets." not in text(".github/workflows/release.yml")
    assert document[True]["push"]["tags"] == ["v*"]  # YAML 1.1 takes `on` for true


@pytest.mark.parametrize("script", [".ci/run", "tools/check_release.py", "tools/check_wheel.sh"])
def test_scripts_that_workflows_call_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


def test_the_wheel_is_used_where_the_tree_is_not() -> None:
    script = text("tools/check_wheel.sh")
    order = ["build --outdir dist", "twine check --strict", "install --quiet dist", 'cd "$work"', "apmctl doctor"]
    places = [script.index(part) for part in [*order, "apmctl distill digits"]]
    assert places == sorted(places)
    assert CPU_TORCH in script
    assert CPU_TORCH in text("Makefile")


@pytest.mark.parametrize(
    ("tag", "address", "says"),
    [
        ("v{version}", "{repository}", []),
        ("v0.0.9", "{repository}", ["the tag is v0.0.9"]),
        ("v{version}", "https://github.com/someone/else", ["this is https://github.com/someone/else"]),
    ],
)
def test_a_release_of_another_version_or_place_is_refused(tag: str, address: str, says: list[str]) -> None:
    problems = runpy.run_path(str(ROOT / "tools" / "check_release.py"))["problems"]
    names = {"version": project()["version"], "repository": project()["urls"]["Repository"]}
    found = problems(tag.format(**names), address.format(**names))
    assert [problem[: len(said)] for problem, said in zip(found, says, strict=True)] == says


def test_the_container_installs_as_the_readme_says() -> None:
    lines = [re.sub(r" --no-cache-dir", "", line) for line in re.findall(r"^RUN (pip .*)$", text("Dockerfile"), re.M)]
    assert lines == [f"pip install {CPU_TORCH}", "pip install ."]
    assert set(lines) <= install_lines("README.md")


def test_the_container_gets_what_the_build_reads_and_nothing_else() -> None:
    copied = {name for line in re.findall(r"^COPY (.*) \S+$", text("Dockerfile"), re.M) for name in line.split()}
    assert copied == {"pyproject.toml", "setup.py", "README.md", "LICENSE", "apmctl", "apmctl_core"}
    allowed = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    assert allowed == copied
