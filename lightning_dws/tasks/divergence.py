"""Stop a training whose loss is not finite any more."""

import math

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_dws.errors import DataError


class DivergenceWatch:
    """Looks at every loss on a CPU; on a GPU, where a look waits for it, only now and then."""

    def __init__(self) -> None:
        self._diverged_at: Tensor | None = None  # the first batch, infinite before

    def watch(self, loss: Tensor, trainer: pl.Trainer) -> None:
        """Look at the loss of a batch.

        Raises:
            DataError: A loss was not finite.
        """
        step = trainer.fit_loop.total_batch_idx
        if loss.device.type == "cpu":
            if not math.isfinite(loss.item()):
                self._report(step, trainer)
            return
        now = torch.where(loss.detach().isfinite(), math.inf, float(step))
        known = now if self._diverged_at is None else self._diverged_at
        self._diverged_at = torch.minimum(known, now)
        every = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
        if (step % every == 0 or trainer.is_last_batch) and self._diverged_at.isfinite():
            self._report(int(self._diverged_at), trainer)

    def _report(self, step: int, trainer: pl.Trainer) -> None:
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        raise DataError(
            f"the training loss stopped being finite in batch {step} of this run (learning rate "
            f"{rate:.3g}); checkpoints saved before are kept"
        )
