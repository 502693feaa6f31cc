"""The configuration of a run: its fields, recipes, presets and the published table."""

from apmctl_core.config.identity import SCHEMA_VERSION, canonical_json, digest, subtree
from apmctl_core.config.recipe import (
    METHODS,
    ApmConfig,
    DataConfig,
    DistillConfig,
    EvalConfig,
    ModelConfig,
    Recipe,
    TeacherConfig,
    TrainConfig,
    method_config,
)
from apmctl_core.config.schema import Config, Field, from_dict, read_toml, to_dict

__all__ = [
    "METHODS",
    "SCHEMA_VERSION",
    "ApmConfig",
    "Config",
    "DataConfig",
    "DistillConfig",
    "EvalConfig",
    "Field",
    "ModelConfig",
    "Recipe",
    "TeacherConfig",
    "TrainConfig",
    "canonical_json",
    "digest",
    "from_dict",
    "method_config",
    "read_toml",
    "subtree",
    "to_dict",
]
