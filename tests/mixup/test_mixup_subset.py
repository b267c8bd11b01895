"""MixUp in a real run: the partners come from what the run was given, and nothing else."""

import pytest
import pytorch_lightning as pl
import torch
from tiny import EVERYTHING, FlatMLP, tiny_spec

from lightning_dws.data import INRDataModule
from lightning_dws.inrs import Wanted, prepare_store
from lightning_dws.mixup import MixUp, mixup
from lightning_dws.tasks import ClassificationTask


@pytest.mark.parametrize("alignment", ["none", "signed_permutation"])
def test_partners_are_of_the_training_subset(tmp_path, monkeypatch, alignment):
    """Ten views and 24 objects are stored; the run is given one view of nine objects."""
    spec = tiny_spec()
    prepare_store(
        tmp_path / spec.store_name, spec, Wanted(EVERYTHING, {"train": 10}), show_progress=False
    )
    data = INRDataModule(spec, root=str(tmp_path), num_train_objects=9, batch_size=3)
    seen = []

    def watch(batch, partner, *rest):
        seen.append((batch, partner))
        return original(batch, partner, *rest)

    original = mixup.mix_up
    monkeypatch.setattr(mixup, "mix_up", watch)
    trainer = pl.Trainer(
        max_epochs=4,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        callbacks=[MixUp(alignment=alignment)],
        accelerator="cpu",
    )
    trainer.fit(ClassificationTask(FlatMLP(data.architecture, 3), 3), datamodule=data)
    assert len(seen) == 12
    allowed = set(spec.signals.split("train").object_id[:9].tolist())
    partners = {int(i) for _, partner in seen for i in partner.object_id}
    assert len(partners) > 3
    assert partners <= allowed
    assert not any(partner.view.any() for _, partner in seen)
    for batch, partner in seen:
        assert torch.equal(batch.object_id.sort().values, partner.object_id.sort().values)
