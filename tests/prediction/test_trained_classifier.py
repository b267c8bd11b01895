"""A checkpoint in Python: it classifies INRs, networks and images, or says why it cannot."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from saved import CLASSES, blob_images, rewrite_note, save_checkpoint, save_network, write_images
from tiny import ARCHITECTURE, RECIPE, Blobs, FlatMLP, ManyOutputs, random_batch

import lightning_dws
from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.data import INRDataModule
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore, fit_inrs
from lightning_dws.inrs.signals import SignalDataset
from lightning_dws.tasks import ClassificationTask

OLD = Path(__file__).parents[1] / "data" / "checkpoints" / "version_0_1_0.ckpt"


@pytest.fixture
def classifier(tmp_path):
    return lightning_dws.load_checkpoint(save_network(tmp_path / "net.ckpt"))


def test_inrs_and_networks_are_classified_as_the_network_says(classifier):
    batch = random_batch(size=7)
    predictions = classifier.predict(batch)
    with torch.no_grad():
        expected = classifier.network(batch).softmax(dim=1)
    torch.testing.assert_close(predictions.probabilities, expected)
    assert predictions.class_names == [CLASSES[index] for index in expected.argmax(dim=1)]
    assert (predictions.psnr, predictions.accuracy, len(predictions)) == (None, None, 7)
    networks = [batch.to_sequential(index) for index in range(7)]
    assert torch.equal(classifier.predict(networks).probabilities, predictions.probabilities)


def test_an_image_is_the_same_one_however_it_is_given(classifier, tmp_path):
    pixels = blob_images(2)
    floats = torch.from_numpy(pixels).float() / 255
    expected = classifier.predict(pixels)
    assert expected.psnr is not None
    assert expected.psnr.isfinite().all()
    for given in (
        [Image.fromarray(image) for image in pixels],
        write_images(tmp_path / "images", 2),
        list(pixels[:, None]),
        floats,
        floats[..., None],
        [image.repeat(3, 1, 1) for image in floats],
    ):
        found = classifier.predict(given)
        assert torch.equal(found.inrs.parameters, expected.inrs.parameters)
    alone = classifier.predict(pixels[1:])  # whatever it is fitted together with
    assert torch.equal(alone.probabilities, expected.probabilities[1:])
    again = classifier.predict([pixels[0], pixels[0]]).inrs.parameters
    assert torch.equal(again[0], again[1])


def test_images_are_fitted_as_those_that_were_trained_on(classifier):
    signals = Blobs()
    batch, psnr = classifier.fit(signals.load_images()[0][:2].clamp(0, 1))
    expected, expected_psnr = fit_inrs(
        signals.values(torch.arange(2)).clamp(0, 1),
        signals.coordinates,
        ARCHITECTURE,
        recipe=RECIPE,
        seed=0,
        object_id=batch.object_id,
        view=torch.zeros(2, dtype=torch.int64),
    )
    assert torch.equal(batch.parameters, expected.parameters)
    assert torch.equal(psnr, expected_psnr)


@pytest.mark.parametrize(
    ("images", "named"),
    [
        ([], "no images were given"),
        ([torch.full((5, 6), 2.0)], r"image 0: values from 2 to 2, expected some in \[0, 1\]"),
        ([torch.zeros(5, 6, dtype=torch.int64)], "image 0: values of int64"),
        ([torch.zeros(5, 6), torch.zeros(7)], "image 1: not an image but a Tensor of shape"),
        ([torch.zeros(5, 6, 7)], "image 0: shape .* has neither"),
        ([object()], "image 0: not an image but a object"),
        (["none.png"], "image 0: none.png: is missing"),
    ],
)
def test_what_is_no_image_is_named(classifier, images, named):
    with pytest.raises(DataError, match=named):
        classifier.predict(images)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"widths": (2, 7, 5, 1)}, r"INRs of widths \(2, 7, 5, 1\), but .* \(2, 6, 5, 1\)"),
        ({"w0": 9.0}, "INRs of w0 9.0, but .* 8.0"),
        ({"activation": "relu"}, "INRs of activation relu, but .* sine"),
        ({"output_offset": 0.0}, "INRs of output_offset 0.0, but .* 0.5"),
    ],
)
def test_inrs_of_another_architecture_are_refused(classifier, changes, named):
    plain = ARCHITECTURE.to_dict() | changes
    batch = random_batch(INRArchitecture(**plain))
    with pytest.raises(DataError, match=named):
        classifier.predict(batch)
    with pytest.raises(DataError, match=r"network 0|state dict 0"):
        classifier.predict([batch.to_sequential(0)])


class Silent(Blobs):
    """Images that say not how they are prepared."""

    preparation = SignalDataset.preparation


@pytest.mark.parametrize("signals", [Silent(), ManyOutputs()])
def test_images_for_a_network_that_cannot_say_how_they_are_prepared_are_refused(tmp_path, signals):
    outputs = 4 if isinstance(signals, ManyOutputs) else 1
    architecture = INRArchitecture((2, 6, 5, outputs), w0=8.0)
    path = save_checkpoint(tmp_path / "net.ckpt", signals, architecture=architecture)
    classifier = lightning_dws.load_checkpoint(path)
    assert len(classifier.predict(random_batch(architecture))) == 4
    with pytest.raises(DataError, match="does not say how files become such"):
        classifier.predict(blob_images())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"header": 3}, "how its INRs were fitted cannot be read"),
        ({"psnr": "high"}, "how its INRs were fitted cannot be read .*psnr"),
        ({"more": 1}, "how its INRs were fitted cannot be read .*more"),
    ],
)
def test_a_record_that_is_none_is_one_error(tmp_path, changes, named):
    path = save_network(tmp_path / "net.ckpt")
    record = lightning_dws.load_checkpoint(path).record.to_dict()
    rewrite_note(path, inrs=record | changes)
    with pytest.raises(DataError, match=named):
        lightning_dws.load_checkpoint(path).predict(blob_images())


def test_a_checkpoint_of_an_earlier_version_classifies_inrs_and_their_files(tmp_path):
    classifier = lightning_dws.load_checkpoint(OLD)
    batch = random_batch(classifier.architecture)
    expected = classifier.predict(batch)
    assert expected.classes == ("0", "1", "2")
    torch.save(batch.to_sequential(2).state_dict(), tmp_path / "inr.pth")
    found = classifier.predict(tmp_path / "inr.pth")
    torch.testing.assert_close(found.probabilities, expected.probabilities[2:3])
    with pytest.raises(DataError, match="does not say how its INRs were fitted, nor on what"):
        classifier.predict(blob_images())


def test_imported_inrs_cannot_be_fitted_and_say_so(tmp_path):
    path = save_network(tmp_path / "net.ckpt")
    record = lightning_dws.load_checkpoint(path).record.to_dict()
    record["header"]["recipe"] = {"imported": "nfn"}
    rewrite_note(path, inrs=record)
    with pytest.raises(DataError, match="they were imported as nfn"):
        lightning_dws.load_checkpoint(path).predict(blob_images())


def test_from_images_to_predictions_in_python_alone(tmp_path):
    """Fitted, written, trained on, saved, loaded, and asked about other images."""
    signals = Blobs()
    object_id = torch.arange(36)
    batch, psnr = fit_inrs(
        signals.values(object_id),
        signals.coordinates,
        ARCHITECTURE,
        recipe=RECIPE,
        seed=3,
        object_id=object_id,
        view=torch.zeros_like(object_id),
    )
    store = INRStore.write(
        tmp_path / "mine",
        batch.replace(label=signals.label),
        signals.classes,
        psnr=psnr,
        recipe=RECIPE,
        seed=3,
        grid_shape=(5, 6),
    )
    data = INRDataModule(store=str(store.directory))
    assert (data.num_classes, data.architecture) == (3, ARCHITECTURE)
    trainer = pl.Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        accelerator="cpu",
    )
    data.batch_size = 8
    trainer.fit(ClassificationTask(FlatMLP(data.architecture, 3), 3), datamodule=data)
    trainer.save_checkpoint(tmp_path / "mine.ckpt")
    classifier = lightning_dws.load_checkpoint(tmp_path / "mine.ckpt")
    assert classifier.record.psnr == pytest.approx(float(store.psnr("train").median()))
    found = classifier.predict(blob_images(3))
    assert found.classes == signals.classes
    assert isinstance(found.inrs, WeightBatch)
    test = classifier.predict("test")
    assert test.labels == [signals.classes[label] for label in store.split("test").label]
