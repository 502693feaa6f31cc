"""The configuration of a run: its fields, recipes, presets and the published table."""

from __future__ import annotations

from apmctl_core.config.recipe import (
    SCHEMA_VERSION,
    DataConfig,
    DistillConfig,
    EvalConfig,
    ModelConfig,
    Recipe,
    TeacherConfig,
    canonical_json,
    digest,
    flag_of,
    from_dict,
    read_toml,
    to_dict,
)

__all__ = [
    "SCHEMA_VERSION",
    "DataConfig",
    "DistillConfig",
    "EvalConfig",
    "ModelConfig",
    "Recipe",
    "TeacherConfig",
    "canonical_json",
    "digest",
    "flag_of",
    "from_dict",
    "read_toml",
    "to_dict",
]
