"""Does bf16 with compilation cost accuracy against fp32 without?

The whole road (teachers, distillation, evaluation) of a preset is run in both kinds of arithmetic with the same seed,
so that both make the same draws; networks trained on each set are compared.
"""

from __future__ import annotations

import math
import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import Table, options, parse, report, words

from apmctl_core.config import Recipe, TrainConfig
from apmctl_core.config.presets import preset
from apmctl_core.events import Event, Note
from apmctl_core.jobs import Outcome, Session, distill_set, evaluate_set, train_pool
from apmctl_core.machine.runtime import resolve

SIDES = (("bf16", True), ("fp32", False))  # precision, compiled


def small(recipe: Recipe) -> Recipe:
    """A recipe that takes a second and means nothing."""
    return replace(
        recipe,
        model=replace(recipe.model, width=4),
        teachers=replace(recipe.teachers, count=1, epochs=1),
        distill=replace(recipe.distill, rounds=3, student=TrainConfig(epochs=3), checkpoints=1),
        evaluate=replace(recipe.evaluate, epochs=2),
    )


def run(args: Namespace, name: str, store: Path, seed: int, emit: Callable[[Event], None]) -> list[dict[str, Any]]:
    """The rows of the evaluation of a preset in both kinds of arithmetic, with the seconds of pool and set."""
    from apmctl_core.artifacts.store import Store

    base = replace(small(preset(name)) if args.quick else preset(name), seed=seed)
    shared: str | None = None
    found = []
    for precision, compiled in SIDES:
        runtime = resolve(args.device, compiled and not args.no_compile)
        session = Session(store=Store(store), runtime=runtime, data_path=_data(args, base), emit=emit)
        recipe = replace(base, precision=precision)
        pool = shared or train_pool(session, recipe).artifact.ref
        shared = pool if args.teachers == "shared" else None
        distilled: Outcome = distill_set(session, recipe, pool=pool)
        changes = {"repeats": args.networks, "labels": list(args.labels)}
        for row in evaluate_set(session, distilled.artifact.ref, changes).metrics["results"]:
            found.append(
                {
                    **row.document(),
                    "precision": precision,
                    "seed": seed,
                    "seconds": distilled.metrics["seconds"],
                }
            )
            print(f"{name}, {precision}, seed {seed}: {row.accuracy_mean:.4f}", flush=True)
    return found


def _data(args: Namespace, recipe: Recipe) -> Path | None:
    return None if recipe.data.dataset == "digits" else args.data


def table(name: str, rows: list[dict[str, Any]], args: Namespace) -> Table:
    """The accuracies of one preset, in per cent."""
    compiled = {"bf16": "bf16, compiled", "fp32": "fp32, eager"}
    lines = [
        (
            compiled[r["precision"]],
            str(r["seed"]),
            r["labels"],
            _percent(r["accuracy_mean"], r["accuracy_std"]),
            _percent(r["random_accuracy_mean"], r["random_accuracy_std"]),
            f"{r['seconds']:.0f}",
        )
        for r in rows
    ]
    header = ("arithmetic", "seed", "labels", "accuracy %", "random images %", "seconds of the set")
    return Table(f"{name}, {args.networks} networks each", header, lines)


def _percent(mean: float, std: float) -> str:
    return f"{mean * 100:.2f} ± {std * 100:.2f}"


def verdict(name: str, rows: list[dict[str, Any]], networks: int) -> list[str]:
    """For each kind of labels: the difference, and the noise of the two means by the spread of their networks."""
    said = []
    for labels in sorted({r["labels"] for r in rows}):
        sides = {p: [r for r in rows if r["labels"] == labels and r["precision"] == p] for p, _ in SIDES}
        means = {p: sum(r["accuracy_mean"] for r in found) / len(found) for p, found in sides.items()}
        difference = means["bf16"] - means["fp32"]
        # The mean of n networks has the variance s²/n; several seeds are averaged again.
        variance = sum(r["accuracy_std"] ** 2 / max(1, networks - 1) / len(f) ** 2 for f in sides.values() for r in f)
        noise = 2 * math.sqrt(variance)
        within = "within" if abs(difference) <= noise else "**beyond**"
        said.append(
            f"{name}, {labels} labels: bf16 and compiled less fp32 and eager is {difference * 100:+.2f} points, "
            f"{within} two standard errors of the networks ({noise * 100:.2f})."
        )
    return said


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__)
    parser.add_argument("--presets", type=words, default=("digits-ipc1", "cifar10-laptop-ipc10"), help="presets to run")
    parser.add_argument("--networks", type=int, default=5, help="networks trained on each set [%(default)s]")
    parser.add_argument("--labels", type=words, default=("soft",), help="labels to train on: soft,hard [soft]")
    parser.add_argument("--seeds", type=int, default=1, help="sets made in each arithmetic [%(default)s]")
    parser.add_argument("--teachers", default="own", choices=("own", "shared"), help="shared: fp32 uses bf16's pool")
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10 as parquet [from the Hub]")
    parser.add_argument("--store", type=Path, help="store to keep, so that a killed run goes on [it is removed]")
    parser.add_argument("--no-compile", action="store_true", help="both sides without torch.compile")
    args = parse(parser, argv, {"presets": ("digits-ipc1",), "networks": 2, "no_compile": True})
    notes: list[str] = []

    def emit(event: Event) -> None:
        if isinstance(event, Note) and event.level == "warning":
            notes.append(event.text)

    found: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in args.presets:
            seeds = range(args.seeds)
            found[name] = [row for seed in seeds for row in run(args, name, args.store or Path(folder), seed, emit)]
    said = [line for name, rows in found.items() for line in verdict(name, rows, args.networks)]
    notes.append(f"Teachers: {args.teachers}. The same seed in both, so both make the same draws.")
    question = "Does bf16 with compilation cost accuracy?"
    report(args, "accuracy", question, [table(name, rows, args) for name, rows in found.items()], [*said, *notes])


if __name__ == "__main__":
    main()
