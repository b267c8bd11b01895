import csv
import math
import shutil

import pytest
import pytorch_lightning as pl
import torch
from task_words import EVERY_STEP, FIT, NETWORK, NOISE, checkpoints, places, same
from tiny import ARCHITECTURE, AddNoise, FlatMLP, tiny_spec
from torch import nn

from lightning_dws.cli import main
from lightning_dws.data import INRDataModule
from lightning_dws.data.paired_rows import PairedRows
from lightning_dws.errors import DataError
from lightning_dws.tasks import ContrastiveTask
from lightning_dws.tasks.frozen_features import FrozenFeatures
from lightning_dws.tasks.nt_xent import nt_xent

CONTRASTIVE = ["--task=contrastive", "--model.hidden_dim=6", "--model.projection_dim=4"]
VIEWS = [*CONTRASTIVE, "--model.pairs=views"]


def plain_nt_xent(projections, object_id, temperature) -> float:
    """Equation 1 of the paper, term by term in float64."""
    rows = [row / row.norm() for row in projections.double()]
    total, size = 0.0, len(rows)
    for i in range(size):
        j = (i + size // 2) % size
        similar = [math.exp(float(rows[i] @ row) / temperature) for row in rows]
        others = [k for k in range(size) if k == j or object_id[k] != object_id[i]]
        total -= math.log(similar[j] / sum(similar[k] for k in others))
    return total / size


def random_pairs(seed=0, size=7, distinct=True):
    generator = torch.Generator().manual_seed(seed)
    projections = torch.randn(2 * size, 5, generator=generator)
    ids = torch.arange(size) if distinct else torch.randint(3, (size,), generator=generator)
    return projections, ids.repeat(2)


@pytest.mark.parametrize("distinct", [True, False])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_loss_is_the_papers(temperature, distinct):
    projections, object_id = random_pairs(distinct=distinct)
    expected = plain_nt_xent(projections, object_id, temperature)
    assert float(nt_xent(projections, object_id, temperature)) == pytest.approx(expected, rel=1e-5)


def test_the_loss_knows_neither_the_order_of_pairs_nor_in_them_nor_lengths():
    projections, object_id = random_pairs()
    loss = nt_xent(projections, object_id, 0.2)
    order = torch.randperm(7)
    first, second = projections.view(2, 7, 5)
    for other in (
        torch.cat([first[order], second[order]]),
        torch.cat([second, first]),
        projections * torch.rand(14, 1).add(0.5),
    ):
        torch.testing.assert_close(nt_xent(other, object_id, 0.2), loss)
    mixed = torch.cat([first, second.roll(1, 0)])  # other pairs are another loss
    assert abs(float(nt_xent(mixed, object_id, 0.2) - loss)) > 1e-3


def test_pairs_that_are_alike_and_unlike_others_lose_nothing():
    rows = torch.eye(4).repeat(2, 1)
    assert float(nt_xent(rows, torch.arange(4).repeat(2), 0.05)) < 1e-6
    gradient_of = rows.clone().requires_grad_()
    nt_xent(gradient_of, torch.zeros(8, dtype=torch.int64), 0.05).backward()
    assert not gradient_of.grad.any()  # all of one object: there is nothing to be unlike


def test_a_partner_is_another_view_of_the_same_object():
    pairs = PairedRows("views", num_objects=5, views=4, seed=3)
    rows = torch.randperm(20)[:12]
    partners = [pairs(rows, epoch)[12:] for epoch in range(40)]
    for partner in partners:
        assert torch.equal(partner % 5, rows % 5)
        assert (partner != rows).all()
    assert {int(partner[0]) for partner in partners} == {
        int(rows[0]) % 5 + 5 * view for view in range(4)
    } - {int(rows[0])}
    assert torch.equal(pairs(rows, 7), pairs(rows, 7))
    assert torch.equal(PairedRows("draws", 5, 4, 3)(rows, 0), rows.repeat(2))


def test_the_probe_is_ridge_regression_and_neighbours_vote():
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(4, 6, generator=generator)
    label = torch.arange(80) % 4
    features = centres[label] + torch.randn(80, 6, generator=generator)
    known = FrozenFeatures.fit(features, label, 4)
    x = (features.double() - features.double().mean(0)) / features.double().std(0, correction=0)
    y = nn.functional.one_hot(label, 4).double()
    gram = x.T @ x + 1e-3 * 80 * torch.eye(6, dtype=torch.double)
    expected = x @ torch.linalg.inv(gram) @ x.T @ (y - y.mean(0)) + y.mean(0)
    torch.testing.assert_close(known.probe(features), expected)
    moved = 5 * features + 2  # a linear probe does not mind
    again = FrozenFeatures.fit(moved, label, 4).probe(moved)
    torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-4)
    fresh = centres[label] + torch.randn(80, 6, generator=generator)
    for scores in (known.probe(fresh), known.vote(fresh)):
        assert (scores.argmax(dim=1) == label).float().mean() > 0.9
    alone = FrozenFeatures.fit(features[:1], torch.zeros(1, dtype=torch.int64), 4)
    assert (alone.vote(fresh).argmax(dim=1) == 0).all()


def make_trainer(tmp_path, **options):
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    options = {"max_epochs": 1, "log_every_n_steps": 1, **options}
    return pl.Trainer(default_root_dir=tmp_path, accelerator="cpu", **quiet, **options)


