"""DC's protocol, also that of DM: twenty networks, 300 epochs of SGD with learning rate 0.01, cross-entropy.

Its sets have hard labels; soft ones are measured by their cross-entropy.
Published runs draw one DSA transformation a batch.
"""

from apmctl_core.evaluation.protocol import PROTOCOLS, Protocol
from apmctl_core.training.procedure import CROSS_ENTROPY, SOFT_CROSS_ENTROPY, Procedure

PROTOCOLS.add(
    "dc",
    Protocol(
        procedures={"soft": Procedure(loss=SOFT_CROSS_ENTROPY), "hard": Procedure(loss=CROSS_ENTROPY)},
        settings={
            "epochs": 300,
            "batch": 256,
            "repeats": 20,
            "lr": 0.01,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "dsa": "batch",
        },
    ),
)
