"""Whether a training split fits what the trainer wants of an epoch."""

import sys

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from lightning_dws.counting import counted
from lightning_dws.errors import DataError

_MUCH = 0.25  # of the INRs, left out of every epoch


def check_epoch(trainer: pl.Trainer, num_rows: int, num_batches: int, batch_size: int) -> None:
    """Refuse a validation that would never come, and say where an epoch leaves out much.

    Args:
        trainer: Of the run.
        num_rows: Training INRs of this process.
        num_batches: Of an epoch.
        batch_size: INRs of a batch.

    Raises:
        DataError: ``val_check_interval`` is more than the batches of an epoch.
    """
    limit = trainer.limit_train_batches
    available = min(num_batches, limit) if isinstance(limit, int) else int(num_batches * limit)
    every = trainer.val_check_interval
    by_epoch = trainer.check_val_every_n_epoch is not None
    if by_epoch and isinstance(every, int) and every > max(available, 1):
        raise DataError(
            f"trainer.val_check_interval is {every}, and an epoch has "
            f"{counted(available, 'batch', 'batches')}; with trainer.check_val_every_n_epoch null "
            "it counts batches of all epochs"
        )
    left_out = num_rows - num_batches * batch_size
    if left_out > _MUCH * num_rows:
        inrs = counted(num_rows, "training INR")
        batches = counted(num_batches, "batch", "batches")
        rank_zero_only(sys.stderr.write)(
            f"{inrs} in batches of {batch_size}: {batches} an epoch, "
            f"without {left_out} of them; data.batch_size or data.drop_last false "
            "changes that\n"
        )
