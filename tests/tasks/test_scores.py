"""The scores of an epoch are torchmetrics', and what a run logs is what its steps gave."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from tiny import FlatMLP, tiny_spec
from torchmetrics.classification import MulticlassAccuracy

from lightning_dws.data import INRDataModule
from lightning_dws.randomness import seed_torch
from lightning_dws.tasks import ClassificationTask
from lightning_dws.tasks.scores import Score, Scores


def expected_scores(parts, num_classes):
    """Score (loss, logits, label) of batches with torchmetrics."""
    metrics = {
        "accuracy": MulticlassAccuracy(num_classes, average="micro"),
        "accuracy_macro": MulticlassAccuracy(num_classes, average="macro"),
    }
    if num_classes > 5:
        metrics["accuracy_top5"] = MulticlassAccuracy(num_classes, average="micro", top_k=5)
    for metric in metrics.values():
        for _, logits, label in parts:
            metric.update(logits, label)
    loss = sum(float(loss) * len(label) for loss, _, label in parts)
    return {name: float(metric.compute()) for name, metric in metrics.items()} | {
        "loss": loss / sum(len(label) for _, _, label in parts)
    }


@pytest.mark.parametrize(("num_classes", "labels"), [(3, 3), (12, 12), (12, 4), (12, 1)])
@pytest.mark.parametrize("ties", [False, True])
def test_scores_are_those_of_torchmetrics(num_classes, labels, ties):
    """Also of classes that do not occur, of batches of other sizes, and of logits all alike."""
    generator = torch.Generator().manual_seed(0)
    scores = Scores(num_classes)
    parts = []
    for size in (7, 40, 3):
        logits = torch.randn(size, num_classes, generator=generator)
        logits[:, num_classes // 2 :] -= 5  # hardly ever predicted
        label = torch.randint(labels, (size,), generator=generator)
        parts.append(
            (torch.rand((), generator=generator), logits.round() if ties else logits, label)
        )
    for part in parts:
        scores.update(*part)
    found = {name: float(Score(scores, name).compute()) for name in scores.names}
    assert found == pytest.approx(expected_scores(parts, num_classes), rel=1e-6)
    assert {k: v for k, v in found.items() if "loss" not in k} == {
        k: v for k, v in expected_scores(parts, num_classes).items() if "loss" not in k
    }


def test_scores_begin_anew_after_each_is_reset():
    scores = Scores(3)
    parts = [
        (torch.tensor(1.0), torch.eye(3), torch.tensor([0, 1, 1])),
        (torch.tensor(2.0), torch.eye(3), torch.arange(3)),
    ]
    for part in parts:
        scores.update(*part)
        found = [float(Score(scores, name).compute()) for name in scores.names]
        for name in scores.names:
            Score(scores, name).reset()
        expected = expected_scores([part], 3)
        assert found == pytest.approx([expected[name] for name in scores.names])


def test_torch_is_seeded_as_by_its_own_function():
    torch.manual_seed(7)
    expected = torch.rand(5)
    torch.rand(3)
    seed_torch(7, torch.device("cpu"))
    assert torch.equal(torch.rand(5), expected)


class Steps(pl.Callback):
    """Keeps what every step of the current epoch gave, and what is known when it ends."""

    def __init__(self):
        self.parts = {"train": [], "val": []}
        self.expected = {"train": [], "val": []}
        self.known = []

    def keep(self, split, outputs, batch):
        self.parts[split].append((outputs["loss"].detach(), outputs["logits"], batch.label.clone()))

    def close(self, split):
        scores = expected_scores(self.parts[split], 3)
        self.expected[split].append({f"{split}/{name}": value for name, value in scores.items()})
        self.parts[split] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        loss = outputs["loss"] * trainer.accumulate_grad_batches  # Lightning gives its share
        self.keep("train", {**outputs, "loss": loss}, batch)
        dict(trainer.callback_metrics)  # to look does not change anything

    def on_validation_batch_end(self, trainer, module, outputs, batch, *_):
        self.keep("val", outputs, batch)

    def on_validation_epoch_end(self, trainer, module):
        if trainer.sanity_checking:
            self.parts["val"] = []
        else:
            self.close("val")

    def on_train_epoch_end(self, trainer, module):
        self.known.append(float(trainer.callback_metrics["train/accuracy"]))
        self.close("train")


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 3},
        {"max_epochs": 2, "val_check_interval": 1},
        {"max_steps": 5, "val_check_interval": 2},  # ends in mid-epoch
        {"max_epochs": 2, "limit_train_batches": 2, "accumulate_grad_batches": 2},
    ],
)
# Lightning's, where a run of so few steps never writes to the log in between
@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_what_is_logged_is_what_the_steps_gave(tmp_path, store, options):
    """In every epoch of training, also one that ends early, and in every validation."""
    data = INRDataModule(
        tiny_spec(), root=str(store.directory.parent), batch_size=8, eval_batch_size=4
    )
    steps, logger = Steps(), CSVLogger(tmp_path)
    trainer = pl.Trainer(
        logger=logger,
        callbacks=[steps],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        **options,
    )
    logged = {"train": [], "val": []}

    def log_metrics(metrics, step=None):
        for split, found in logged.items():
            if f"{split}/accuracy" in metrics:
                found.append(
                    {
                        k: v
                        for k, v in metrics.items()
                        if k.startswith(f"{split}/") and k != "train/loss_step"
                    }
                )

    logger.log_metrics = log_metrics
    torch.manual_seed(0)
    trainer.fit(ClassificationTask(FlatMLP(data.architecture, 3), 3), datamodule=data)
    for split, found in logged.items():
        assert len(found) == len(steps.expected[split]) > 0
        for one, expected in zip(found, steps.expected[split], strict=True):
            assert one == pytest.approx(expected, rel=1e-5)
    assert steps.known == pytest.approx([one["train/accuracy"] for one in logged["train"]])
