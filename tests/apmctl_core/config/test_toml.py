"""The line of a configuration file where a field is set."""

from __future__ import annotations

import pytest

from apmctl_core.config.toml import line_of

TEXT = """\
# a comment with seed = 1
seed = 5

[distill]  # rounds = 7
alpha = 1.0
rounds = [
  1,
  # epochs = 3
  2,
]
student.lr = 0.1
"student"."dsa" = "image"

[distill.nested]
text = '''
batch = 3
'''
batch = 4

[model]
inner = {width = 3, deep = {arch = "x"}}
"""


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("seed", 2),
        ("distill", 4),
        ("distill.alpha", 5),
        ("distill.rounds", 6),
        ("distill.student.lr", 11),
        ("distill.student.dsa", 12),
        ("distill.nested.batch", 18),
        ("model.inner.deep.arch", 21),
        ("distill.epochs", None),
        ("seed.more", None),
        ("nothing", None),
    ],
)
def test_a_field_is_found_however_it_is_written(field: str, line: int | None) -> None:
    assert line_of(TEXT, field) == line
