"""Tables, charts, turns and children: what every result page rests on."""

import argparse
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from chart import chart
from children import Worker, peak_bytes
from common import RESULTS, Table, in_turns, options, parse, report, spread

CHILD = """
import json, sys
sys.path.insert(0, {folder!r})
from children import Channel
values = json.loads(sys.argv[2])
channel = Channel()
print("this is not an answer")
held = []
def work():
    held.append(bytearray(values["size"]))
    held[-1][::4096] = b"x" * len(held[-1][::4096])
    if values.get("fails"):
        raise SystemExit(3)
    return {{"notes": ["said once"], "times": len(held)}}
channel.serve(work)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "child.py"
    path.write_text(CHILD.format(folder=str(RESULTS.parent)))
    return path


def test_a_child_answers_each_time_it_is_asked_and_its_notes_are_kept_once(script):
    with Worker(script, {"size": 10}) as worker:
        assert [worker.go()["times"] for _ in range(3)] == [1, 2, 3]
        assert worker.seconds() >= 0
    assert worker.notes == ["said once"]


def test_the_peak_of_a_child_follows_what_it_holds_not_what_its_parent_holds(script):
    held = bytearray(300_000_000)
    held[::4096] = b"x" * len(held[::4096])
    with Worker(script, {"size": 1}) as small, Worker(script, {"size": 100_000_000}) as large:
        difference = large.go()["peak"] - small.go()["peak"]
    assert peak_bytes() > 300_000_000
    assert difference == pytest.approx(100_000_000, rel=0.1)


def test_a_child_that_dies_is_an_error(script):
    with Worker(script, {"size": 1, "fails": True}) as worker, pytest.raises(RuntimeError, match="exit code 3"):
        worker.go()


def test_sides_take_turns():
    order = []
    sides = {name: (lambda name=name: order.append(name) or 1.0) for name in "ab"}
    assert in_turns(sides, 2) == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    assert order == ["a", "b", "a", "b"]


def test_a_median_stands_with_its_range():
    assert spread([0.3, 0.1, 0.2], 1e3, 0) == "200 (100 to 300)"


def test_a_table_is_markdown():
    lines = Table("Title", ("a", "b"), [("1", "long one")]).markdown().splitlines()
    assert lines == ["### Title", "", "| a   | b        |", "| --- | -------- |", "| 1   | long one |"]


def test_quick_settings_give_way_to_what_is_asked_for():
    def parser():
        made = options("A question?")
        made.add_argument("--size", type=int, default=100)
        return made

    assert parse(parser(), [], {"size": 1}).size == 100
    assert parse(parser(), ["--quick"], {"size": 1}).size == 1
    assert parse(parser(), ["--quick", "--size", "7"], {"size": 1}).size == 7
    assert parse(parser(), ["--quick"], {}).results is None
    assert parse(parser(), [], {}).results == RESULTS


def test_a_page_does_not_say_where_it_was_written(tmp_path):
    args = argparse.Namespace(
        argv=["--results", str(tmp_path), "--x", "1"], results=tmp_path, device="cpu", quick=False
    )
    path = report(args, "name", "Question?", [], ["a note"])
    text = path.read_text(encoding="utf-8")
    assert "`python benchmarks/name.py --x 1`" in text
    assert str(tmp_path) not in text
    assert text.startswith("# Question?")
    assert text.endswith("a note\n")


def test_a_chart_is_sound_svg_with_a_mark_for_each_value():
    root = ElementTree.fromstring(chart("a < b", "x", "y", ["1", "2"], {"one": [1, 2], "two": [0.5, 9]}))
    names = [element.tag.rsplit("}", 1)[1] for element in root.iter()]
    assert names.count("circle") == 4
    assert names.count("polyline") == 2
    heights = [float(e.get("cy")) for e in root.iter() if e.tag.endswith("circle")]
    assert heights[1] < heights[0]
    assert all(0 <= h <= 360 for h in heights)


def test_a_chart_refuses_a_line_with_a_value_too_few():
    with pytest.raises(ValueError, match="each place"):
        chart("t", "x", "y", ["1", "2"], {"one": [1]})


def test_a_script_is_run_by_its_path():
    script = Path(RESULTS.parent) / "startup.py"
    ran = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, cwd="/", check=True)
    assert "--quick" in ran.stdout
    assert "--worker" not in ran.stdout
