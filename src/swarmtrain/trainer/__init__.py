"""Training that is stopped and resumed without a trace, on one machine or many.

    from swarmtrain.trainer import Options, Trainer, seed_everything

    seed_everything(0)
    model = ...
    with Trainer(model, train_data, optimizer, loss=F.cross_entropy, options=Options(batch_size=64)) as trainer:
        trainer.fit(epochs=10)

The standard library and torch are all it needs.
"""

from swarmtrain.errors import DriftError, TrainerError
from swarmtrain.trainer import snapshot, snapshots
from swarmtrain.trainer.dealing import SampleCursor
from swarmtrain.trainer.options import Every, Options
from swarmtrain.trainer.reports.report import report
from swarmtrain.trainer.seeding import derive_seed, seed_everything
from swarmtrain.trainer.trainer import Trainer

__all__ = [
    "DriftError",
    "Every",
    "Options",
    "SampleCursor",
    "Trainer",
    "TrainerError",
    "derive_seed",
    "report",
    "seed_everything",
    "snapshot",
    "snapshots",
]
