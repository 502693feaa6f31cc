"""A local folder: decide what it holds and open that."""

from __future__ import annotations

from apmctl_core.data.listing import IMAGE_SUFFIXES, Listing
from apmctl_core.data.rows import Source
from apmctl_core.data.sources.images import open_images
from apmctl_core.data.sources.native import native_root, open_native
from apmctl_core.data.sources.parquet import open_parquet
from apmctl_core.data.spec import Spec
from apmctl_core.errors import DataError
from apmctl_core.events import Emit, Note


def open_local(listing: Listing, name: str, spec: Spec | None, emit: Emit) -> Source:
    """Open parquet files, torchvision's native files or class folders, whichever are there, in this order.

    Raises DataError if there are none.
    """
    if listing.skipped_links:
        note = f"{listing.skipped_links} symbolic links in {listing.root} were not followed: they lead out of it"
        emit(Note(text=note, level="warning"))
    tables = listing.with_suffix(frozenset({".parquet"}))
    if tables:
        return open_parquet(listing.root, tables, spec, emit)
    root = native_root(listing, name)
    if root is not None:
        return open_native(root, name)
    if listing.with_suffix(IMAGE_SUFFIXES):
        return open_images(listing, emit)
    raise DataError(
        f"there are no images in {listing.root}",
        "it should have a folder of images for each class, train/ and test/ with such folders, or parquet files",
    )
