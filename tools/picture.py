"""Draw a set's images below real ones: a column a class, as many random real images above as there are distilled.

The real images are those that `apmctl eval` compares with. For sets of `digits`, whose images may be shown: they are
the optical digits of the UCI repository (CC BY 4.0), which ship with scikit-learn.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import apmctl_core
from apmctl_core.artifacts.kinds.sets import load_set
from apmctl_core.data import load as load_data

TILE, GAP, MARGIN, HEAD = 64, 4, 84, 22


def picture(ref: str, store: Path, per_class: int = 2) -> Image.Image:
    """The picture of a set of `digits` in a store. Raises ApmctlError where there is none."""
    artifact = apmctl_core.load(ref, store=store).artifact
    distilled = load_set(artifact)
    assert distilled.baseline is not None
    data = load_data("digits", store / "cache")
    real = data.train.images[distilled.baseline.index_DM[0].numpy()]
    made = (distilled.preprocessing.inverse(distilled.images).clamp(0, 1) * 255).round().byte().numpy()
    real_labels = data.train.labels[distilled.baseline.index_DM[0].numpy()]
    rows = [
        (name, [images[labels == k][i, 0] for k in range(len(distilled.classes))])
        for name, images, labels in (("real", real, real_labels), ("distilled", made, distilled.labels.numpy()))
        for i in range(min(per_class, len(distilled.labels) // len(distilled.classes)))
    ]
    return _draw(distilled.classes, rows)


def _draw(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[object]]]) -> Image.Image:
    """A sheet of grey tiles: the columns' names above, a row's name beside its first row, a wider gap between names."""
    font = ImageFont.load_default(15)
    names = [name for name, _ in rows]
    step = TILE + GAP
    canvas = Image.new("RGB", (MARGIN + len(columns) * step, HEAD + len(rows) * step + 3 * GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for c, name in enumerate(columns):
        draw.text((MARGIN + c * step + TILE / 2, HEAD / 2), name, fill="black", font=font, anchor="mm")
    for r, (name, tiles) in enumerate(rows):
        top = HEAD + r * step + (3 * GAP if name != names[0] else 0)
        if names.index(name) == r:
            draw.text((4, top + TILE / 2), name, fill="black", font=font, anchor="lm")
        for c, tile in enumerate(tiles):
            canvas.paste(Image.fromarray(tile).resize((TILE, TILE), Image.Resampling.BICUBIC), (MARGIN + c * step, top))
    return canvas


def main() -> None:
    """Write the picture of a set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ref", help="a set of digits: its name, name@id or id")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per-class", type=int, default=2, help="images of a class, of either kind")
    given = parser.parse_args()
    picture(given.ref, given.store, given.per_class).save(given.out)


if __name__ == "__main__":
    main()
