"""Encoded images to uint8 arrays of one shape: colour modes, size, orientation, and input that is no image.

Conversions: bi-level, grey-scale and 16-bit images are grey; palette, CMYK, YCbCr and RGBA become RGB, an alpha channel
is dropped (as torchvision does). An image of another size than asked is scaled with antialiased bicubic interpolation
until its shorter side fits, and its centre is cut out.
"""

from __future__ import annotations

import functools
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from apmctl_core.data.source import Payload
from apmctl_core.errors import DataError
from apmctl_core.machine.cores import cores

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")
R = TypeVar("R")

FORMATS = ("PNG", "JPEG", "MPO", "BMP", "GIF", "WEBP", "PPM", "TIFF")
MAX_PIXELS = 89_478_485  # Pillow's own limit for a decompression bomb, of which it only warns
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")


class Undecodable(Exception):
    """Image `index` of a batch cannot be used, for a `reason` that completes a sentence.

    `broken` says that the fault is in the image alone, so that the others can be used without it.
    """

    def __init__(self, index: int, reason: str, hint: str = "", *, broken: bool = False) -> None:
        super().__init__(reason)
        self.index, self.reason, self.hint, self.broken = index, reason, hint, broken

    def error(self, where: str) -> DataError:
        """The error for the user; `where` says which image it is."""
        return DataError(f"{where} {self.reason}", self.hint)


class ColourFound(Exception):
    """A set whose first images are all grey has a colour image."""


@dataclass(frozen=True)
class Format:
    """The shape (channels, height, width) that images are brought to.

    `fit` says whether images of another size are scaled and cropped or refused; `grey_guess` that one channel was
    concluded from the first images only.
    """

    channels: int
    height: int
    width: int
    fit: bool
    grey_guess: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.height, self.width


class Decoded(NamedTuple):
    """A batch uint8 (N, C, H, W), and how many of its images were grey in a colour set, or of another size.

    `broken` are those that it lacks, with their index among all.
    """

    images: np.ndarray
    grey: int
    resized: int
    broken: tuple[Undecodable, ...] = ()


@functools.cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()  # without it Pillow knows only a few formats, and fails on the names of the others
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _open(payload: Payload) -> Image.Image:
    from PIL import Image

    if isinstance(payload, np.ndarray):
        return Image.fromarray(payload)
    image = Image.open(payload if isinstance(payload, Path) else io.BytesIO(payload), formats=_formats())
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")
    return image


def _undecodable(index: int, error: Exception) -> Undecodable:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, UnidentifiedImageError):
        reason = f"cannot be read: {os.strerror(error.errno)}"
        return Undecodable(index, reason, "check the file and its permissions")
    detail = " ".join(str(error).split())[:120]
    reason, hint = f"is damaged: {detail or type(error).__name__}", "replace or remove it"
    if isinstance(error, Image.DecompressionBombError):
        reason = "has more pixels than can be decoded safely"
        hint = f"shrink it below {MAX_PIXELS:,} pixels or remove it"
    elif isinstance(error, UnidentifiedImageError):
        reason, hint = "is not an image", "remove it; the formats are PNG, JPEG, BMP, GIF, WebP, PPM and TIFF"
    return Undecodable(index, reason, f"{hint}; `skip_broken` leaves it out", broken=True)


def _upright(image: Image.Image) -> Image.Image:
    # Cameras store photographs rotated, with a tag that says how. 0x0112 is Orientation.
    if image.format in ("JPEG", "MPO", "TIFF", "WEBP") and image.getexif().get(0x0112, 1) != 1:
        from PIL import ImageOps

        return ImageOps.exif_transpose(image)
    return image


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image
    if image.mode.startswith("I"):
        # Pillow cuts 16-bit values off at 255 instead of scaling them.
        from PIL import Image

        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray((wide // 257).astype(np.uint8)).convert(mode)
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert(mode)
    return image.convert(mode)


def _pixels(image: Image.Image, fmt: Format) -> np.ndarray:
    from PIL import Image, ImageOps

    size = (fmt.width, fmt.height)
    if image.size != size and image.format in ("JPEG", "MPO"):
        # A large JPEG is decoded at 1/2, 1/4 or 1/8, but never to less than twice the size that is asked for.
        image.draft(None, (2 * fmt.width, 2 * fmt.height))
    mode = "RGB" if fmt.channels == 3 else "L"
    image = _to_mode(_upright(image), mode)
    if image.size != size:
        if not fmt.fit:
            sizes = f"is {image.width}x{image.height}, the first image is {fmt.width}x{fmt.height}"
            raise Undecodable(0, sizes, "scale all images to one size: set `data.resolution`, e.g. to 32")
        image = ImageOps.fit(image, size, method=Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    return pixels[None] if fmt.channels == 1 else pixels.transpose(2, 0, 1)


def decode(payloads: Sequence[Payload], fmt: Format) -> Decoded:
    """Decode a batch to uint8 (N, C, H, W).

    Raises Undecodable with the index of the first image that cannot be used, ColourFound if `fmt.grey_guess` is wrong.
    """
    images = np.empty((len(payloads), *fmt.shape), dtype=np.uint8)
    grey = resized = 0
    for i, payload in enumerate(payloads):
        try:
            image = _open(payload)
            is_grey = image.mode in _GREY
            if fmt.grey_guess and not is_grey:
                raise ColourFound
            grey += is_grey and fmt.channels == 3
            resized += image.size != (fmt.width, fmt.height)
            images[i] = _pixels(image, fmt)
        except ColourFound:
            raise
        except Undecodable as error:
            error.index = i
            raise
        except Exception as error:  # bytes of strangers: Pillow's plugins raise whatever their parsers do
            raise _undecodable(i, error) from error
    return Decoded(images, grey, resized)


def sift(payloads: Sequence[Payload], fmt: Format) -> Decoded:
    """Decode a batch without the images that are broken. Raises the others of `decode`."""
    try:
        return decode(payloads, fmt)
    except Undecodable:
        decoded, broken = [], []  # of the images one by one
    for i in range(len(payloads)):
        try:
            decoded.append(decode(payloads[i : i + 1], fmt))
        except Undecodable as error:
            error.index = i
            if not error.broken:
                raise
            broken.append(error)
    images = np.concatenate([np.empty((0, *fmt.shape), dtype=np.uint8), *(one.images for one in decoded)])
    return Decoded(images, sum(one.grey for one in decoded), sum(one.resized for one in decoded), tuple(broken))


def look(payloads: Sequence[Payload]) -> tuple[bool, int, int]:
    """Whether all these images are grey, and height and width of the first; only headers are read.

    Broken images are passed over. Raises Undecodable where none is left, or one cannot be read.
    """
    grey, size, first = True, None, None
    for i, payload in enumerate(payloads):
        try:
            image = _open(payload)
            size = size or _upright(image).size
        except Exception as error:  # as in `decode`
            first = first or _undecodable(i, error)
            if not first.broken:
                raise first from error
            continue
        grey = grey and image.mode in _GREY
    if size is None:
        assert first is not None
        raise first
    return grey, size[1], size[0]


def workers() -> int:
    """How many threads decode: Pillow lets go of the interpreter's lock while it does."""
    return min(16, cores())


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Map over `items` in threads, results in order, never more than a few items ahead of the consumer."""
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
