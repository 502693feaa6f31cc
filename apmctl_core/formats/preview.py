"""The contact sheet of a set: a row of images a class, in pixel space, the class names beside them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from apmctl_core.values import DistilledSet

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_CLASSES = 20
MAX_IMAGES = 10
_TILE = 64  # pixels that small images are enlarged to, about
_LARGEST = 128  # pixels that large images are reduced to, at most
_GAP = 2
_LETTERS = 24


def preview_png(distilled: DistilledSet) -> bytes:
    """A PNG of at most 20 classes (spread evenly over all) times 10 images; the same bytes for the same set."""
    chosen = chosen_classes(len(distilled.classes))
    rows = [_row(distilled, k) for k in chosen]
    sheet = _sheet(rows)
    return encode_png(_with_names(sheet, [_short(distilled.classes[k]) for k in chosen], len(rows)))


def chosen_classes(count: int) -> list[int]:
    """The classes that are shown out of `count`."""
    shown = min(count, MAX_CLASSES)
    return [i * count // shown for i in range(shown)]


def _row(distilled: DistilledSet, k: int) -> Tensor:
    """The first images of class `k` as uint8 (n, 3, h, w), n up to 10."""
    index = (distilled.labels == k).nonzero().flatten()[:MAX_IMAGES]
    pixels = distilled.preprocessing.inverse(distilled.images[index]).clamp(0, 1)
    rgb = pixels if pixels.shape[1] == 3 else pixels.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return _resize((rgb * 255).round()).to(torch.uint8)


def _resize(images: Tensor) -> Tensor:
    """Images enlarged or reduced by an integer."""
    height, width = images.shape[2:]
    up, down = max(1, _TILE // max(height, width)), -(-max(height, width) // _LARGEST)
    if down > 1:
        images = functional.avg_pool2d(images, (min(down, height), min(down, width))).round()
    return images.repeat_interleave(up, 2).repeat_interleave(up, 3)


def _sheet(rows: list[Tensor]) -> Tensor:
    """White (3, height, width) uint8 with the rows below each other, a gap around each tile."""
    columns = max(map(len, rows))
    tiles = torch.stack(
        [functional.pad(row, (_GAP, 0, _GAP, 0, 0, 0, 0, columns - len(row)), value=255) for row in rows]
    )
    sheet = tiles.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
    return functional.pad(sheet, (0, _GAP, 0, _GAP), value=255)


def _short(name: str) -> str:
    # The font that every Pillow has knows only Latin letters.
    plain = name.encode("ascii", "replace").decode()
    return plain if len(plain) <= _LETTERS else plain[: _LETTERS - 1] + "~"


def _with_names(sheet: Tensor, names: list[str], rows: int) -> Image:
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default()
    boxes = [font.getbbox(name) for name in names]
    margin = int(max(box[2] for box in boxes)) + 8
    height, width = sheet.shape[1:]
    canvas = Image.new("RGB", (margin + width, height), "white")
    canvas.paste(Image.fromarray(sheet.permute(1, 2, 0).contiguous().numpy()), (margin, 0))
    draw = ImageDraw.Draw(canvas)
    step = (height - _GAP) / rows
    for r, (name, box) in enumerate(zip(names, boxes, strict=True)):
        draw.text((4, round(_GAP + (r + 0.5) * step - (box[1] + box[3]) / 2)), name, fill="black", font=font)
    return canvas


def encode_png(image: Image) -> bytes:
    """The bytes of a PNG file."""
    out = io.BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()
