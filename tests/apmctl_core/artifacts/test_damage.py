"""Artifacts damaged at random: every one is refused with one clear error, or it is shown to be harmless.

`python -m tests.campaigns.damage` is the long form.
"""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apmctl_core.artifacts import Artifact, Store, manifest, open_artifact
from apmctl_core.artifacts.kinds.sets import load_set
from apmctl_core.errors import ArtifactError
from apmctl_core.models import state_shapes
from tests.apmctl_core.artifacts.artifact_samples import put_pool, put_report, put_set, teacher_shapes
from tests.campaigns.damage import COVERED, JSON, Campaign, make
from tests.drafts import restate, sealed


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Artifact]]:
    store = Store(tmp_path_factory.mktemp("damage"))
    makers = {"set": put_set, "pool": put_pool, "report": put_report}
    return {kind: [put(store, f"{kind}{i}", i) for i in (1, 2)] for kind, put in makers.items()}


def test_every_damaged_artifact_is_refused_or_harmless(originals: dict[str, list[Artifact]], tmp_path: Path) -> None:
    campaign = Campaign(originals, teacher_shapes, tmp_path)
    assert campaign.fuzz(240)["refused"] > 24
    assert campaign.by_hypothesis(60)["refused"] > 6
    assert campaign.large(1)["bytes"] > 1 << 25
    assert campaign.through_the_command(3, installed=False)["3"] > 0
    campaign.check_originals()


@pytest.mark.slow
def test_ten_thousand_damaged_artifacts(tmp_path: Path) -> None:
    campaign = Campaign(make(tmp_path / "store"), state_shapes, tmp_path)
    campaign.fuzz(8000)
    campaign.by_hypothesis(4000)
    campaign.large(40)
    campaign.through_the_command(50)
    campaign.check_originals()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_any_bytes_as_a_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError):
        manifest.loads(data, "it")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(sorted(COVERED | {"name", "data"})), value=JSON)
def test_any_value_in_a_field_is_refused_unless_it_is_right(
    originals: dict[str, list[Artifact]], field: str, value: Any
) -> None:
    path = originals["set"][0].path / "manifest.json"
    original = json.loads(path.read_bytes())
    values = original | {field: value}
    try:
        found = manifest.loads(json.dumps(sealed(values)).encode(), "it")
    except ArtifactError:
        return
    assert field == "name" or original[field] == value
    assert manifest.is_name(found.name)


def test_no_more_is_allocated_than_twice_the_artifact(tmp_path: Path) -> None:
    """Header and manifest claim much; the files hold little."""
    store = Store(tmp_path / "store")
    made = put_set(store)
    path = made.path / "set.safetensors"
    claim = {"images": {"dtype": "F32", "shape": [2**30, 1, 4, 4], "data_offsets": [0, 2**36]}}
    text = json.dumps(claim).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    restate(made.path)
    tracemalloc.start()
    with pytest.raises(ArtifactError):
        load_set(open_artifact(made.path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
