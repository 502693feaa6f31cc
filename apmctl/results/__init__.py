"""Results of commands: dataclasses whose fields are the JSON document, with the forms that people read.

Fields may be added; none is taken away or changes its meaning without a note in the changelog (docs/scripting.md).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Self


@dataclasses.dataclass(frozen=True, kw_only=True)
class Document:
    """A JSON object, made from a value of the engine."""

    @classmethod
    def of(cls, source: object, **more: Any) -> Self:
        """The fields in `more`, and the others from the attributes of `source`, or else by their defaults."""
        names = [f.name for f in dataclasses.fields(cls) if f.name not in more and hasattr(source, f.name)]
        return cls(**{name: getattr(source, name) for name in names}, **more)
