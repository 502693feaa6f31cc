"""Every mistake gets its exit code, one line and a hint, and leaves nothing behind in the store."""

import json
import shutil
from pathlib import Path

import pytest

import apmctl_core
from apmctl_core.errors import ArtifactError
from tests.command import Shell
from tests.e2e.conftest import MODEL, TINY


def check_refusal(shell, code, *arguments, says=""):
    before = shell.artifacts()
    answer = shell(*arguments)
    assert answer.code == code, answer.err
    lines = [line for line in answer.err.splitlines() if line.startswith(("error:", "hint:"))]
    assert [line.split(":")[0] for line in lines] == ["error", "hint"], answer.err
    assert says in lines[0]
    assert "Traceback" not in answer.err
    assert answer.out == ""
    assert shell.artifacts() == before
    return answer


def test_an_unknown_data_set(shell):
    answer = check_refusal(shell, 4, "distill", "cifar11", "--ipc", "1", says="cifar11")
    assert "cifar10" in answer.err


def test_a_folder_without_images(shell, tmp_path):
    (tmp_path / "empty").mkdir()
    check_refusal(shell, 4, "distill", tmp_path / "empty", "--ipc", "1", says="empty")


def test_a_class_with_fewer_images_than_the_ipc_asks(shell):
    check_refusal(shell, 4, "distill", "digits", *TINY, "--ipc", "200", says="200")


@pytest.mark.parametrize("name", ["../x", "", "a b", ".hidden", "x" * 101, "set\n"])
def test_a_name_that_no_artifact_may_have(shell, name):
    check_refusal(shell, 2, "distill", "digits", *TINY, "--name", name, says="--name cannot be")


def test_a_budget_that_holds_no_process(shell):
    check_refusal(shell, 2, "distill", "digits", *TINY, "--memory-budget", "1MB", says="GB are needed")


def test_a_url_is_not_repeated(shell):
    answer = check_refusal(shell, 3, "show", "https://user:hf_secret@example.org/owner/name", says="URL")
    assert "hf_secret" not in answer.err


@pytest.mark.parametrize("flag", ["--rounds", "--batch", "--teacher-batch", "--student-epochs"])
def test_counts_beyond_all_reason(shell, flag):
    check_refusal(shell, 2, "distill", "digits", flag, "1" + "0" * 22, says=flag)


def test_ipc_zero(shell):
    check_refusal(shell, 2, "distill", "digits", "--ipc", "0", says="--ipc")


def test_an_unknown_flag(shell):
    check_refusal(shell, 2, "distill", "digits", "--wat", says="--wat")


def test_a_file_with_an_unknown_field(shell, tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text("[distill]\nroundz = 5\n")
    check_refusal(shell, 2, "distill", "digits", "--config", file, says="distill.roundz")


def test_a_device_that_is_not_there(shell):
    check_refusal(shell, 2, "distill", "digits", "--device", "cuda:7", says="cuda:7")


def test_images_too_small_for_the_network(shell):
    check_refusal(shell, 2, "distill", "digits", "--ipc", "1", "--depth", "5", says="convnet5")


@pytest.mark.parametrize(
    ("what", "flags"),
    [
        ("network", ["--width", "16"]),
        ("preprocessing", ["--preprocessing", "zca"]),
    ],
)
def test_a_pool_of_another_network_or_preprocessing(made, what, flags):
    shell, first = made
    pool = json.loads((Path(first["artifact"]["path"]) / "manifest.json").read_text())["inputs"]["pool"]
    check_refusal(shell, 3, "distill", "digits", *TINY, *flags, "--teachers", pool, says="pool")


def test_a_pool_of_other_data(made, tmp_path):
    image = pytest.importorskip("PIL.Image")
    shell, first = made
    for name in ("a", "b"):
        (tmp_path / "other" / name).mkdir(parents=True)
        for i in range(10):
            image.new("L", (8, 8), 20 * i).save(tmp_path / "other" / name / f"{i}.png")
    pool = json.loads((Path(first["artifact"]["path"]) / "manifest.json").read_text())["inputs"]["pool"]
    check_refusal(shell, 3, "distill", tmp_path / "other", *TINY, "--teachers", pool, says="other data")


def test_an_artifact_that_is_not_there(shell):
    check_refusal(shell, 3, "eval", "nothing", says="nothing")
    check_refusal(shell, 3, "show", "deadbeef", says="deadbeef")


def test_a_set_from_a_newer_schema(made, tmp_path):
    _, first = made
    folder = tmp_path / "newer"
    shutil.copytree(first["artifact"]["path"], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema": 99}))
    check_refusal(Shell(tmp_path / "store"), 3, "eval", folder, says="99")


def test_a_set_with_one_flipped_bit(made, tmp_path):
    """Whatever computes on an artifact sees what `verify` sees."""
    shell, first = made
    store = Shell(tmp_path / "store")
    shutil.copytree(shell.store, store.store)
    path = next(store.store.glob("sets/*/*/set.safetensors"))
    data = bytearray(path.read_bytes())
    data[-100] ^= 1  # the low bits of a value
    path.write_bytes(data)
    for command in (["verify"], ["eval", "--epochs", "1"], ["relabel", "--committee", "single"]):
        check_refusal(store, 3, command[0], first["artifact"]["id"], *command[1:], says="sha256 differs")
    with pytest.raises(ArtifactError, match="sha256 differs"):
        apmctl_core.load(path.parent)


def test_a_pool_with_one_flipped_bit(made, tmp_path):
    shell, _ = made
    store = Shell(tmp_path / "store")
    shutil.copytree(shell.store, store.store)
    for path in store.store.glob("pools/*/*/teacher-*.safetensors"):
        data = bytearray(path.read_bytes())
        data[-100] ^= 1
        path.write_bytes(data)
    check_refusal(store, 3, "distill", "digits", *TINY, "--seed", "5", says="sha256 differs")


def test_a_store_that_is_no_folder(tmp_path):
    (tmp_path / "store").write_text("not a folder")
    answer = Shell(tmp_path / "store")("distill", "digits", *TINY)
    assert answer.code == 1
    assert "store" in answer.err
    assert "hint:" in answer.err
    assert "Traceback" not in answer.err


def test_an_error_with_json_is_one_document(shell):
    answer = shell("distill", "cifar11", "--json")
    assert answer.code == 4
    assert answer.document["error"]["exit_code"] == 4
    assert answer.document["error"]["hint"]


def test_wrong_values_of_a_retold_command_line_do_not_train_teachers_first(shell):
    check_refusal(shell, 4, "distill", "digits", *TINY, "--ipc", "160", says="160")
    assert shell("list", "--json").document["artifacts"] == []


def test_quiet_prints_the_reference_alone(made):
    shell, first = made
    answer = shell("distill", "digits", *TINY, "--quiet")
    assert answer.out.strip() == f"{first['artifact']['name']}@{first['artifact']['id']}"
    assert answer.err == ""


def test_settings_of_a_model_reach_the_pool(made):
    shell, _ = made
    pools = [a for a in shell.json("list")["artifacts"] if a["kind"] == "pool"]
    assert any("convnet2-w8" in pool["name"] for pool in pools)
    assert MODEL[1] == "convnet2"
