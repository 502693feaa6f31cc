"""teachers, distill, relabel and eval: what they hand to the engine, and how they deliver what it gives."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from apmctl import results
from apmctl_core import jobs
from apmctl_core.artifacts.artifact import Artifact
from apmctl_core.config import Recipe
from apmctl_core.errors import DataError
from apmctl_core.events import Note, Progress
from apmctl_core.jobs import Outcome, Session, StageTime

from .conftest import Answer
from .samples import ROW, draft

Cli = Callable[..., Answer]


class Engine:
    """Stands for the pipeline: remembers what it was asked for, and gives an outcome."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.metrics: dict[str, Any] = {"images": 10.0, "peak_memory_bytes": 2.5e9, "loss": float("nan")}
        self.kind = "set"
        self.error: Exception | None = None
        self.reused = False

    def stage(self, name: str) -> Callable[..., Outcome]:
        """The pipeline's function of that name."""

        def run(session: Session, *arguments: Any, **options: Any) -> Outcome:
            self.calls.append((name, (session, *arguments), options))
            session.emit(Note(text="settings of a test"))
            session.emit(Progress(stage=name, done=1, total=2, unit="round"))
            if self.error:
                raise self.error
            artifact = Artifact(Path("/store/sets/x"), draft(self.kind))
            return Outcome(
                artifact=artifact,
                reused=self.reused,
                metrics=self.metrics,
                elapsed_s=61.0,
                peak_memory_bytes=10**9,
                stages=(
                    StageTime(name="teachers", seconds=0.0, reused=True, artifact="p@0"),
                    StageTime(name=name, seconds=61.0, artifact=artifact.ref),
                ),
            )

        return run


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    for name in ("train_pool", "distill_set", "relabel_set", "evaluate_set"):
        monkeypatch.setattr(jobs, name, engine.stage(name))
    return engine


@pytest.fixture
def measured(engine: Engine) -> Engine:
    engine.kind = "report"
    engine.metrics = {"set": "digits-ipc1@0123456789ab", "results": [ROW, replace(ROW, labels="hard")]}
    return engine


MAKERS = [
    (("teachers", "digits"), "train_pool"),
    (("distill", "digits", "--ipc", "1"), "distill_set"),
    (("relabel", "digits-ipc1"), "relabel_set"),
]


@pytest.mark.parametrize(("arguments", "stage"), MAKERS)
def test_what_is_made_as_json_and_quietly(cli: Cli, engine: Engine, arguments: tuple[str, ...], stage: str) -> None:
    answer = cli(*arguments, "--json")
    assert answer.code == 0
    document = answer.document
    fields = ["command", "artifact", "metrics", "elapsed_s", "peak_memory_bytes", "stages", "total_s", "verdict"]
    assert list(document) == fields
    assert document["verdict"] is None
    assert document["stages"][0] == {"name": "teachers", "seconds": 0.0, "reused": True, "artifact": "p@0"}
    assert document["total_s"] > 0
    assert document["command"] == arguments[0]
    assert document["artifact"] == {
        "kind": "set",
        "id": draft("set").id,
        "name": "digits-ipc1",
        "path": "/store/sets/x",
        "reused": False,
    }
    assert document["metrics"]["loss"] is None
    assert [call[0] for call in engine.calls] == [stage]
    assert answer.err.splitlines() == ["note: settings of a test", f"{stage}: 1/2 rounds (50%)"]
    assert cli(*arguments, "--quiet") == Answer(0, f"digits-ipc1@{draft('set').id}\n", "")


def test_people_read_what_was_made_and_what_it_took(cli: Cli, engine: Engine) -> None:
    text = cli("distill", "digits", "--ipc", "1").out
    assert text.splitlines()[0] == f"set digits-ipc1@{draft('set').id}"
    assert "preview" not in text
    for part in ("/store/sets/x", "images", "2.5 GB", "1:01 min", "peak memory 1.0 GB"):
        assert part in text
    assert engine.calls


def test_the_last_lines_have_the_whole_time_by_stage(cli: Cli, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results.time, "monotonic", lambda: 100.0 + 64.5 * len(engine.calls))
    lines = cli("distill", "digits", "--ipc", "1").out.splitlines()
    assert lines[-2] == "1:04 min (teachers reused, distill_set 1:01 min, other 3.5 s)"
    assert lines[-1] == "peak memory 1.0 GB"


def test_a_set_that_did_not_move_is_said_to_have_stayed(cli: Cli, engine: Engine) -> None:
    engine.metrics["distance_from_start"] = 0.0001
    verdict = cli("distill", "digits", "--ipc", "1", "--json").document["verdict"]
    assert verdict.startswith("the images did not move")
    assert "try more --rounds or a higher --image-lr" in verdict
    assert verdict not in cli("distill", "digits", "--ipc", "1").out  # a warning has said so
    engine.reused = True
    assert verdict in cli("distill", "digits", "--ipc", "1").out.splitlines()


