"""What a task declares is what the command line, the checkpoints and the log go by."""

from typing import ClassVar, Literal

import torch
from pytorch_lightning.cli import OptimizerCallable
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional
from torchmetrics import MeanMetric

from lightning_dws.callbacks import PredictionFile
from lightning_dws.lightning_cli import run_lightning
from lightning_dws.tasks import ClassificationTask, WeightSpaceTask

FIT = [
    "fit",
    "--data.dataset.signals=tiny.Blobs",
    "--data.dataset.architecture.widths=[2,6,5,1]",
    '--data.dataset.recipe={"steps": 10, "learning_rate": 0.005}',
    *("--data.num_train_objects=20", "--data.num_val_objects=6", "--data.num_test_objects=6"),
    *("--data.batch_size=8", "--trainer.max_epochs=2", "--trainer.accelerator=cpu"),
    *("--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false"),
]


class Norm(torch.nn.Module):
    """The norm of an INR's parameters, times a factor that is learned."""

    def __init__(self, architecture=None):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, batch):
        return self.factor * batch.parameters.square().mean(dim=1)


class NormTask(WeightSpaceTask):
    """Learn to tell the sum of squares: a regression with an error of its own."""

    score = "error"
    callback_classes: ClassVar = {"numbers": PredictionFile}

    def __init__(
        self,
        network: torch.nn.Module,
        optimizer: OptimizerCallable = torch.optim.SGD,
        schedule: Literal["constant", "cosine"] = "constant",
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(network, optimizer, schedule, warmup_steps)
        for metrics in self.metrics.values():
            metrics["error"] = MeanMetric()

    def _step(self, batch, split):
        loss = functional.mse_loss(self(batch), batch.parameters.square().sum(dim=1))
        self.metrics[f"{split}_"]["error"].update(loss.detach().sqrt())
        return {"loss": loss}


def places(tmp_path):
    return [f"--data.root={tmp_path / 'data'}", f"--trainer.default_root_dir={tmp_path / 'runs'}"]


def test_a_task_of_ones_own_is_monitored_reported_and_logged_by_its_score(tmp_path, capsys):
    network = ["--model.network=test_base.Norm", "--model.optimizer.lr=1e-3"]
    words = [*FIT, *places(tmp_path), *network, "--numbers.path=numbers.csv"]
    cli = run_lightning(words, task_class=NormTask)
    checkpoint = cli.trainer.checkpoint_callback
    assert (checkpoint.monitor, checkpoint.mode) == ("val/error", "min")
    error = float(cli.trainer.callback_metrics["test/error"])
    assert f"test error      {error:.4g}" in capsys.readouterr().out
    assert [c.path for c in cli.trainer.callbacks if isinstance(c, PredictionFile)] == [
        "numbers.csv"
    ]
    log = EventAccumulator(cli.trainer.logger.log_dir).Reload()
    curve = [point.value for point in log.Scalars("val/error")]
    assert curve[1] < curve[0]  # it learns
    assert [point.value for point in log.Scalars("hp/val_error")][-2:] == curve
    again = NormTask.from_checkpoint(checkpoint.best_model_path, Norm())
    assert torch.equal(again.network.factor, cli.model.network.factor)


def test_the_best_accuracy_is_logged_whatever_chooses_the_checkpoint(tmp_path):
    cli = run_lightning(
        [
            *(*FIT, *places(tmp_path), "--model.network=tiny.FlatMLP"),
            *("--checkpoint.monitor=val/loss", "--checkpoint.mode=min"),
        ]
    )
    assert isinstance(cli.model, ClassificationTask)
    log = EventAccumulator(cli.trainer.logger.log_dir).Reload()
    accuracies = [point.value for point in log.Scalars("val/accuracy")]
    assert log.Scalars("hp/val_accuracy")[-1].value == max(accuracies)
