"""NCFM's protocol: ten networks, 2000 epochs of AdamW halved at each fifth, DSA, and CutMix in half of the steps.

Batch and schedule are those of the published code. Its soft labels come from a teacher that sees the augmented image;
here they are those of the set.
"""

from apmctl_core.evaluation.protocol import PROTOCOLS, Protocol
from apmctl_core.training.mixing import CUTMIX_HALF
from apmctl_core.training.procedure import ADAMW, CROSS_ENTROPY, HALVED_AT_FIFTHS, SOFT_CROSS_ENTROPY, Procedure

PROTOCOLS.add(
    "ncfm",
    Protocol(
        procedures={
            labels: Procedure(loss=loss, optimiser=ADAMW, schedule=HALVED_AT_FIFTHS, mix=CUTMIX_HALF)
            for labels, loss in (("soft", SOFT_CROSS_ENTROPY), ("hard", CROSS_ENTROPY))
        },
        settings={"epochs": 2000, "batch": 128, "repeats": 10, "lr": 1e-3, "weight_decay": 0.01, "dsa": "image"},
    ),
)
