from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.inrs.siren import evaluate_inrs
from lightning_dws.mixup import MixUp, mix_up, squared_distance
from lightning_dws.mixup.mixup import draw_beta

SINE = INRArchitecture((2, 6, 5, 1))
NUM_CLASSES = 4


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _batch(size: int, seed: int = 0, architecture: INRArchitecture = SINE) -> WeightBatch:
    rows = 0.1 * torch.randn(size, architecture.num_parameters, generator=_generator(seed))
    label = torch.randint(NUM_CLASSES, (size,), generator=_generator(seed + 1))
    return WeightBatch.from_parameters(architecture, rows, label)


def _trainer(rank: int = 0, seed: int = 0) -> Any:
    datamodule = SimpleNamespace(num_classes=NUM_CLASSES, seed=seed)
    return SimpleNamespace(global_rank=rank, datamodule=datamodule)


def _start(callback: MixUp, batch: WeightBatch, **trainer: int) -> WeightBatch:
    """Give the mixed batch, as the training step would see it."""
    same = batch.replace()
    callback.on_train_batch_start(_trainer(**trainer), nn.Module(), same, 0)  # type: ignore[arg-type]
    return same


class TestMixing:
    share = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])

    def test_mixes_parameters_and_targets_with_one_share(self) -> None:
        batch, partner = _batch(5), _batch(5, seed=7)
        mixed = mix_up(batch, partner, self.share, NUM_CLASSES)
        column = self.share[:, None]
        expected = column * batch.parameters + (1 - column) * partner.parameters
        torch.testing.assert_close(mixed.parameters, expected)
        one_hot = torch.eye(NUM_CLASSES)
        expected = column * one_hot[batch.label] + (1 - column) * one_hot[partner.label]
        torch.testing.assert_close(mixed.target, expected)
        assert mixed.target is not None
        assert mixed.target.dtype == torch.float32
        larger = [partner.label[:2], batch.label[2:]]
        assert torch.equal(mixed.label, torch.cat(larger))
        assert torch.equal(mixed.object_id, batch.object_id)

    def test_share_of_one_or_zero_is_bit_equal(self) -> None:
        batch, partner = _batch(5), _batch(5, seed=7)
        mixed = mix_up(batch, partner, self.share, NUM_CLASSES)
        assert torch.equal(mixed.parameters[-1], batch.parameters[-1])
        assert torch.equal(mixed.parameters[0], partner.parameters[0])

    def test_mixes_soft_targets_that_are_there(self) -> None:
        batch, partner = _batch(5), _batch(5, seed=7)
        batch = batch.replace(target=torch.rand(5, NUM_CLASSES, generator=_generator(1)))
        partner = partner.replace(target=torch.rand(5, NUM_CLASSES, generator=_generator(2)))
        mixed = mix_up(batch, partner, self.share, NUM_CLASSES)
        torch.testing.assert_close(
            mixed.target, torch.lerp(partner.target, batch.target, self.share[:, None])
        )
        hard = mix_up(batch, partner, self.share, NUM_CLASSES, labels="hard")
        assert torch.equal(hard.target, torch.cat([partner.target[:2], batch.target[2:]]))

    def test_hard_labels_are_of_the_larger_share(self) -> None:
        batch, partner = _batch(5), _batch(5, seed=7)
        mixed = mix_up(batch, partner, self.share, NUM_CLASSES, labels="hard")
        assert mixed.target is None
        assert torch.equal(mixed.label, torch.cat([partner.label[:2], batch.label[2:]]))


