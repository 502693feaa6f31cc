"""APM's protocol: SGD with the rate dropped at half, DSA, accuracy at the last epoch; L1 on logits for soft labels.

Epochs and learning rate are those of the set's row of the published table (METHOD), so the protocol fixes neither.
"""

from __future__ import annotations

from apmctl_core.evaluation.protocols.protocol import Protocol, register
from apmctl_core.training.procedure import CROSS_ENTROPY, MATCH_LOGITS, Procedure

APM = register(
    Protocol(name="apm", procedures={"soft": Procedure(loss=MATCH_LOGITS), "hard": Procedure(loss=CROSS_ENTROPY)})
)
