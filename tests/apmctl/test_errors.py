"""The table of exit codes, and how errors are told."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable

import pytest

from apmctl import cli, output
from apmctl import errors as shell
from apmctl.cli import app
from apmctl_core import errors as core

from .conftest import Answer


def _subclasses(kind: type) -> set[type]:
    return {kind}.union(*(_subclasses(each) for each in kind.__subclasses__()))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (core.ConfigError("x"), 2),
        (core.DeviceError("x"), 2),
        (core.ArtifactError("x"), 3),
        (core.MismatchError("x"), 3),
        (core.DataError("x"), 4),
        (core.NetworkError("x"), 4),
        (core.StoreError("x"), 1),
        (core.NumericsError("x"), 1),
        (core.MemoryExhaustedError("x"), 1),
        (core.ApmError("x"), 1),
        (core.Interrupted("x", signal=2), 130),
        (core.Interrupted("x", signal=15), 143),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (MemoryError("tried"), 1),
    ],
)
def test_each_error_has_the_exit_code_of_the_design(error: BaseException, code: int) -> None:
    failure = shell.describe(error)
    assert failure is not None
    assert failure.exit_code == code


def test_every_error_of_the_engine_is_in_the_table() -> None:
    ours = {k for k in _subclasses(core.ApmError) if k.__module__ == core.__name__} - {core.ApmError, core.Interrupted}
    deciding = {kind: next(k for k, _ in shell.EXIT_CODES if issubclass(kind, k)) for kind in ours}
    assert len(ours) >= 8
    assert core.ApmError not in deciding.values()


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), OSError(errno.EBADF, "x"), RuntimeError("x")])
def test_what_nobody_foresaw_is_not_described(error: Exception) -> None:
    assert shell.describe(error) is None


def test_message_and_hint_are_one_line_each() -> None:
    failure = shell.describe(core.DataError("first\nsecond\r\n  third", "do\nthis"))
    assert failure is not None
    assert (failure.message, failure.hint) == ("first second third", "do this")


def test_an_error_without_words_is_told_by_its_type() -> None:
    failure = shell.describe(core.StoreError(""))
    assert failure is not None
    assert failure.message == "StoreError"


def test_a_foreseen_error_is_two_lines_on_stderr_and_nothing_on_stdout(cli: Callable[..., Answer]) -> None:
    answer = cli("presets", "cifar10-ipc51")
    assert answer.code == 2
    assert answer.out == ""
    lines = answer.err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "hint"]
    assert "cifar10-ipc51" in lines[0]
    assert "cifar10-ipc50" in lines[1]


def test_with_json_the_error_is_the_one_document_on_stdout(cli: Callable[..., Answer]) -> None:
    answer = cli("presets", "nothing-like-it", "--json")
    assert answer.code == 2
    assert answer.document["error"]["type"] == "ConfigError"
    assert answer.document["error"]["exit_code"] == 2
    assert "error: " in answer.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("distil", "digits"),
        ("distill", "digits", "--no-such-flag"),
        ("distill", "digits", "--ipc", "many"),
        ("distill", "digits", "--ipc"),
        ("eval",),
        ("distill", "digits", "cifar10"),
    ],
)
def test_wrong_usage_is_exit_2_with_one_line_and_a_hint(cli: Callable[..., Answer], arguments: tuple[str, ...]) -> None:
    answer = cli(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert [line.split(":")[0] for line in answer.err.splitlines()] == ["error", "hint"]
    assert "--help" in answer.err


def test_wrong_usage_with_json_is_a_document_too(cli: Callable[..., Answer]) -> None:
    answer = cli("distill", "digits", "--no-such-flag", "--json")
    assert answer.document["error"]["type"] == "UsageError"
    assert "--no-such-flag" in answer.document["error"]["message"]


@pytest.mark.parametrize("flags", [("--ipc", "0"), ("--alpha", "-1"), ("--alpha", "nan"), ("--objective", "cubic")])
def test_a_value_out_of_bounds_is_refused_by_its_flag(cli: Callable[..., Answer], flags: tuple[str, str]) -> None:
    answer = cli("distill", "digits", *flags)
    assert answer.code == 2
    assert flags[0] in answer.err.splitlines()[0]


@pytest.mark.parametrize(
    ("command", "paths"),
    [
        ("teachers", "data.resolution data.preprocessing model.arch model.width teachers.seed precision"),
        (
            "teachers",
            "teachers.count teachers.epochs teachers.lr teachers.momentum teachers.weight_decay teachers.batch",
        ),
        ("distill", "data.resolution data.preprocessing model.arch model.width seed precision"),
        ("distill", "distill.method distill.ipc distill.rounds distill.batch distill.image_lr distill.image_momentum"),
        ("distill", "distill.image_decay distill.init distill.augment_images distill.committee distill.checkpoints"),
        ("distill", "distill.refresh_every distill.alpha distill.objective"),
        ("relabel", "distill.committee"),
        ("eval", "evaluate.protocol evaluate.repeats evaluate.labels evaluate.arch evaluate.epochs evaluate.lr"),
        ("eval", "evaluate.momentum evaluate.weight_decay evaluate.batch model.width seed precision"),
        (
            "compare",
            "evaluate.protocol evaluate.repeats evaluate.labels evaluate.epochs evaluate.baseline seed precision",
        ),
        ("push", "store device compile segment memory_budget name revision tag private license create_pr"),
    ],
)
def test_a_path_is_the_flag_of_its_name(command: str, paths: str) -> None:
    for path in paths.split():
        flag = "--" + path.rpartition(".")[2].replace("_", "-")
        assert shell.translate(f"`{path}` is wrong", command) == f"{flag} is wrong"


@pytest.mark.parametrize("name", ["epochs", "lr", "momentum", "weight_decay", "batch"])
def test_teachers_and_students_of_distill_have_prefixes(name: str) -> None:
    flag = name.replace("_", "-")
    assert shell.translate(f"`teachers.{name}`", "distill") == f"--teacher-{flag}"
    assert shell.translate(f"`distill.student.{name}`", "distill") == f"--student-{flag}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("`teachers.count`", "--teacher-count"),
        ("`data_path`", "--data"),
        ("`pool`", "--teachers"),
        ("`model.arch convnet3`", "--arch convnet3"),
        ("`evaluate.lr` and `data.dataset` have no flag here", "`evaluate.lr` and `data.dataset` have no flag here"),
        ("`pip install x` and `none` stay", "`pip install x` and `none` stay"),
        ("`presets NAME` prints one", "`apmctl presets NAME` prints one"),
    ],
)
def test_what_stands_in_backquotes_is_told_in_the_words_of_distill(text: str, told: str) -> None:
    assert shell.translate(text, "distill") == told


@pytest.mark.parametrize("command", ["teachers", "distill", "eval", "compare", "relabel"])
def test_where_test_images_lie_is_an_option_of_all_that_read_them(cli: Callable[..., Answer], command: str) -> None:
    assert shell.translate("`data.test_split ./mine`", command) == "--test-split ./mine"
    assert "--test-split" in cli(command, "--help").out


def test_every_action_is_a_command() -> None:
    actions = "list show verify rm teachers distill relabel eval compare push pull presets doctor gc"
    for action in actions.split():
        assert action in {command.name for command in app.registered_commands}
        assert shell.translate(f"`{action}` it", "eval") == f"`apmctl {action}` it"


def test_every_session_setting_is_a_flag_of_some_command(cli: Callable[..., Answer]) -> None:
    pages = "".join(cli(*command).out for command in (("distill", "--help-all"), ("push", "--help")))
    settings = "store data_path device compile segment memory_budget name pool tag license create_pr"
    for setting in settings.split():
        assert shell.translate(f"`{setting}`", "") in pages


def test_a_note_names_the_flags_of_the_command_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = []
    monkeypatch.setattr(cli, "app", lambda **_: notes.append(output.labelled("lower `distill.student.lr`", "warning")))
    cli.run(["distill", "digits"])
    assert notes == ["warning: lower --student-lr"]


def test_message_and_hint_of_an_error_are_translated_for_the_command() -> None:
    failure = shell.describe(core.ConfigError("`teachers.lr` is high", "see `show`"), "teachers")
    assert failure is not None
    assert (failure.message, failure.hint) == ("--lr is high", "see `apmctl show`")


def test_an_unforeseen_error_keeps_its_traceback(cli: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    from apmctl_core.config import presets

    def broken(name: str) -> None:
        raise ZeroDivisionError(name)

    monkeypatch.setattr(presets, "preset", broken)
    with pytest.raises(ZeroDivisionError):
        cli("presets", "digits-ipc1")


def test_an_interruption_leaves_with_the_number_of_its_signal(
    cli: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    from apmctl_core.config import presets

    monkeypatch.setattr(presets, "preset", lambda _: signal.raise_signal(signal.SIGTERM))
    answer = cli("presets", "digits-ipc1")
    assert answer.code == 143
    assert "SIGTERM" in answer.err


def test_the_documents_of_errors_are_json_whatever_they_say() -> None:
    failure = shell.describe(core.ArtifactError("a\x1b[31mname\ud800", "hint"))
    assert failure is not None
    assert json.loads(json.dumps(failure.document()))["error"]["exit_code"] == 3
