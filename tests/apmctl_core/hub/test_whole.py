"""The whole way by the command: distil, push, pull into an empty store, verify, evaluate; read by others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.command import COMMAND, Answer, Shell

from . import olah
from .conftest import ROOT, LocalHub, environment

REPO = "tester/digits"
TINY = """\
[model]
width = 8
[teachers]
count = 1
epochs = 2
[distill]
rounds = 3
checkpoints = 1
student.epochs = 5
[evaluate]
epochs = 5
repeats = 1
labels = ["soft"]
"""


@dataclass(frozen=True)
class Way:
    """One home with its store, and the Hub that its commands use."""

    home: Path
    url: str

    def run(self, *arguments: str, code: int = 0, **changes: str) -> Answer:
        env = environment(self.url, self.home, HF_TOKEN="hf_writer") | changes
        answer = Shell(self.home / "store", environment=env, folder=self.home)(*arguments)
        assert answer.code == code, answer.err
        assert "hf_writer" not in answer.out + answer.err
        return answer

    def json(self, *arguments: str, code: int = 0, **changes: str) -> Any:
        return self.run(*arguments, "--json", code=code, **changes).document

    def python(self, code: str) -> Any:
        env = environment(self.url, self.home, PYTHONPATH=str(ROOT))
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def author(_shared: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Way:
    home = tmp_path_factory.mktemp("author")
    (home / "tiny.toml").write_text(TINY)
    _shared.fail()
    return Way(home, _shared.url)


@pytest.fixture(scope="module")
def released(author: Way) -> Any:
    """The document of `distill --push`, from which all other tests begin."""
    return author.json("distill", "digits", "--ipc", "1", "--config", "tiny.toml", "--push", REPO)


@pytest.fixture
def reader(author: Way, released: Any, tmp_path: Path) -> Way:
    """Somebody else, with an empty store."""
    return Way(tmp_path, author.url)


@pytest.fixture(scope="module")
def mirror(_shared: LocalHub, released: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from olah.serve(_shared.root / "repos", tmp_path_factory.mktemp("olah"))


def content(document: Any) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in Path(document["artifact"]["path"]).iterdir()}


def test_distill_push_makes_measures_and_publishes(author: Way, released: Any, _shared: LocalHub) -> None:
    assert released["artifact"]["kind"] == "set"
    assert released["hub"]["repository"] == REPO
    assert 0 <= released["results"][0]["accuracy_mean"] <= 1
    text = _shared.repository(REPO).git("show", "main:README.md").decode()
    assert f"{100 * released['results'][0]['accuracy_mean']:.1f}" in text
    _shared.repository(REPO).git("fsck", "--strict")


def test_distill_push_again_does_nothing_again(author: Way, released: Any) -> None:
    again = author.json("distill", "digits", "--ipc", "1", "--config", "tiny.toml", "--push", REPO)
    assert again["artifact"]["reused"]
    assert again["hub"]["commit"] == released["hub"]["commit"]
    assert again["hub"]["uploaded"] == []


def test_distill_push_asks_for_credentials_before_it_works(author: Way, tmp_path: Path) -> None:
    way = Way(tmp_path, author.url)
    done = way.run("distill", "digits", "--ipc", "1", "--push", REPO, code=4, HF_TOKEN="")
    assert "token" in done.err.splitlines()[-2]
    assert not (tmp_path / "store" / "pools").exists()


def test_pulled_it_is_the_same_set_of_the_same_accuracy(reader: Way, released: Any) -> None:
    pulled = reader.json("pull", REPO)
    assert pulled["artifact"]["id"] == released["artifact"]["id"]
    assert pulled["commit"] == released["hub"]["commit"]
    assert content(pulled) == content(released)
    assert reader.json("verify", pulled["artifact"]["id"])["files"] == len(content(pulled)) - 1
    report = reader.json("eval", f"hf:{REPO}")
    assert report["results"] == released["results"]


def test_show_relabel_and_eval_take_a_reference(reader: Way, author: Way, released: Any) -> None:
    assert reader.json("show", f"hf:{REPO}@main")["artifact"]["id"] == released["artifact"]["id"]
    pool = author.json("list", "--kind", "pool")["artifacts"][0]["id"]
    author.run("push", pool, "tester/digits-pool")
    made = reader.json("relabel", f"hf:{REPO}", "--teachers", "hf:tester/digits-pool", "--committee", "mean")
    assert made["artifact"]["kind"] == "set"
    assert reader.json("list", "--kind", "pool")["artifacts"][0]["id"] == pool


def test_a_threshold_fails_the_pipeline(reader: Way) -> None:
    assert "below" in reader.run("eval", f"hf:{REPO}", "--min-accuracy", "1", code=1).err
    reader.run("eval", f"hf:{REPO}", "--min-accuracy", "0")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("pull", "tester/nothing"), 4),
        (("pull", f"{REPO}@v9"), 4),
        (("eval", "hf:tester/nothing"), 4),
        (("pull", "no-owner"), 2),
        (("pull", f"{REPO}@main", "--revision", "main"), 2),
        (("push", "nothing-here", REPO), 3),
    ],
)
def test_failures_have_one_line_a_hint_and_their_code(reader: Way, arguments: tuple[str, ...], code: int) -> None:
    lines = reader.run(*arguments, code=code).err.splitlines()
    assert [line.split(":")[0] for line in lines[-2:]] == ["error", "hint"]


def test_load_dataset_has_the_pictures(reader: Way, released: Any) -> None:
    found = reader.python(f"""
