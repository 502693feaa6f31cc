"""Whether files that go by the name of a known data set are that set, and all of it."""

from __future__ import annotations

from collections.abc import Sequence

from apmctl_core.data.labels import Assembled
from apmctl_core.data.source import DatasetSpec, Listing, are_numbers
from apmctl_core.data.splits import Asked, Place
from apmctl_core.errors import DataError
from apmctl_core.events import Emit, Note

_LISTED = 3  # classes that an error names


def require_known(spec: DatasetSpec | None, place: Place, classes: tuple[str, ...]) -> None:
    """Raise DataError where files under a known name have other classes: the name decides settings and comparisons."""
    if spec is None or not isinstance(place, Listing) or spec.has(classes):
        return
    found = f"{place.root} has {_listed(len(classes), classes)}"
    raise DataError(
        f"{found}; {spec.name} has {_listed(spec.num_classes, spec.classes)}",
        _other(place),
    )


def require_size(spec: DatasetSpec | None, place: Place, data: Assembled) -> None:
    """Raise DataError where files whose classes have no names have images of another size than a known set's."""
    if spec is None or spec.photographs or not isinstance(place, Listing) or not are_numbers(data.classes):
        return
    from apmctl_core.data.decode import Undecodable, look

    try:
        _, height, width = look(next(iter(data.rows.batches())))
    except Undecodable:  # decoding says more
        return
    if (height, width) != spec.shape[1:]:
        own = f"{spec.name}'s are {spec.shape[2]}x{spec.shape[1]}"
        raise DataError(f"the images in {place.root} are {width}x{height}; {own}", _other(place))


def compare(spec: DatasetSpec | None, wanted: Asked, data: Assembled, emit: Emit) -> None:
    """Say where a known set is not the full one: numbers on a part do not compare with published ones."""
    if spec is None:
        return
    full, counts = (spec.num_classes, spec.train, spec.test), (len(data.classes), *data.counts)
    as_asked = wanted.name and sum(counts[1:]) in (spec.train, spec.train + spec.test)
    if counts != full and not (as_asked and counts[0] == full[0]):
        text = "{:,} classes, {:,} training and {:,} test images"
        note = f"this copy of {spec.name} has {text.format(*counts)}; the full set has {text.format(*full)}"
        emit(Note(text=note, level="warning"))


def _other(place: Listing) -> str:
    return f"give the folder itself as the data set: `distill {place.root}`"


def _listed(count: int, names: Sequence[str]) -> str:
    more = ", ..." if count > _LISTED else ""
    return f"{count} classes" + (f" ({', '.join(names[:_LISTED])}{more})" if names else "")