def make_task(**options):
    network = FlatMLP(ARCHITECTURE, options.get("hidden_dim", 6))
    return ContrastiveTask(network, **{"hidden_dim": 6, "projection_dim": 4, **options})


class Watch(pl.Callback):
    def __init__(self):
        self.batches = []

    def on_train_batch_start(self, trainer, task, batch, batch_idx):
        self.batches.append(batch)


@pytest.mark.parametrize(("pairs", "views"), [("draws", 1), ("views", 2)])
def test_a_batch_is_pairs_that_are_augmented_each_by_itself(tmp_path, store, pairs, views):
    data = INRDataModule(
        tiny_spec(),
        root=str(store.directory.parent),
        batch_size=8,
        views=views,
        augmentations=[AddNoise()],
    )
    watch = Watch()
    trainer = make_trainer(tmp_path, callbacks=[watch])
    trainer.fit(make_task(pairs=pairs), datamodule=data)
    assert len(watch.batches) == 3 * views
    for batch in watch.batches:
        assert len(batch) == 16
        assert torch.equal(batch.object_id[:8], batch.object_id[8:])
        assert torch.equal(batch.view[:8], batch.view[8:]) == (pairs == "draws")
        assert not torch.equal(batch.parameters[:8], batch.parameters[8:])
    measured = {"val/probe_accuracy", "val/knn_accuracy", "train/loss"}
    assert measured <= trainer.callback_metrics.keys()


def test_probe_and_neighbours_are_those_of_the_network_as_it_is(tmp_path, store):
    data = INRDataModule(tiny_spec(), root=str(store.directory.parent), views=2)
    torch.manual_seed(0)
    task = make_task(pairs="views")
    data.prepare_data()
    for _ in range(2):  # and not those of the evaluation before
        [metrics] = make_trainer(tmp_path).test(task, datamodule=data, verbose=False)
        train, test = store.split("train", views=1), store.split("test")
        with torch.no_grad():
            features = [task.network.embed(part) for part in (train, test)]
        known = FrozenFeatures.fit(features[0], train.label, 3)
        for name, scores in (("probe", known.probe), ("knn", known.vote)):
            right = (scores(features[1]).argmax(dim=1) == test.label).float().mean()
            assert metrics[f"test/{name}_accuracy"] == pytest.approx(float(right))
        nn.init.normal_(task.network.first.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "pairs of two draws need data.augmentations"),
        (["--model.pairs=views", "--data.views=1"], "data.views of at least 2, got 1"),
        (
            ["--model.pairs=views", '--trainer.callbacks=[{"class_path": '
             '"lightning_dws.mixup.MixUp"}]'],
            "MixUp: ContrastiveTask trains on pairs",
        ),
        (["--model.pairs=views", "--model.network=test_base.Norm"], "Norm has no embed"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_told(tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        main(["fit", *FIT, *NETWORK, *CONTRASTIVE, *options, *places(tmp_path)])
    assert stop.value.code == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"projection_dim": 0}, "projection_dim must be at least 1, got 0"),
        ({"pairs": "triples"}, "pairs must be one of"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_task(**options)


def test_a_classifier_starts_from_the_features(tmp_path, capsys):
    """All of the network but its head is taken; a checkpoint gives its features as a file."""
    main(["fit", *FIT, *NETWORK, *VIEWS, *places(tmp_path)])
    assert "test probe_accuracy " in capsys.readouterr().out
    path = shutil.copy(checkpoints(tmp_path) / "last.ckpt", tmp_path / "features.ckpt")
    main(["predict", f"--ckpt_path={path}", f"--predictions.path={tmp_path / 'f.csv'}"])
    with open(tmp_path / "f.csv", newline="") as file:
        [first, *_] = list(csv.DictReader(file))
    assert list(first)[:4] == ["object_id", "view", "label", "prediction"]
    assert [name for name in first if name.startswith("feature ")] == [
        f"feature {number}" for number in range(8)
    ]
    frozen = ["--model.optimizer.lr=0", "--data.num_train_objects=6", f"--init_from={path}"]
    main(["fit", *FIT, *NETWORK, *frozen, *places(tmp_path)])
    assert "contrastive: its network is taken over but for its head" in capsys.readouterr().err
    old, new = (
        torch.load(file, weights_only=True)["state_dict"]
        for file in (path, checkpoints(tmp_path, 1) / "last.ckpt")
    )
    assert torch.equal(old["network.first.weight"], new["network.first.weight"])


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("stopped_after", [16, 24])
def test_a_resumed_run_ends_in_the_same_weights(tmp_path, stopped_after):
    """12 batches an epoch: stopped in mid-epoch, and at the end of one; bit for bit."""
    words = [*FIT, *NETWORK, *NOISE, *VIEWS, *EVERY_STEP, *places(tmp_path)]
    words += ["--model.network.init_args.dropout=0.2"]
    main(["fit", *words])
    stopped = shutil.copy(checkpoints(tmp_path) / f"{stopped_after}.ckpt", tmp_path / "stopped")
    main(["fit", *words, f"--ckpt_path={stopped}"])
    ends = [checkpoints(tmp_path, version) / "36.ckpt" for version in (0, 1)]
    assert same(*ends)
    assert not same(ends[0], checkpoints(tmp_path) / "35.ckpt")


def test_a_network_without_features_is_refused():
    with pytest.raises(DataError, match="Identity has no embed"):
        ContrastiveTask(nn.Identity())
