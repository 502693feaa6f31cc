"""MTT's protocol, also that of TESLA and FTD: five networks, 1000 epochs of SGD, cross-entropy.

The learning rate is the set's own: the method learns one with its images.
Published runs draw one DSA transformation a batch.
"""

from apmctl_core.evaluation.protocol import PROTOCOLS, Protocol
from apmctl_core.training.procedure import CROSS_ENTROPY, SOFT_CROSS_ENTROPY, Procedure

PROTOCOLS.add(
    "mtt",
    Protocol(
        procedures={"soft": Procedure(loss=SOFT_CROSS_ENTROPY), "hard": Procedure(loss=CROSS_ENTROPY)},
        settings={
            "epochs": 1000,
            "batch": 256,
            "repeats": 5,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "dsa": "batch",
        },
    ),
)
