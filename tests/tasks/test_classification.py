import copy
import math
import pickle
import shutil

import pytest
import pytorch_lightning as pl
import torch
from tiny import FlatMLP, tiny_spec
from torch import nn
from torch.nn import functional

from lightning_dws.checkpoints import load_checkpoint
from lightning_dws.data import INRDataModule
from lightning_dws.errors import DataError
from lightning_dws.models import DWSNet
from lightning_dws.plugins import SyncBatchNorm
from lightning_dws.tasks import ClassificationTask


@pytest.fixture
def data(store):
    return INRDataModule(tiny_spec(), root=str(store.directory.parent), batch_size=8)


def make_trainer(tmp_path, **options):
    return pl.Trainer(
        **{
            "max_epochs": 2,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "log_every_n_steps": 1,
            "enable_model_summary": False,
            "default_root_dir": tmp_path,
            "accelerator": "cpu",
            **options,
        }
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1.0"),
        ({"warmup_steps": -1}, "warmup_steps must not be negative, got -1"),
        ({"schedule": "step"}, "schedule must be 'constant' or 'cosine', got 'step'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ClassificationTask(nn.Identity(), 3, **options)


def test_standardisation_is_filled_from_the_training_split(tmp_path, data):
    network = DWSNet(data.architecture, num_classes=3, hidden_dim=4, num_hidden=1, num_heads=1)
    make_trainer(tmp_path).fit(ClassificationTask(network, 3), datamodule=data)
    train = data.store.split("train", views=1)
    weight = train.weights[1].double()
    assert abs(network.standardize.mean[2] - weight.mean()) < 1e-6
    assert abs(network.standardize.std[2] - weight.std()) < 1e-6


def test_metrics_are_those_of_the_predictions(tmp_path, data):
    task = ClassificationTask(FlatMLP(data.architecture, 3), 3)
    data.prepare_data()
    [metrics] = make_trainer(tmp_path).test(task, datamodule=data, verbose=False)
    test = data.store.split("test")
    with torch.no_grad():
        logits = task.cpu()(test)
    right = logits.argmax(dim=1) == test.label
    per_class = [right[test.label == k].float().mean() for k in range(3)]
    assert metrics["test/accuracy"] == pytest.approx(float(right.float().mean()))
    assert metrics["test/accuracy_macro"] == pytest.approx(float(torch.stack(per_class).mean()))
    assert "test/accuracy_top5" not in metrics  # of three classes it would always be 1
    assert metrics["test/loss"] == pytest.approx(
        float(functional.cross_entropy(logits, test.label)), rel=1e-5
    )


def test_soft_targets_and_label_smoothing_enter_the_loss(tmp_path, data, store):
    batch = store.split("val")
    soft = batch.replace(target=torch.softmax(torch.randn(6, 3), dim=1))
    task = ClassificationTask(FlatMLP(data.architecture, 3), 3, label_smoothing=0.2)
    task.log = lambda *args, **kwargs: None
    logits = task(batch)
    log_p = logits.log_softmax(dim=1)
    for example, target in ((batch, functional.one_hot(batch.label, 3)), (soft, soft.target)):
        smoothed = 0.8 * target + 0.2 / 3
        expected = -(smoothed * log_p).sum(dim=1).mean()
        torch.testing.assert_close(task._step(example, "val")["loss"], expected)


def test_warm_up_and_cosine_go_by_step(tmp_path, data):
    rates = []

    class Recorder(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"] / 1e-3)

    task = ClassificationTask(FlatMLP(data.architecture, 3), 3, warmup_steps=2)
    make_trainer(tmp_path, callbacks=[Recorder()]).fit(task, datamodule=data)
    cosine = [0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    assert rates == pytest.approx([1 / 3, 2 / 3, *cosine])


def test_a_diverged_loss_is_reported_with_its_batch(tmp_path, data):
    class Diverging(FlatMLP):
        calls = 0

        def forward(self, batch):
            self.calls += self.training
            return super().forward(batch) * (float("nan") if self.calls == 5 else 1.0)

    task = ClassificationTask(Diverging(data.architecture, 3), 3)
    with pytest.raises(DataError, match="stopped being finite in batch 4 of this run"):
        make_trainer(tmp_path).fit(task, datamodule=data)


def test_dropout_differs_between_batches_and_repeats_between_runs(tmp_path, data):
    def weights():
        torch.manual_seed(0)
        task = ClassificationTask(FlatMLP(data.architecture, 3, dropout=0.5), 3)
        torch.rand(int(torch.randint(1, 100, ())))
        make_trainer(tmp_path).fit(task, datamodule=data)
        return task.network.first.weight

    assert torch.equal(weights(), weights())


def test_what_is_no_checkpoint_is_one_error(tmp_path):
    with pytest.raises(DataError, match="there is no such checkpoint"):
        load_checkpoint(tmp_path / "missing.ckpt")
    executed = tmp_path / "executed"

    class Hostile:
        def __reduce__(self):
            return open, (str(executed), "w")

    (tmp_path / "pickle").write_bytes(pickle.dumps(Hostile()))
    torch.save({"state_dict": Hostile()}, tmp_path / "torch")
    torch.save([1, 2], tmp_path / "list")
    (tmp_path / "text").write_text("hello")
    whole = (tmp_path / "list").read_bytes()
    (tmp_path / "short").write_bytes(whole[: len(whole) // 2])
    for name in ("pickle", "torch", "list", "text", "short"):
        with pytest.raises(DataError, match=f"{name}: not a"):
            load_checkpoint(tmp_path / name)
    assert not executed.exists()


def train_flat_mlp(tmp_path, data, **options):
    torch.manual_seed(0)
    task = ClassificationTask(FlatMLP(data.architecture, 3), 3, **options)
    make_trainer(tmp_path).fit(task, datamodule=data)
    return task


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # torch's compiler has its own
def test_a_compiled_network_trains_the_same(tmp_path, data):
    plain = train_flat_mlp(tmp_path, data).state_dict()
    task = train_flat_mlp(tmp_path, data, compile=True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    compiled = task.state_dict()
    assert plain.keys() == compiled.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled[name], tensor, rtol=1e-4, atol=1e-5)
    copied = copy.deepcopy(task.network)  # as an average of the weights does
    assert torch.equal(copied.head.weight, task.network.head.weight)


def test_launches_are_recorded_on_gpus_alone(tmp_path, data):
    with pytest.raises(DataError, match="cuda-graph is for GPUs of CUDA, this run is on cpu"):
        train_flat_mlp(tmp_path, data, compile="cuda-graph")


def test_without_a_compiler_the_network_runs_as_it_is(tmp_path, data, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no C++ compiler\nand a long trace")

    plain = train_flat_mlp(tmp_path, data).state_dict()
    monkeypatch.setattr(torch, "compile", fail)
    with pytest.warns(UserWarning, match="not compiled, torch.compile does not work: no C.. comp"):
        found = train_flat_mlp(tmp_path, data, compile=True).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in plain.items())


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_a_precision_that_would_convert_inrs_is_refused(tmp_path, data, precision):
    task = ClassificationTask(FlatMLP(data.architecture, 3), 3)
    trainer = make_trainer(tmp_path, precision=precision)
    with pytest.raises(DataError, match=f"precision {precision} would convert the INRs"):
        trainer.fit(task, datamodule=data)


# Lightning's: the averages of an epoch come to a schedule that is by step
@pytest.mark.filterwarnings("ignore:SWA is currently only supported every epoch")
def test_averaged_weights_have_statistics_of_their_own(tmp_path, store):
    root = str(store.directory.parent)
    data = INRDataModule(tiny_spec(), root=root, batch_size=24)  # all at once
    network = DWSNet(data.architecture, 3, hidden_dim=4, num_hidden=1, num_heads=1)
    average = pl.callbacks.StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=2)
    trainer = make_trainer(tmp_path, max_epochs=4, callbacks=[average])
    trainer.fit(ClassificationTask(network, 3), datamodule=data)
    expected = copy.deepcopy(network)
    for norm in expected.norms[0]:
        norm.momentum = 1.0
    with torch.no_grad():
        expected.train()(data.store.split("train", views=1))
    for found, norm in zip(network.norms[0], expected.norms[0], strict=True):
        torch.testing.assert_close(found.running_mean, norm.running_mean, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found.running_var, norm.running_var, rtol=1e-4, atol=1e-6)


def test_torchs_synchronised_batch_norm_is_refused(tmp_path, data):
    options = {"sync_batchnorm": True, "strategy": "ddp", "devices": 1}
    task = ClassificationTask(DWSNet(data.architecture, 3, hidden_dim=4, num_heads=1), 3)
    task.trainer = make_trainer(tmp_path, **options)
    with pytest.raises(DataError, match=r"sync_batchnorm: torch's .* DWSNet; .*SyncBatchNorm\(\)"):
        task.setup("fit")
    task.trainer = make_trainer(tmp_path, **options, plugins=[SyncBatchNorm()])
    task.setup("fit")
