"""What a run says when it ends, and what of Lightning's words is left out."""

import logging
import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from lightning_dws.callbacks import run_folder


@rank_zero_only
def tell_end(trainer: pl.Trainer, task: Any, best: str | None) -> None:
    """Print the test's score, and where everything is.

    Args:
        trainer: After the test.
        task: That was trained.
        best: Its best checkpoint, if there is one.
    """
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    lines = []
    if (value := metrics.get(f"test/{task.score}")) is not None:
        text = f"{100 * value:.1f} %" if task.in_percent else f"{value:.4g}"
        lines.append(f"{f'test {task.score}':<15} {text}")
    if best:
        lines.append(f"checkpoint      {best}")
    folder = run_folder(trainer)
    if (pictures := folder / "pictures").is_dir():
        lines.append(f"pictures        {pictures}")
    if isinstance(trainer.logger, TensorBoardLogger):
        lines.append(f"TensorBoard     tensorboard --logdir {folder}")
    Console().print("\n".join(lines), highlight=False, soft_wrap=True)


def quieten() -> None:
    """Leave out what pytorch-lightning says that no user of this project can act on."""
    warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec", FutureWarning)
    warnings.filterwarnings("ignore", "You requested to overfit but enabled")  # in a fixed order
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(
        lambda record: "litlogger" not in record.getMessage()
    )
