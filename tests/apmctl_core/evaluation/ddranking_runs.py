"""What runs inside the environment of ddranking: `python ddranking_runs.py REQUEST ANSWER`, both files of torch.

A request names the function below that answers it, with its arguments. ddranking knows ten data sets by name and no
other, so `get_dataset` is replaced by what hands over the request's test images; accuracies are fractions.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from ddranking.metrics import aug_robust, hard_label, soft_label
from ddranking.utils import TensorDataset, build_model
from torch import Tensor


def train(
    labels: str,
    images: Tensor,
    targets: Tensor,
    test: tuple[Tensor, Tensor],
    lr: float,
    options: dict[str, Any],
    initial: list[dict[str, Tensor] | None],
) -> dict[str, Any]:
    """Train networks on a set by ddranking's class for its kind of labels: their accuracies and weights.

    There is a network for each of `initial`: its weights, or None for those that ddranking draws.
    """
    tested, classes, size = TensorDataset(*test), 1 + int(test[1].max()), tuple(images.shape[2:])
    same = {label: label for label in range(classes)}
    for module in (hard_label, soft_label):
        module.get_dataset = lambda *_: (3, size, None, None, classes, tested, tested, tested, same, same)
    options |= {"im_size": size, "num_workers": 0, "device": "cpu", "save_path": "/dev/null"}
    if labels == "soft":
        evaluator = soft_label.LabelRobustScoreSoft(**options, soft_label_mode="S", teacher_model_names=[])
        measure, last = evaluator._compute_soft_label_metrics, {"soft_labels": targets}
    else:
        evaluator = hard_label.LabelRobustScoreHard(**options)
        measure, last = evaluator._compute_hard_label_metrics, {"hard_labels": targets, "mode": "syn"}
    evaluator.test_interval = evaluator.num_epochs  # it would take the best of the tests that it makes on the way
    accuracies, weights = [], []
    for number, state in enumerate(initial):
        torch.manual_seed(number)
        model = build_model(evaluator.model_name, classes, size, device="cpu")
        if state is not None:
            model.load_state_dict(state)
        accuracies.append(measure(model=model, image_tensor=images, image_path=None, lr=lr, **last) / 100)
        weights.append(model.state_dict())
    return {"accuracies": accuracies, "weights": weights}


def score(kind: str, accuracies: dict[str, float]) -> dict[str, float]:
    """The scores that a class of ddranking makes of one accuracy each, which stand in for its trainings.

    Accuracies are named after what is trained on (whole, set, random) and how (hard, soft, augmented, plain).
    """
    module, name = {
        "hard": (hard_label, "LabelRobustScoreHard"),
        "soft": (soft_label, "LabelRobustScoreSoft"),
        "augmented": (aug_robust, "AugmentationRobustScore"),
    }[kind]
    module.save_results = lambda *_: None  # that of hard labels raises: one of its columns is twice as long
    evaluator = object.__new__(getattr(module, name))
    vars(evaluator).update(num_eval=1, rank=0, use_dist=False, eval_full_data=True, ipc=1, num_classes=1, save_path="")
    vars(evaluator).update(label_type="hard", soft_label_mode="M")

    def trained(how: str) -> Any:
        return lambda image_tensor, mode="", **_: (
            (accuracies[f"whole {how}"] if mode == "real" else accuracies[f"{image_tensor} {how}"]),
            0.01,
        )

    evaluator._get_random_data_helper = lambda **_: (None, "random", *[None] * (2 if kind == "augmented" else 1))
    evaluator._compute_hard_label_metrics_helper = trained("hard")
    evaluator._compute_soft_label_metrics_helper = trained("soft")
    evaluator._compute_with_aug_metrics_helper = trained("augmented")
    evaluator._compute_without_aug_metrics_helper = trained("plain")
    found = evaluator.compute_metrics(image_tensor="set")
    return {key.removesuffix("_mean"): float(value) for key, value in found.items() if key.endswith("_mean")}


def scores(accuracies: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """What `score` makes of accuracies by kind."""
    return {kind: score(kind, given) for kind, given in accuracies.items()}


def main(request: Path, answer: Path) -> None:
    """Answer a request."""
    arguments = torch.load(request, weights_only=True)
    torch.save({"train": train, "scores": scores}[arguments.pop("do")](**arguments), answer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
