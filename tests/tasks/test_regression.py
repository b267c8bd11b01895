import csv
import itertools
import shutil

import pytest
import pytorch_lightning as pl
import torch
from scipy.stats import kendalltau
from task_words import EVERY_STEP, FIT, NETWORK, NOISE, checkpoints, places, same
from tiny import ARCHITECTURE, Blobs, FlatMLP, random_batch, tiny_spec
from torch import nn
from torchmetrics.functional import kendall_rank_corrcoef

from lightning_dws.cli import main
from lightning_dws.data import INRDataModule
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore, Wanted, prepare_store
from lightning_dws.mixup import MixUp
from lightning_dws.tasks import RegressionTask
from lightning_dws.tasks.regression_scores import R2, KendallTau

REGRESSION = ["--task=regression"]


class MeasuredBlobs(Blobs):
    """Blobs whose INRs are known by more than their PSNR: a share, and one without bound."""

    name = "measured-blobs"
    measures = ("share", "size", "broken")

    def measure(self, inrs):
        share = (inrs.object_id % 7).float() / 10
        broken = torch.where(inrs.object_id == 3, torch.nan, share)
        return {"share": share, "size": 1000 + 5 * inrs.parameters[:, 3], "broken": broken}


MEASURED = ["--data.dataset.signals=test_regression.MeasuredBlobs"]


def make_trainer(tmp_path, **options):
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    options = {"max_epochs": 1, "log_every_n_steps": 1, **options}
    return pl.Trainer(default_root_dir=tmp_path, accelerator="cpu", **quiet, **options)


@pytest.fixture
def data(tmp_path):
    return INRDataModule(tiny_spec(signals=MeasuredBlobs()), root=str(tmp_path), batch_size=8)


def test_columns_of_a_store_are_in_the_order_of_its_split(tmp_path):
    store = prepare_store(
        tmp_path / "store",
        tiny_spec(signals=MeasuredBlobs()),
        Wanted({"train": None, "val": None, "test": None}, {"train": 2}),
        show_progress=False,
    )
    columns = store.columns(["share", "psnr"], "train", num_objects=5, views=2)
    inrs = store.split("train", num_objects=5, views=2)
    torch.testing.assert_close(columns[:, 0], (inrs.object_id % 7).float() / 10)
    psnr = store.psnr("train").view(2, -1)[:, :5].flatten()
    assert torch.equal(columns[:, 1], psnr)
    with pytest.raises(DataError, match=r"knows no 'shore' .* only psnr, share, size, broken"):
        store.columns(["shore"], "train")


@pytest.mark.parametrize("table", ["device", "mapped"])
def test_batches_bring_the_targets_of_their_own_inrs(tmp_path, data, table):
    data.table, data.views, seen = table, 2, []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, task, batch, batch_idx):
            seen.append(batch)

    task = RegressionTask(FlatMLP(ARCHITECTURE, 2), ["share", "size"])
    make_trainer(tmp_path, callbacks=[Watch()]).fit(task, datamodule=data)
    assert sum(map(len, seen)) == 48
    for batch in seen:
        expected = (batch.object_id % 7).float() / 10, 1000 + 5 * batch.parameters[:, 3]
        torch.testing.assert_close(batch.target, torch.stack(expected, dim=1))


class Linear(nn.Module):
    """The simplest network."""

    def __init__(self, architecture, num_classes):
        super().__init__()
        self.linear = nn.Linear(architecture.num_parameters, num_classes)

    def forward(self, batch):
        return self.linear(batch.parameters)


