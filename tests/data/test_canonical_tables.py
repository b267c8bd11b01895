"""INRs come from the datamodule in canonical form, wherever their table is."""

import pytest
import torch
from tiny import tiny_spec

from lightning_dws.canonical import Aligned, CanonicalForm, Phases, Signs, to_canonical
from lightning_dws.data import INRDataModule
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore
from lightning_dws.models import FlatMLP


def forms() -> list[CanonicalForm]:
    return [Phases(), Aligned("signed_permutation")]


@pytest.fixture
def make_data(tmp_path, store):
    def make(stage="fit", **options):
        data = INRDataModule(tiny_spec(), root=str(tmp_path / "stores"), **options)
        data.prepare_data()
        data.setup(stage)
        return data

    return make


def wanted(store: INRStore, split: str, reference: torch.Tensor | None = None) -> torch.Tensor:
    """Give a split in form: aligned to the first training INR, or another one."""
    chosen = forms()
    first = store.split("train").parameters[0]
    chosen[1].reference = first if reference is None else reference
    return to_canonical(store.split(split), chosen).parameters


@pytest.mark.parametrize("table", ["device", "mapped"])
def test_every_split_is_in_canonical_form(make_data, table):
    data = make_data(table=table, views=2, batch_size=7, canonical=forms())
    train = wanted(data.store, "train")
    assert not torch.equal(train, data.store.split("train").parameters)
    assert torch.equal(torch.cat(list(data.train_parameters())), train)
    position = {(int(i), int(v)): row for i, v, row in _rows(data.store.split("train"))}
    for batch in data.train_dataloader():
        rows = [position[int(i), int(v)] for i, v in zip(batch.object_id, batch.view, strict=True)]
        assert torch.equal(batch.parameters, train[rows])
    data.setup("test")
    for split, loader in (("val", data.val_dataloader()), ("test", data.predict_dataloader())):
        found = torch.cat([batch.parameters for batch in loader])
        assert torch.equal(found, wanted(data.store, split))


def _rows(batch):
    return zip(batch.object_id, batch.view, range(len(batch)), strict=True)


def test_networks_are_standardised_by_what_they_see(make_data):
    data = make_data(canonical=[Signs()])
    network = FlatMLP(data.architecture, 3)
    network.standardize.fit(data.train_parameters())
    raw = FlatMLP(data.architecture, 3)
    raw.standardize.fit(Signs()(data.store.split("train", views=1)).parameters)
    assert torch.equal(network.standardize.mean, raw.standardize.mean)
    assert network.standardize.mean[0] > 0.01  # where weights of either sign have a mean of none


def test_the_reference_is_the_first_training_inr_whatever_is_loaded(make_data):
    few = make_data(num_train_objects=5, canonical=forms())
    test = make_data("test", canonical=forms())
    assert torch.equal(few.canonical[1].reference, test.canonical[1].reference)


def test_a_store_for_the_test_alone_gets_a_reference(tmp_path):
    data = INRDataModule(tiny_spec(), root=str(tmp_path), canonical=forms())
    data.trainer = _Trainer("test")
    data.prepare_data()
    assert [data.store.num_objects(split) for split in ("train", "val", "test")] == [1, 0, 6]


class _Trainer:
    """As much of a trainer as ``prepare_data`` looks at."""

    def __init__(self, stage):
        self.state = type("State", (), {"fn": type("Stage", (), {"value": stage})})


def test_a_checkpoint_brings_the_reference_of_its_training(make_data):
    data = make_data("test", canonical=forms())
    own = data.state_dict()["canonical_reference"]
    other = data.store.split("train").parameters[3]
    data.load_state_dict({"batches_augmented": 2, "canonical_reference": other})
    found = torch.cat([batch.parameters for batch in data.test_dataloader()])
    assert torch.equal(found, wanted(data.store, "test", other))
    assert not torch.equal(found, wanted(data.store, "test", own))
    assert torch.equal(data.state_dict()["canonical_reference"], other)


def test_without_forms_nothing_is_said_of_them(make_data):
    data = make_data()
    assert data.state_dict() == {"batches_augmented": 0}
    data.load_state_dict({"batches_augmented": 3})


def test_forms_are_refused_before_anything_is_loaded(make_data):
    with pytest.raises(DataError, match="canonical: Phases must not stand behind Signs"):
        make_data("validate", canonical=[Signs(), Phases()])