class TestCallback:
    def test_rebinds_the_batchs_fields_and_writes_into_no_tensor(self) -> None:
        batch = _batch(8)
        parameters, label = batch.parameters.clone(), batch.label.clone()
        mixed = _start(MixUp(), batch)
        assert not torch.equal(mixed.parameters, parameters)
        assert torch.equal(batch.parameters, parameters)
        assert torch.equal(batch.label, label)
        assert batch.target is None
        assert mixed.target is not None

    def test_partners_are_a_permutation_of_the_batch(self) -> None:
        batch = _batch(64)
        mixed = _start(MixUp(alpha=1e-4), batch)  # shares are all but 0 or 1
        distance = torch.cdist(mixed.parameters, batch.parameters)
        source = distance.argmin(dim=1)
        assert distance.amin(dim=1).max() < 1e-2
        own = source == torch.arange(64)
        assert 16 < own.sum() < 48
        assert len(source[~own].unique()) == (~own).sum()

    @pytest.mark.parametrize("alpha", [1e-4, 0.2, 1.0, 50.0])
    def test_shares_are_beta(self, alpha: float) -> None:
        share = draw_beta(alpha, 10_000, _generator(0))
        assert abs(share.mean() - 0.5) < 0.02
        assert abs(share.var() - 1 / (4 * (2 * alpha + 1))) < 0.005
        if alpha == 1:
            quantiles = torch.tensor([0.1, 0.5, 0.9])
            torch.testing.assert_close(share.quantile(quantiles), quantiles, rtol=0, atol=0.02)

    def test_p_is_per_sample(self) -> None:
        batch = _batch(1000)
        mixed = _start(MixUp(p=0.3), batch)
        untouched = mixed.parameters.eq(batch.parameters).all(dim=1)
        assert 0.63 < untouched.double().mean() < 0.77
        assert torch.equal(_start(MixUp(p=0.0), batch).parameters, batch.parameters)

    def test_same_seed_rank_and_count_same_batch(self) -> None:
        batch, mixed = _batch(8), _start(MixUp(), _batch(8)).parameters
        assert torch.equal(_start(MixUp(), batch).parameters, mixed)
        assert torch.equal(_start(MixUp(seed=0), batch, seed=5).parameters, mixed)
        assert not torch.equal(_start(MixUp(), batch, rank=1).parameters, mixed)
        assert not torch.equal(_start(MixUp(), batch, seed=1).parameters, mixed)
        again = MixUp()
        assert torch.equal(_start(again, batch).parameters, mixed)
        second = _start(again, batch).parameters
        assert not torch.equal(second, mixed)
        resumed = MixUp()
        resumed.load_state_dict({"batches_seen": 1})
        assert torch.equal(_start(resumed, batch).parameters, second)

    @pytest.mark.parametrize("alignment", ["none", "permutation", "signed_permutation"])
    @pytest.mark.parametrize("permute", [False, True])
    @pytest.mark.parametrize("size", [1, 2, 9])
    def test_takes_any_size(self, alignment: str, permute: bool, size: int) -> None:
        batch = _batch(size)
        mixed = _start(MixUp(alignment=alignment, permute=permute), batch)  # type: ignore[arg-type]
        assert mixed.parameters.shape == batch.parameters.shape
        assert mixed.parameters.isfinite().all()
        torch.testing.assert_close(mixed.target.sum(dim=1), torch.ones(size))
        if size == 1 and alignment != "none":
            torch.testing.assert_close(mixed.parameters, batch.parameters)

    def test_permutes_the_partner_and_keeps_its_function(self) -> None:
        batch = _batch(64)
        plain, permuted = (_start(MixUp(alpha=1e-4, permute=p), batch) for p in (False, True))
        x = torch.rand(20, 2, generator=_generator(0))
        replaced = (permuted.parameters - batch.parameters).norm(dim=1) > 0.1
        assert replaced.sum() > 10
        distance = (plain.parameters - permuted.parameters)[replaced].norm(dim=1)
        assert (distance > 0.1).sum() > 10
        values, wanted = evaluate_inrs(permuted, x), evaluate_inrs(batch, x)
        nearest = torch.cdist(values.flatten(1), wanted.flatten(1)).amin(dim=1)
        assert nearest.median() < 1e-2

    def test_aligned_partners_are_closer(self) -> None:
        batch = _batch(32)
        distance = [
            squared_distance(batch, _start(MixUp(alignment=alignment), batch)).mean()
            for alignment in ("none", "permutation", "signed_permutation")
        ]
        assert distance[0] > distance[1] > distance[2]

    def test_refuses_what_it_cannot_mix(self) -> None:
        callback, module = MixUp(), pl.LightningModule()
        with pytest.raises(TypeError, match="WeightBatch, got list"):
            callback.on_train_batch_start(_trainer(), module, [], 0)
        trainer: Any = SimpleNamespace(global_rank=0, datamodule=None)
        with pytest.raises(ValueError, match="datamodule with num_classes, got none"):
            callback.on_train_batch_start(trainer, module, _batch(2), 0)
        relu = _batch(2, architecture=INRArchitecture((2, 3, 1), activation="relu"))
        with pytest.raises(ValueError, match="signed_permutation is for sine"):
            _start(MixUp(alignment="signed_permutation"), relu)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"alpha": 0}, "alpha must be positive, got 0"),
            ({"alpha": -1}, "alpha must be finite and >= 0, got -1"),
            ({"p": 1.3}, r"p must be in \[0, 1\], got 1.3"),
            ({"alignment": "sign"}, "alignment must be one of .*got 'sign'"),
            ({"labels": "soft"}, "labels must be 'mixed' or 'hard', got 'soft'"),
        ],
    )
    def test_wrong_argument_is_named(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            MixUp(**arguments)


class Batches(pl.LightningDataModule):
    num_classes, seed = NUM_CLASSES, 3

    def __init__(self, batch_size: int = 6) -> None:
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self) -> "Batches":
        return self

    def __iter__(self) -> Iterator[WeightBatch]:
        return (_batch(self.batch_size, seed) for seed in range(4))

    def __len__(self) -> int:
        return 4


