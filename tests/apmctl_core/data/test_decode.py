"""Colour modes, sizes, orientation, and input that is no image."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apmctl_core.data.decode import ColourFound, Format, Undecodable, decode, in_order, look
from tests.apmctl_core.data.makers import encoded, image, pixels

RGB = Format(3, 8, 8, fit=False)
GREY = Format(1, 8, 8, fit=False, grey_guess=True)


def bomb(side: int = 60_000) -> bytes:
    """A PNG of a few bytes that says that it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_png_pixels_come_through_unchanged_as_channels_first() -> None:
    result = decode([encoded(image(s)) for s in range(3)], RGB)
    assert np.array_equal(result.images, np.stack([pixels(s).transpose(2, 0, 1) for s in range(3)]))
    assert (result.grey, result.resized) == (0, 0)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_every_png_mode_becomes_rgb(mode: str) -> None:
    img = image(1, mode)
    result = decode([encoded(img)], RGB)
    assert np.array_equal(result.images[0], np.asarray(img.convert("RGB")).transpose(2, 0, 1))
    assert result.grey == (mode in ("1", "L", "LA"))


def test_cmyk_and_grey_jpeg_become_rgb() -> None:
    result = decode([encoded(image(1, "CMYK"), "JPEG"), encoded(image(2, "L"), "JPEG")], RGB)
    assert result.images.shape == (2, 3, 8, 8) and result.grey == 1
    assert np.ptp(result.images[1].astype(int), axis=0).max() == 0


def test_palette_with_transparency_becomes_rgb(tmp_path: Path) -> None:
    img = image(1, "P")
    img.save(tmp_path / "p.png", transparency=b"\x00" * 10)
    assert np.array_equal(
        decode([tmp_path / "p.png"], RGB).images[0], np.asarray(img.convert("RGB")).transpose(2, 0, 1)
    )


def test_16_bit_grey_is_scaled_not_cut_off() -> None:
    wide = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    result = decode([encoded(Image.fromarray(wide))], Format(1, 8, 8, fit=False))
    assert np.array_equal(result.images[0, 0], wide // 257)


def test_arrays_are_images_too() -> None:
    grey, colour = pixels(0, channels=1), pixels(1)
    assert np.array_equal(decode([grey], GREY).images[0, 0], grey)
    assert np.array_equal(decode([colour], RGB).images[0], colour.transpose(2, 0, 1))


def test_another_size_is_refused_or_scaled_and_centre_cropped() -> None:
    wide = Image.new("RGB", (32, 16))
    wide.paste((200, 100, 50), (8, 0, 24, 16))  # the centre square
    with pytest.raises(Undecodable, match="is 32x16, the first image is 8x8"):
        decode([encoded(wide)], RGB)
    result = decode([encoded(wide)], Format(3, 8, 8, fit=True))
    assert result.resized == 1
    assert np.array_equal(result.images[0, :, 4, 2:6], np.tile([[200], [100], [50]], 4))


def test_scaling_down_is_antialiased() -> None:
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[:, ::2] = 255
    small = decode([stripes], Format(1, 8, 8, fit=True)).images
    assert np.abs(small.astype(int) - 127)[..., 1:-1].max() < 10


def test_a_large_jpeg_is_scaled_like_the_same_png() -> None:
    big = Image.fromarray(np.kron(pixels(3, (4, 4)), np.ones((100, 100, 1), dtype=np.uint8)))
    fmt = Format(3, 16, 16, fit=True)
    jpeg, png = (decode([encoded(big, form)], fmt).images.astype(int) for form in ("JPEG", "PNG"))
    assert np.abs(jpeg - png).mean() < 6


def test_the_orientation_tag_is_obeyed() -> None:
    img = Image.new("L", (16, 8))
    img.paste(255, (0, 0, 8, 8))  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise: left becomes top
    import io

    buffer = io.BytesIO()
    img.save(buffer, "JPEG", exif=exif)
    assert look([buffer.getvalue()]) == (True, 16, 8)
    upright = decode([buffer.getvalue()], Format(1, 16, 8, fit=False)).images[0, 0]
    assert upright[:6].min() > 200 and upright[10:].max() < 50


def test_look_tells_grey_from_colour_and_the_first_size() -> None:
    grey = [encoded(image(0, m, (6, 4))) for m in ("L", "1", "LA")]
    assert look(grey) == (True, 4, 6)
    assert look([*grey, encoded(image(0))]) == (False, 4, 6)


def test_colour_in_a_set_thought_grey_is_found() -> None:
    with pytest.raises(ColourFound):
        decode([encoded(image(0, "L")), encoded(image(0))], GREY)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not an image"),
        (b"GIF89a", "is not an image"),
        (b"hello" * 100, "is not an image"),
        (bomb(), "more pixels"),
        (bomb(10_000), "more pixels"),
        (encoded(image(0, size=(64, 64)))[:-400], "is damaged"),
        (encoded(image(0, size=(64, 64)), "JPEG")[:700], "is damaged"),
    ],
)
@pytest.mark.filterwarnings("ignore:Image size")
def test_what_is_no_image_is_refused_with_its_index(data: bytes, reason: str) -> None:
    with pytest.raises(Undecodable, match=reason) as caught:
        decode([encoded(image(0)), data], Format(3, 8, 8, fit=True))
    assert caught.value.index == 1 and caught.value.hint


def test_formats_that_run_programs_are_not_opened() -> None:
    with pytest.raises(Undecodable, match="not an image"):
        decode([encoded(image(0), "EPS")], RGB)


@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_never_raise_anything_else() -> None:
    rng = np.random.default_rng(0)
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        good = encoded(image(0, size=(16, 16)), form)
        for _ in range(60):
            data = bytearray(good)
            for at in rng.integers(0, len(data), 4):
                data[at] = rng.integers(256)
            try:
                assert decode([bytes(data)], Format(3, 8, 8, fit=True)).images.shape == (1, 3, 8, 8)
            except Undecodable as error:
                assert "\n" not in error.reason


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    with pytest.raises(Undecodable, match="cannot be read: No such file"):
        decode([tmp_path / "gone.png"], RGB)


def test_in_order_keeps_order_and_does_not_run_ahead() -> None:
    taken = 0

    def items() -> object:
        nonlocal taken
        for i in range(100):
            taken = i
            yield i

    results = in_order(lambda i: i * i, items(), threads=2)  # type: ignore[arg-type]
    assert next(results) == 0 and taken <= 5
    assert list(results) == [i * i for i in range(1, 100)]


def test_in_order_raises_where_the_failing_item_would_come() -> None:
    def work(i: int) -> int:
        if i == 3:
            raise Undecodable(0, "no")
        return i

    seen = []
    with pytest.raises(Undecodable):
        for value in in_order(work, range(10), threads=4):
            seen.append(value)
    assert seen == [0, 1, 2]