def test_a_linear_target_is_learned(tmp_path, data):
    """It is far from zero: without standardised targets nothing would be learned so soon."""
    torch.manual_seed(0)
    task = RegressionTask(
        Linear(ARCHITECTURE, 1), ["size"], optimizer=lambda p: torch.optim.Adam(p, lr=0.02)
    )
    trainer = make_trainer(tmp_path, max_epochs=80, check_val_every_n_epoch=80)
    trainer.fit(task, datamodule=data)
    assert float(trainer.callback_metrics["train/loss"]) < 0.1
    assert float(trainer.callback_metrics["train/r2"]) > 0.9
    train = data.store.split("train", views=1)
    with torch.no_grad():
        predicted = task.predict_step(train, 0)["predicted"]
    size = data.store.columns(["size"], "train", views=1)
    assert (predicted - size).std() < 0.3 * size.std()


def test_targets_are_standardised_by_the_training_split_and_the_loss_of_their_mean_is_one(
    tmp_path, data
):
    task = RegressionTask(FlatMLP(ARCHITECTURE, 1), ["size"])
    make_trainer(tmp_path, max_epochs=0).fit(task, datamodule=data)
    for parameter in task.parameters():
        nn.init.zeros_(parameter)
    size = data.store.columns(["size"], "train", views=1)
    torch.testing.assert_close(task.target_mean, size.mean(dim=0))
    train = data.store.split("train", views=1).replace(target=size)
    assert float(task._step(train, "train")["loss"].detach()) == pytest.approx(1, rel=1e-3)
    torch.testing.assert_close(
        task._step(train, "train")["prediction"], size.mean().expand_as(size)
    )


def test_kendalls_tau_is_scipys_and_r2_is_one_minus_the_unexplained_share():
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randn(40, 2, generator=generator)
    true = (predicted + torch.randn(40, 2, generator=generator)).mul(3).round()  # with ties
    tau, r2 = KendallTau(num_outputs=2), R2()
    for part in (slice(0, 15), slice(15, 40)):
        tau.update(predicted[part], true[part])
        r2.update(predicted[part], true[part])
    wanted = [
        kendalltau(p, t).statistic for p, t in zip(predicted.T.numpy(), true.T.numpy(), strict=True)
    ]
    assert float(tau.compute()) == pytest.approx(sum(wanted) / 2, abs=1e-6)
    p, t = predicted.double(), true.double()
    unexplained = ((t - p) ** 2).sum(dim=0) / ((t - t.mean(dim=0)) ** 2).sum(dim=0)
    assert float(r2.compute()) == pytest.approx(float((1 - unexplained).mean()), abs=1e-5)
    plain = kendall_rank_corrcoef(predicted, true)
    assert float(tau.compute()) == pytest.approx(float(plain.mean()), abs=1e-6)
    constant = KendallTau()
    constant.update(torch.zeros(5), torch.arange(5.0))
    assert constant.compute().isnan()
    single = R2()
    single.update(torch.tensor([1.0]), torch.tensor([2.0]))
    assert single.compute().isnan()


def test_mixup_mixes_the_targets():
    batch = random_batch(size=50)
    # the same shares of the same partners make both: what is linear of the weights is of the mix
    column = torch.linspace(-1, 1, ARCHITECTURE.num_parameters)
    target = torch.stack([batch.parameters @ column, batch.parameters[:, 3]], dim=1)
    mixed = MixUp().mix(batch.replace(target=target), 2, torch.Generator().manual_seed(0))
    expected = torch.stack([mixed.parameters @ column, mixed.parameters[:, 3]], dim=1)
    torch.testing.assert_close(mixed.target, expected, rtol=1e-4, atol=1e-4)
    assert not torch.equal(mixed.target, target)


def test_a_regression_needs_no_classes_not_even_for_mixup(tmp_path, data):
    MeasuredBlobs.classes = ()
    try:
        blobs = MeasuredBlobs()
        blobs.label.zero_()
        data.dataset = tiny_spec(signals=blobs)
        task = RegressionTask(FlatMLP(ARCHITECTURE, 1), ["psnr"])
        trainer = make_trainer(tmp_path, callbacks=[MixUp()])
        trainer.fit(task, datamodule=data)
    finally:
        MeasuredBlobs.classes = Blobs.classes
    assert trainer.global_step == 3


