"""Which setting of a recipe makes the better set? Chosen on a held-out part of the training split.

Each variant's set is made and measured for several seeds, beside as many random real images under the same labels. With
`--held-out` a fifth of the training split is tested on and the rest is all that anything is trained on, so that a
setting can be chosen; without it the test split is used, for figures that decide nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from common import Table, options, parse, report
from scipy.stats import t as student_t

from apmctl_core.artifacts import Store
from apmctl_core.config import DataConfig, Recipe
from apmctl_core.data import Dataset, Split
from apmctl_core.jobs import Session, distill_set, evaluate_set, train_pool
from apmctl_core.jobs.settings import resolve as recipe_of
from apmctl_core.machine.runtime import resolve

_QUICK = (
    *("model.width=4", "teachers.count=1", "teachers.epochs=1", "distill.rounds=3", "distill.student.epochs=3"),
    *("distill.checkpoints=1", "evaluate.epochs=2", 'evaluate.labels=["soft"]'),
)
_HELD_OUT = 5  # one in so many


@dataclass(frozen=True, kw_only=True)
class HeldOut(Session):
    """A session whose data sets are tested on a fifth of their training split."""

    def load(self, config: DataConfig, fingerprint: str = "") -> Dataset:
        whole = super().load(config, "" if fingerprint.startswith("held out ") else fingerprint)
        return held_out(whole)


def held_out(whole: Dataset) -> Dataset:
    """A data set whose test split is every fifth image of each class of the training split."""
    labels = whole.train.labels
    order = np.argsort(labels, kind="stable")
    rank = np.empty_like(order)
    for k in range(whole.num_classes):
        of_class = order[labels[order] == k]
        rank[of_class] = np.arange(len(of_class))
    tested = rank % _HELD_OUT == 0
    parts = [Split(whole.train.images[part], labels[part]) for part in (~tested, tested)]
    digest = hashlib.sha256(f"held out of {whole.fingerprint}".encode()).hexdigest()
    split = "every fifth training image"
    return replace(whole, train=parts[0], test=parts[1], fingerprint=f"held out {digest[:32]}", split=split, notes=())


def nested(assignment: str) -> dict[str, Any]:
    """`distill.ipc=50` as tables; a value is JSON, else text."""
    path, _, text = assignment.partition("=")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


def merged(*tables: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables over each other."""
    out: dict[str, Any] = {}
    for table in tables:
        for key, value in table.items():
            both = isinstance(value, dict) and isinstance(out.get(key), dict)
            out[key] = merged(out[key], value) if both else value
    return out


def variants(args: Namespace) -> dict[str, dict[str, Any]]:
    """The settings of each variant by its name: all combinations of the values that vary."""
    common = merged(*map(nested, (*(_QUICK if args.quick else ()), *args.set)))
    axes = [
        [f"{path}={value}" for value in values.split(";")] for path, _, values in (v.partition("=") for v in args.vary)
    ]
    return {", ".join(names): merged(common, *map(nested, names)) for names in itertools.product(*axes)}


def measure(args: Namespace, session: Session, recipe: Recipe) -> list[dict[str, Any]]:
    """The rows of the evaluation of a recipe's set, with the seconds that the set took."""
    pool = args.pool or train_pool(session, replace(recipe, seed=0)).artifact.ref
    distilled = distill_set(session, recipe, pool=pool)
    rows = evaluate_set(session, distilled.artifact.ref, {}).metrics["results"]
    return [row.document() | {"seconds": distilled.metrics["seconds"]} for row in rows]


def interval(values: list[float]) -> str:
    """The mean of the seeds in per cent, with its 95 per cent interval by Student's t."""
    mean = f"{100 * fmean(values):.2f}"
    if len(values) < 2:
        return mean
    half = student_t.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return f"{mean} ± {100 * half:.2f}"


def line(name: str, labels: str, rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """A row of the table: the seeds of one variant and kind of labels."""
    own, random = ([r[f"{of}accuracy_mean"] for r in rows] for of in ("", "random_"))
    gains = [a - b for a, b in zip(own, random, strict=True)]
    seeds = " ".join(f"{100 * value:.1f}" for value in own)
    return (name, labels, interval(own), interval(random), interval(gains), seeds, f"{rows[0]['seconds']:.0f}")


def run(args: Namespace, store: Store) -> list[tuple[str, str, dict[str, Any]]]:
    """The rows of all variants and seeds, with the variant's name and the kind of labels."""
    kind = HeldOut if args.held_out else Session
    session = kind(store=store, runtime=resolve(args.device, not args.no_compile), data_path=args.data)
    lines = []
    for seed, (name, settings) in itertools.product(range(args.seeds), variants(args).items()):
        recipe = replace(recipe_of(None, preset_name=args.preset, flags=settings)[0], seed=seed)
        for row in measure(args, session, recipe):
            lines.append((name, row["labels"], row))
            print(f"seed {seed}, {name}, {row['labels']}: {interval([row['accuracy_mean']])}", flush=True)
    return lines


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--preset", default="cifar10-laptop-ipc10", help="settings to start from [%(default)s]")
    parser.add_argument("--set", action="append", default=[], help="a setting of all variants: distill.ipc=50")
    parser.add_argument("--vary", action="append", default=[], help="a setting that varies: distill.draw=cycle;round")
    parser.add_argument("--seeds", type=int, default=3, help="sets made of each variant [%(default)s]")
    parser.add_argument("--pool", help="pool of teachers to use for all [one is trained]")
    parser.add_argument("--held-out", action="store_true", help="test on a held-out fifth of the training split")
    parser.add_argument("--data", type=Path, help="folder of the data set [from the Hub]")
    parser.add_argument("--store", type=Path, help="store to keep, so that a killed run goes on [it is removed]")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    args = parse(parser, argv, {"preset": "digits-ipc1", "seeds": 2, "no_compile": True})
    with tempfile.TemporaryDirectory() as folder:
        lines = run(args, Store(args.store or Path(folder)))
    keys = dict.fromkeys((name, labels) for name, labels, _ in lines)
    table = [line(*key, [row for name, labels, row in lines if (name, labels) == key]) for key in keys]
    split = "a held-out fifth of the training split" if args.held_out else "the test split (it decides nothing)"
    header = ("variant", "labels", "accuracy %", "random images %", "gain", "seeds", "seconds of a set")
    notes = [f"± is a 95 per cent interval over {args.seeds} seeds (Student's t). The pool is that of seed 0 for all."]
    report(args, "variants", "Which setting makes the better set?", [Table(f"Tested on {split}", header, table)], notes)


if __name__ == "__main__":
    main()
