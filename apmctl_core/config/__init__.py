"""The configuration of a run: its fields, recipes, presets and the published table."""

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
from apmctl_core.config.schema import (
    SCHEMA_VERSION,
    Config,
    Field,
    digest,
    flat,
    from_dict,
    sha256,
    subtree,
    to_dict,
)
from apmctl_core.config.toml import read_toml

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
    "digest",
    "flat",
    "from_dict",
    "method_config",
    "read_toml",
    "sha256",
    "subtree",
    "to_dict",
]