def test_flags_reach_the_recipe(cli: Cli, engine: Engine) -> None:
    flags = ["--rounds", "3", "--teacher-count", "2", "--teacher-epochs", "4", "--width", "8", "--seed", "9"]
    cli("distill", "digits", "--ipc", "2", *flags, "--teachers", "my-pool", "--name", "mine")
    _, (_, recipe), options = engine.calls[0]
    assert isinstance(recipe, Recipe)
    assert (recipe.distill.ipc, recipe.distill.rounds, recipe.model.width, recipe.seed) == (2, 3, 8, 9)
    assert (recipe.teachers.count, recipe.teachers.epochs) == (2, 4)
    assert options == {"pool": "my-pool", "name": "mine"}


def test_the_machine_reaches_the_session_and_not_the_recipe(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    cli("distill", "digits", "--ipc", "1")
    machine = ["--segment", "7", "--no-compile", "--device", "cpu", "--no-wait", "--data", str(tmp_path)]
    cli("distill", "digits", "--ipc", "1", *machine, "--skip-broken", "--store", str(tmp_path / "here"))
    (_, (plain, recipe), _), (_, (session, same), _) = engine.calls
    assert recipe == same
    assert (plain.wait, plain.data_path, plain.runtime.segment.limit, plain.runtime.compile) == (True, None, 0, None)
    assert (session.wait, session.data_path, session.store.root) == (False, tmp_path, tmp_path / "here")
    assert (plain.skip_broken, session.skip_broken) == (False, True)
    assert (session.runtime.segment.limit, session.runtime.compile, session.runtime.device.type) == (7, False, "cpu")


@pytest.mark.parametrize("command", ["eval", "relabel"])
def test_where_the_test_images_of_a_set_lie_reaches_the_session_alone(cli: Cli, measured: Engine, command: str) -> None:
    cli(command, "x", "--test-split", "./mine")
    ((_, (session, *rest), _),) = measured.calls
    assert session.test_path == Path("mine")
    assert rest in (["x"], ["x", {}])
    cli("distill", "digits", "--ipc", "1", "--test-split", "./mine")
    _, (_, (session, recipe), _) = measured.calls
    assert (session.test_path, recipe.data.test_split) == (None, "./mine")


@pytest.mark.parametrize(
    ("flags", "limit", "budget"),
    [
        ([], None, None),
        (["--segment", "auto", "--memory-budget", "1.5GB"], None, 1_500_000_000),
        (["--segment", "0", "--memory-budget", "2 GiB"], 0, 2 << 30),
        (["--memory-budget", "800m"], None, 800_000_000),
    ],
)
def test_memory_is_bounded_by_what_is_asked_for_or_free(
    cli: Cli, engine: Engine, flags: list[str], limit: int | None, budget: int | None
) -> None:
    assert cli("distill", "digits", "--ipc", "1", *flags).code == 0
    runtime = engine.calls[0][1][0].runtime
    assert (runtime.limit, runtime.memory_budget) == (limit, budget)


@pytest.mark.parametrize(
    "flags",
    [
        *(["--segment", text] for text in ("-1", "many", "1.5", "", "٣", "9" * 5000, "1" + "0" * 19)),
        *(["--memory-budget", text] for text in ("0", "-1GB", "lots", "4XB", "5iB", "٤GB", "", "1e9", "9" * 40)),
    ],
)
def test_segments_and_budgets_that_make_no_sense_are_refused(cli: Cli, engine: Engine, flags: list[str]) -> None:
    answer = cli("distill", "digits", "--ipc", "1", *flags)
    assert answer.code == 2
    assert answer.err.startswith(f"error: {flags[0]} must be ")
    assert engine.calls == []


def test_errors_name_the_flag_of_the_command(cli: Cli, engine: Engine) -> None:
    assert cli("distill", "digits", "--teacher-batch", "0").err.startswith("error: --teacher-batch must be at least 1")
    assert cli("distill", "digits", "--batch", "-1").err.startswith("error: --batch must be at least 0")
    assert cli("teachers", "digits", "--batch", "0").err.startswith("error: --batch must be at least 1")
    assert engine.calls == []


def test_relabel_hands_over_pool_and_committee(cli: Cli, engine: Engine) -> None:
    cli("relabel", "a-set", "--teachers", "a-pool", "--committee", "single", "--name", "b")
    _, (_, ref), options = engine.calls[0]
    assert (ref, options) == ("a-set", {"pool": "a-pool", "committee": "single", "name": "b"})
    assert cli("relabel", "a-set", "--committee", "all").code == 2


def test_eval_hands_over_its_changes_alone(cli: Cli, measured: Engine) -> None:
    cli("eval", "a-set", "--arch", "convnet2", "--arch", "convnet3", "--repeats", "2", "--precision", "fp32")
    cli("eval", "a-set", "--seed", "0", "--width", "16")
    (_, (_, ref, changes), _), (_, (_, _, others), _) = measured.calls
    assert (ref, changes) == ("a-set", {"arch": ["convnet2", "convnet3"], "repeats": 2, "precision": "fp32"})
    assert others == {"seed": 0, "width": 16}


def test_eval_as_json_and_quietly(cli: Cli, measured: Engine) -> None:
    document = cli("eval", "a-set", "--json").document
    fields = ["command", "artifact", "results", "elapsed_s", "peak_memory_bytes", "stages", "total_s"]
    assert list(document) == fields
    assert list(document["artifact"]) == ["kind", "id", "name", "path", "reused", "set"]
    assert document["artifact"]["set"] == "digits-ipc1@0123456789ab"
    rows = [row.document() for row in measured.metrics["results"]]
    assert [{name: given[name] for name in row} for given, row in zip(document["results"], rows, strict=True)] == rows
    assert [row["verdict"] for row in document["results"]] == ["noise", "noise"]
    assert document["results"][0]["difference_low"] < 0 < document["results"][0]["difference_high"]
    assert cli("eval", "a-set", "--quiet") == Answer(0, "0.8412\n0.8412\n", "")


def test_eval_as_a_table_with_its_protocol(cli: Cli, measured: Engine) -> None:
    lines = cli("eval", "a-set").out.splitlines()
    (row,) = [line for line in lines if line.startswith("convnet3  soft")]
    assert row.split() == [
        "convnet3",
        "soft",
        "84.1",
        "[68.5,",
        "99.7]",
        "70.0",
        "[44.6,",
        "95.4]",
        "+14.1",
        "[-15.7,",
        "+44.0]",
    ]
    assert sum(line.startswith("protocol: networks 2, epochs 300") for line in lines) == 1
    assert measured.calls


def test_a_row_that_is_not_clearly_better_than_random_says_so(cli: Cli, measured: Engine) -> None:
    clear = replace(ROW, labels="hard", accuracies=(0.91, 0.912), random_accuracies=(0.5, 0.51))
    measured.metrics["results"] = [ROW, clear, replace(clear, accuracies=(0.31, 0.312))]
    lines = cli("eval", "a-set").out.splitlines()
    noise, below = [line for line in lines if " labels: " in line]
    assert noise.startswith(
        "convnet3, soft labels: within noise of random real images (difference -15.7 to +44.0 points"
    )
    assert noise.endswith("more networks (--repeats) tell more")
    assert below.startswith("convnet3, hard labels: worse than random real images (")
    assert lines.index(noise) < next(i for i, line in enumerate(lines) if line.startswith("protocol: "))


def test_what_differs_between_rows_stands_apart_in_the_protocol(cli: Cli, measured: Engine) -> None:
    losses = [("soft", "l1 on logits"), ("hard", "cross-entropy")]
    measured.metrics["results"] = [
        replace(ROW, labels=kind, protocol={"epochs": 3, "loss": loss}) for kind, loss in losses
    ]
    lines = cli("eval", "a-set").out.splitlines()
    assert "protocol: epochs 3" in lines
    assert "  loss: l1 on logits (convnet3 soft), cross-entropy (convnet3 hard)" in lines


def test_scores_are_columns(cli: Cli, measured: Engine) -> None:
    measured.metrics["results"] = [replace(ROW, scores={"hard_gain": 0.25}), ROW]
    lines = cli("eval", "a-set").out.splitlines()
    at = lines.index("scores, in fractions")
    assert lines[at + 1].split() == ["network", "labels", "hard", "gain"]
    assert [line.split()[-1] for line in lines[at + 2 : at + 4]] == ["0.25", "-"]


def test_eval_without_anything_to_compare_with(cli: Cli, measured: Engine) -> None:
    measured.metrics["results"] = [replace(ROW, random_accuracies=())]
    answer = cli("eval", "a-set")
    assert answer.code == 0
    (row,) = [line for line in answer.out.splitlines() if line.startswith("convnet3  soft")]
    assert row.split() == ["convnet3", "soft", "84.1", "[68.5,", "99.7]"]


def test_an_accuracy_below_the_threshold_is_exit_1_beside_the_result(cli: Cli, measured: Engine) -> None:
    for threshold in ("0.84", repr(ROW.accuracy_mean)):
        assert cli("eval", "a-set", "--min-accuracy", threshold).code == 0
    answer = cli("eval", "a-set", "--min-accuracy", "0.85", "--json")
    assert answer.code == 1
    assert [row["accuracies"] for row in answer.document["results"]] == [[0.8289, 0.8535]] * 2
    error, hint = answer.err.splitlines()[-2:]
    assert error.startswith("error: accuracy (convnet3, soft labels) is 0.8412, below --min-accuracy 0.85")
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("value", ["40", "-0.1", "nan"])
def test_a_threshold_that_is_no_fraction_is_refused(cli: Cli, measured: Engine, value: str) -> None:
    assert cli("eval", "a-set", "--min-accuracy", value).code == 2
    assert measured.calls == []


def test_an_error_of_the_engine_leaves_no_result(cli: Cli, engine: Engine) -> None:
    engine.error = DataError("no images", "give a folder with images")
    answer = cli("distill", "digits", "--ipc", "1")
    assert (answer.code, answer.out) == (4, "")
    assert answer.err.splitlines()[-2:] == ["error: no images", "hint: give a folder with images"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_mid_run_is_an_error_with_its_code(
    cli: Cli, engine: Engine, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    monkeypatch.setattr(jobs, "distill_set", lambda *_, **__: signal.raise_signal(number))
    answer = cli("distill", "digits", "--ipc", "1", "--json")
    assert answer.code == code
    assert answer.document["error"]["exit_code"] == code
    assert engine.calls == []


def test_a_device_that_is_not_available_is_wrong_usage(cli: Cli, engine: Engine, tmp_path: Path) -> None:
    answer = cli("distill", "digits", "--ipc", "1", "--device", "abacus")
    assert answer.code == 2
    assert "abacus" in answer.err.splitlines()[0]
    assert engine.calls == []
    assert not (tmp_path / "store").exists()


def test_a_dry_run_shows_the_plan_and_does_nothing(cli: Cli, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(
        session: Session, recipe: Recipe, command: str, *, pool: str | None = None, name: str | None = None
    ) -> jobs.Plan:
        assert (session.store.root.exists(), pool) == (False, "a-pool")
        steps = (
            jobs.PlanStep("teachers", "train 4", 60.0, 45.0, 100.0),
            jobs.PlanStep("distill", "10 images", 30.0, 20.0, 50.0),
        )
        advice = (
            jobs.Advice("gpu", "on a GPU (assumed)", 7.0),
            jobs.Advice("settings", "`distill.rounds 240`, `model.width 32`", 97 * 86_400.0),
        )
        return jobs.Plan(
            command=command,
            id=None,
            exists=False,
            recipe=recipe,
            steps=steps,
            memory_bytes=10**9,
            disk_bytes=10**8,
            segment=100,
            test_split="val/ (30 images)",
            busy=True,
            other_cores=1.3,
            advice=advice,
        )

    monkeypatch.setattr(jobs, "plan", plan)
    arguments = ("distill", "cifar100", "--ipc", "50", "--segment", "100", "--dry-run", "--teachers", "a-pool")
    document = cli(*arguments, "--json").document
    assert list(document) == [
        *("command", "dry_run", "id", "exists", "settings_from", "recipe", "steps", "seconds", "memory_bytes"),
        *("disk_bytes", "segment", "test_split", "seconds_low", "seconds_high", "busy", "other_cores", "advice"),
    ]
    assert (document["command"], document["dry_run"], document["id"]) == ("distill", True, None)
    assert document["steps"][0] == {
        **{"name": "teachers", "detail": "train 4"},
        **{"seconds": 60.0, "seconds_low": 45.0, "seconds_high": 100.0},
    }
    assert (document["seconds"], document["memory_bytes"]) == (90.0, 10**9)
    assert document["test_split"] == "val/ (30 images)"
    assert (document["seconds_low"], document["seconds_high"]) == (65.0, 150.0)
    assert (document["busy"], document["other_cores"]) == (True, 1.3)
    assert document["advice"][1] == {
        **{"kind": "settings", "what": "--rounds 240, --width 32", "seconds": 97 * 86_400.0}
    }
    assert document["recipe"]["distill"]["student"]["lr"] == 0.04
    assert [step["name"] for step in document["steps"]] == ["teachers", "distill"]
    text = cli(*arguments).out
    assert "test split: val/ (30 images)" in text.splitlines()
    for part in ("distill.student.lr", "0.04", "train 4", "45 s to 1.7 min", "65 s to 2.5 min and 1.0 GB"):
        assert part in text
    assert text.splitlines()[-3:] == [
        "others use 1.3 cores: the longer time is for a machine that stays so busy",
        "instead, on a GPU (assumed): about 7 s",
        "instead, --rounds 240, --width 32: about 97 days",
    ]
    assert cli(*arguments, "--quiet").out == ""
    assert engine.calls == []
