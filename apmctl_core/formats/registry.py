"""The registry of file formats: how each is recognised in a folder, and opened as a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apmctl_core.errors import DataError
from apmctl_core.events import Emit, Note
from apmctl_core.registry import Registry

if TYPE_CHECKING:
    from apmctl_core.data.source import DatasetSpec, Listing, Source

FORMATS: Registry[FileFormat] = Registry("data.dataset")


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    """A format of local data sets. One file in `formats/readers/` defines and registers it.

    Its data files have one of `suffixes` (lower case, with the dot) or lie in a folder that is called one of `folders`;
    `single_file` says whether one of them alone can be a data set. A listing of files is opened by the first format, in
    increasing `order`, for which `recognise` is true: by default if any file has its suffix. `holds` tells people what
    a folder of this format has. Both functions get the spec of a known data set, or None.
    """

    name: str
    holds: str
    open: Callable[[Listing, DatasetSpec | None, Emit], Source]
    suffixes: frozenset[str] = frozenset()
    folders: frozenset[str] = frozenset()
    single_file: bool = False
    recognise: Callable[[Listing, DatasetSpec | None], bool] | None = None
    order: int = 50

    def recognises(self, listing: Listing, spec: DatasetSpec | None) -> bool:
        """Whether this format can open a listing."""
        return bool(self.recognise(listing, spec) if self.recognise else listing.with_suffix(self.suffixes))


def register(file_format: FileFormat) -> FileFormat:
    """Make a format known. Raises ValueError for a name that is taken."""
    return FORMATS.add(file_format.name, file_format)


def formats() -> list[FileFormat]:
    """All formats, in the order in which they are tried."""
    return sorted(FORMATS.values(), key=lambda each: (each.order, each.name))


def open_local(listing: Listing, spec: DatasetSpec | None, emit: Emit) -> Source:
    """Open the files of a folder in the first format that recognises them. Raises DataError if none does."""
    if listing.skipped_links:
        note = f"{listing.skipped_links} symbolic links in {listing.root} were not followed: they lead out of it"
        emit(Note(text=note, level="warning"))
    for each in formats():
        if each.recognises(listing, spec):
            return each.open(listing, spec, emit)
    hub = f"; the original is at {spec.url}" if spec is not None else ""
    raise DataError(f"there are no images in {listing.root}", f"it should have {layouts()}{hub}")


def layouts() -> str:
    """What a local data set may consist of, for people."""
    return ", or ".join(each.holds for each in formats())