import json
from datasets import load_dataset
data = load_dataset("{REPO}", revision="{released["hub"]["commit"]}", split="train")
first = data[0]
print(json.dumps([len(data), data.features["label"].names, first["label"], list(first["image"].tobytes()),
                  first["image"].mode, first["logits"]]))
""")
    from apmctl_core.artifacts.artifact import open_artifact
    from apmctl_core.artifacts.kinds.sets import load_set
    from apmctl_core.formats.set_parquet import pixels

    values = load_set(open_artifact(Path(released["artifact"]["path"])))
    assert found[:3] == [10, [str(i) for i in range(10)], 0]
    assert found[3] == pixels(values.images[:1], values.preprocessing).flatten().tolist()
    assert found[4] == "L"
    assert found[5] == values.logits[0].tolist()
    assert preview_tile(Path(released["artifact"]["path"]) / "preview.png") == found[3]


def preview_tile(path: Path) -> list[int]:
    """The pixels of the first tile of a preview of 8x8 images, each of which is enlarged eight times."""
    import numpy as np
    from PIL import Image

    sheet = np.asarray(Image.open(path).convert("L"))
    left = sheet.shape[1] - (64 + 2)  # one column of tiles of 64, with a gap on each side
    return [int(v) for v in sheet[2 : 2 + 64 : 8, left : left + 64 : 8].reshape(-1)]


def test_every_example_of_the_card_runs(reader: Way, _shared: LocalHub) -> None:
    text = _shared.repository(REPO).git("show", "main:README.md").decode()
    blocks = [part.split("\n```")[0] for part in text.split("```python\n")[1:]]
    assert len(blocks) == 3
    code = "\n".join(blocks)
    check = """
import json, torch
road = apmctl_core.load("hf:tester/digits")
test = torch.arange(64).reshape(1, 1, 8, 8).to(torch.uint8)
assert torch.allclose(preprocess(test), road.preprocess(test), atol=1e-6)
print(json.dumps([torch.equal(images, road.images), torch.equal(logits, road.logits), len(data)]))
"""
    assert reader.python(code + check) == [True, True, 10]


def test_the_example_of_the_docs_trains_and_tests_a_network(reader: Way) -> None:
    text = (ROOT / "docs" / "hub.md").read_text()
    code = text.split("<!-- tested -->\n```python\n")[1].split("\n```")[0].replace("owner/digits-ipc10", REPO)
    printed = reader.python(code + "\nimport json; print(json.dumps(accuracy))")
    assert 0 <= printed <= 1


def test_the_shell_example_of_the_docs_runs(reader: Way) -> None:
    text = (ROOT / "docs" / "ci.md").read_text()
    script = text.split("<!-- tested -->\n```sh\n")[1].split("\n```")[0].replace("owner/digits-ipc10", REPO)
    env = environment(reader.url, reader.home, PATH=f"{COMMAND.parent}:{os.environ['PATH']}", MIN_ACCURACY="0")

    def run(**changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", script],
            env=env | changes,
            cwd=reader.home,  # it writes its report where it is
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    done = run()
    assert done.returncode == 0, done.stderr
    assert run(MIN_ACCURACY="1").returncode == 1


# --- read by olah --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_olah_gives_the_same_set(mirror: str, released: Any, tmp_path: Path) -> None:
    way = Way(tmp_path, mirror)
    pulled = way.json("pull", REPO, "--revision", released["hub"]["commit"])
    assert pulled["artifact"]["id"] == released["artifact"]["id"]
    assert content(pulled) == content(released)
    assert way.json("verify", released["artifact"]["id"])["bytes"] > 0
    assert way.json("eval", released["artifact"]["id"])["results"] == released["results"]


@pytest.mark.slow
def test_olah_gives_the_pictures_to_load_dataset(mirror: str, released: Any, tmp_path: Path) -> None:
    found = Way(tmp_path, mirror).python(f"""
import json
from datasets import load_dataset
data = load_dataset("{REPO}", revision="{released["hub"]["commit"]}", split="train")
print(json.dumps([len(data), list(data[9]["image"].tobytes())]))
""")
    from apmctl_core.artifacts.artifact import open_artifact
    from apmctl_core.artifacts.kinds.sets import load_set
    from apmctl_core.formats.set_parquet import pixels

    values = load_set(open_artifact(Path(released["artifact"]["path"])))
    assert found == [10, pixels(values.images[9:], values.preprocessing).flatten().tolist()]