def test_shares_are_predicted_as_shares(tmp_path, data):
    task = RegressionTask(FlatMLP(ARCHITECTURE, 1), ["share"], loss="binary_cross_entropy")
    trainer = make_trainer(tmp_path)
    trainer.fit(task, datamodule=data)
    batches = trainer.predict(task, datamodule=data)
    predicted = torch.cat([batch["predicted"] for batch in batches])
    assert (predicted > 0).all()
    assert (predicted < 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ["broken"]}, "broken of 1 train INR is not a finite number, such as nan"),
        (
            {"targets": ["size"], "loss": "binary_cross_entropy"},
            r"size of 24 train INRs is not a share in \[0, 1\]",
        ),
        ({"targets": ["iou"]}, "knows no 'iou' of its INRs, only psnr, share"),
        ({"targets": ["psnr", "size"]}, r"FlatMLP gives shape \(6, 1\), expected numbers"),
    ],
)
def test_targets_that_cannot_be_trained_on_are_named(tmp_path, data, options, message):
    task = RegressionTask(FlatMLP(ARCHITECTURE, 1), **options)
    with pytest.raises(DataError, match=message):
        make_trainer(tmp_path).fit(task, datamodule=data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": []}, "targets must be names of columns"),
        ({"targets": "psnr"}, "targets must be names of columns"),
        ({"targets": ["psnr", "psnr"]}, "each once"),
        ({"targets": ["psnr"], "loss": "l1"}, "loss must be one of"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        RegressionTask(nn.Identity(), **options)


def test_targets_that_are_not_given_are_asked_for(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", *FIT, *NETWORK, *REGRESSION, *places(tmp_path)])
    assert stop.value.code == 2
    assert "error: model.targets: found nothing, expected" in capsys.readouterr().err


def test_a_run_leaves_pictures_and_predictions(tmp_path, capsys):
    words = [*FIT, *NETWORK, *REGRESSION, *MEASURED, "--model.targets=[size, share]"]
    main(["fit", *words, *places(tmp_path)])
    assert "test r2         " in capsys.readouterr().out
    folder = checkpoints(tmp_path).parent
    for split in ("val", "test"):
        assert (folder / "pictures" / f"{split}_predictions.png").stat().st_size > 5000
    path = folder / "checkpoints" / "last.ckpt"
    main(["predict", f"--ckpt_path={path}", f"--predictions.path={tmp_path / 'p.csv'}"])
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    [directory] = (tmp_path / "data").iterdir()
    store = INRStore(directory)
    test, true = store.split("test"), store.columns(["size", "share"], "test")
    task = RegressionTask.from_checkpoint(path)
    with torch.no_grad():
        predicted = task.predict_step(test, 0)["predicted"]
    order = test.object_id.argsort().tolist()
    assert [int(row["object_id"]) for row in rows] == test.object_id[order].tolist()
    for (what, values), (k, name) in itertools.product(
        (("true", true), ("predicted", predicted)), enumerate(("size", "share"))
    ):
        found = torch.tensor([float(row[f"{what} {name}"]) for row in rows])
        torch.testing.assert_close(found, values[order, k], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_resumed_run_ends_in_the_same_weights(tmp_path):
    mixup = '--trainer.callbacks=[{"class_path": "lightning_dws.mixup.MixUp"}]'
    words = [*FIT, *NETWORK, *NOISE, mixup, *REGRESSION, "--model.targets=[psnr]", *EVERY_STEP]
    words += ["--model.network.init_args.dropout=0.2", *places(tmp_path)]
    main(["fit", *words])
    stopped = shutil.copy(checkpoints(tmp_path) / "16.ckpt", tmp_path / "stopped.ckpt")
    main(["fit", *words, f"--ckpt_path={stopped}"])
    ends = [checkpoints(tmp_path, version) / "36.ckpt" for version in (0, 1)]
    assert same(*ends)
    assert not same(ends[0], checkpoints(tmp_path) / "35.ckpt")
