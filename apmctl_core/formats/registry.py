"""The registry of file formats: how each is recognised in a folder, and opened as a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from apmctl_core.errors import DataError
from apmctl_core.events import Emit, Note

if TYPE_CHECKING:
    from apmctl_core.data.listing import Listing
    from apmctl_core.data.rows import Source
    from apmctl_core.data.spec import DatasetSpec

    Open = Callable[[Listing, DatasetSpec | None, Emit], Source]
    Recognise = Callable[[Listing, DatasetSpec | None], bool]

FORMATS: dict[str, FileFormat] = {}


@dataclass(frozen=True)
class FileFormat:
    """A format of local data sets. One file in `formats/readers/` defines it with `file_format`.

    Its data files have one of `suffixes` (lower case, with the dot) or lie in a folder that is called one of `folders`;
    a listing of files is opened by the first format, in increasing `order`, that recognises it. `holds` tells people
    what the format looks like; `single_file` says whether one file alone can be a data set.
    """

    name: str
    order: int
    holds: str
    suffixes: frozenset[str]
    folders: frozenset[str]
    single_file: bool
    recognise: Recognise | None
    open: Open

    def owns(self, path: PurePosixPath) -> bool:
        """Whether a file is data of this format, judged by its name."""
        return path.suffix.lower() in self.suffixes or path.parent.name in self.folders

    def recognises(self, listing: Listing, spec: DatasetSpec | None) -> bool:
        """Whether this format can open a listing: by default if one of the files is its own."""
        if self.recognise is not None:
            return self.recognise(listing, spec)
        return any(self.owns(file.path) for file in listing.files)


def file_format(
    name: str,
    *,
    holds: str,
    suffixes: Iterable[str] = (),
    folders: Iterable[str] = (),
    single_file: bool = False,
    recognise: Recognise | None = None,
    order: int = 50,
) -> Callable[[Open], Open]:
    """Register a format by the function that opens it: (listing, spec of a known set or None, emit) -> Source."""

    def register(function: Open) -> Open:
        if name in FORMATS:
            raise ValueError(f"file format {name!r} is already registered")
        owned = frozenset(suffixes), frozenset(folders)
        FORMATS[name] = FileFormat(name, order, holds, *owned, single_file, recognise, function)
        return function

    return register


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
    raise DataError(
        f"there are no images in {listing.root}", f"it should have {', or '.join(each.holds for each in formats())}"
    )
