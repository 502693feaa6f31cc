"""APM's protocol: SGD with the rate dropped at half, DSA, accuracy at the last epoch; L1 on logits for soft labels.

Epochs and learning rate are those of the set's row of the published table (METHOD), so the protocol fixes neither.
"""

from apmctl_core.evaluation.protocol import PROTOCOLS, Protocol
from apmctl_core.training.procedure import CROSS_ENTROPY, MATCH_LOGITS, Procedure

PROTOCOLS.add("apm", Protocol(procedures={"soft": Procedure(loss=MATCH_LOGITS), "hard": Procedure(loss=CROSS_ENTROPY)}))