class Recorder(pl.LightningModule):
    """A linear classifier that keeps the batches that its training step got."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(SINE.num_parameters, NUM_CLASSES)
        self.seen: list[Tensor] = []

    def training_step(self, batch: WeightBatch, batch_idx: int) -> Tensor:
        assert batch.target is not None
        self.seen.append(batch.parameters.clone())
        return nn.functional.cross_entropy(self.linear(batch.parameters), batch.target)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def _fit(
    root: Path,
    max_epochs: int,
    resume_from: Path | None = None,
    batch_size: int = 6,
    **trainer_arguments: Any,
) -> Recorder:
    recorder = Recorder()
    trainer = pl.Trainer(
        max_epochs=max_epochs,
        callbacks=[MixUp(alignment="permutation")],
        enable_checkpointing=False,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **trainer_arguments,
    )
    trainer.fit(recorder, datamodule=Batches(batch_size), ckpt_path=resume_from)
    trainer.save_checkpoint(root / "last.ckpt")
    return recorder


# Lightning 2.6 asks torch >= 2.13 in a deprecated way whether it has a leaf.
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
class TestInATrainer:
    def test_resumed_run_sees_the_batches_of_the_straight_one(self, tmp_path: Path) -> None:
        straight = _fit(tmp_path / "straight", 2).seen
        stopped = _fit(tmp_path / "stopped", 1).seen
        resumed = _fit(tmp_path / "stopped", 2, tmp_path / "stopped" / "last.ckpt").seen
        assert len(straight) == 8
        assert torch.equal(torch.stack(straight), torch.stack(stopped + resumed))
        assert not torch.equal(straight[0], straight[4]), "epochs draw anew"

    def test_checkpoint_is_plain_data(self, tmp_path: Path) -> None:
        _fit(tmp_path, 1)
        checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
        [state] = [s for k, s in checkpoint["callbacks"].items() if k.startswith("MixUp")]
        assert state == {"batches_seen": 4}

    @pytest.mark.parametrize(
        "arguments",
        [
            {"accumulate_grad_batches": 3},
            {"precision": "bf16-mixed"},
            {"batch_size": 1},
        ],
        ids=str,
    )
    def test_draws_anew_for_every_batch(self, tmp_path: Path, arguments: dict[str, Any]) -> None:
        seen = _fit(tmp_path, 2, **arguments).seen
        assert len(seen) == 8
        assert all(rows.isfinite().all() for rows in seen)
        if "batch_size" not in arguments:
            assert not torch.equal(seen[0], seen[4])
