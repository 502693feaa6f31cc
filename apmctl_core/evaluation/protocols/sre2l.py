"""SRe2L's protocol, also that of RDED and CV-DD: one network, 300 epochs of AdamW with a cosine, crops and CutMix.

The batch is that of the published code for small images. Its soft labels come from a teacher that sees each crop anew;
here they are those of the set.
"""

from apmctl_core.evaluation.protocol import PROTOCOLS, Protocol
from apmctl_core.training.crops import RANDOM_RESIZED_CROP
from apmctl_core.training.mixing import CUTMIX
from apmctl_core.training.procedure import ADAMW, COSINE, CROSS_ENTROPY, KL_AT_20, Procedure

PROTOCOLS.add(
    "sre2l",
    Protocol(
        procedures={
            labels: Procedure(loss=loss, optimiser=ADAMW, schedule=COSINE, augmentation=RANDOM_RESIZED_CROP, mix=CUTMIX)
            for labels, loss in (("soft", KL_AT_20), ("hard", CROSS_ENTROPY))
        },
        settings={"epochs": 300, "batch": 128, "repeats": 1, "lr": 1e-3, "weight_decay": 0.01},
    ),
)
