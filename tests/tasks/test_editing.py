import shutil
from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from scipy.ndimage import grey_dilation
from task_words import EVERY_STEP, FIT, NOISE, checkpoints, places, same
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import ARCHITECTURE, Blobs, FlatMLP, random_batch, tiny_spec

from lightning_dws import INRArchitecture
from lightning_dws.augmentations import Compose, OneOf, Rotation, SirenNegation
from lightning_dws.cli import main
from lightning_dws.data import INRDataModule
from lightning_dws.errors import DataError
from lightning_dws.inrs.store import INRStore
from lightning_dws.models import DWSNet
from lightning_dws.tasks import EditingTask
from lightning_dws.tasks.image_edits import (
    EditTargets,
    check_function_kept,
    dilate,
    raise_contrast,
)

EDITING = [
    "--task=editing",
    "--model.network=DWSNet",
    "--model.network.init_args={hidden_dim: 4, num_hidden: 1, set_layer: deepsets}",
]


def make_task(**options) -> EditingTask:
    torch.manual_seed(0)
    network = DWSNet(ARCHITECTURE, 1, hidden_dim=4, num_hidden=1, set_layer="deepsets")
    return EditingTask(network, **options)


def make_data(store) -> INRDataModule:
    return INRDataModule(tiny_spec(), root=str(store.directory.parent), batch_size=8)


def make_trainer(tmp_path, **options) -> pl.Trainer:
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    return pl.Trainer(default_root_dir=tmp_path, accelerator="cpu", **quiet, **options)


def test_images_are_edited_as_they_are_said_to_be():
    images = torch.rand(3, 5, 6, 2, generator=torch.Generator().manual_seed(0))
    found = dilate(images, radius=1).numpy()
    for number, channel in np.ndindex(3, 2):
        image = images[number, ..., channel].numpy()
        assert np.array_equal(found[number, ..., channel], grey_dilation(image, (3, 3)))
    found = raise_contrast(images, factor=2.0)
    means = images.mean(dim=(1, 2), keepdim=True)
    assert torch.allclose(found, (2 * images - means).clamp(0, 1), atol=1e-6)
    assert float(found.min()) == 0
    assert float(found.max()) == 1


def test_alpha_is_no_colour_to_an_edit():
    """Dilated is what is seen, and contrast is that of what is seen."""
    images = torch.rand(3, 5, 6, 4, generator=torch.Generator().manual_seed(0))
    opaque = torch.cat([images[..., :3], torch.ones(3, 5, 6, 1)], dim=-1)
    for edit in (partial(dilate, radius=1), partial(raise_contrast, factor=2.0)):
        found = edit(opaque, has_alpha=True)
        torch.testing.assert_close(found[..., :3], edit(images[..., :3]))
        assert torch.equal(found[..., 3], opaque[..., 3])

    lonely = torch.ones(1, 5, 5, 2) * torch.tensor([1.0, 0.0])  # white that nobody sees
    lonely[0, 2, 2] = torch.tensor([0.3, 0.5])
    found = dilate(lonely, radius=1, has_alpha=True)[0]
    assert torch.equal(found[..., 1] > 0, torch.nn.functional.pad(torch.ones(3, 3) > 0, (1,) * 4))
    torch.testing.assert_close(found[1:4, 1:4], torch.tensor([0.3, 0.5]).expand(3, 3, 2))
    assert torch.equal(found[0], lonely[0, 0])

    found = raise_contrast(images, 2.0, has_alpha=True)
    assert torch.equal(found[..., 3], images[..., 3])
    colours, alpha = images[..., :3], images[..., 3:]
    mean = (colours * alpha).sum(dim=(1, 2), keepdim=True) / alpha.sum(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(found[..., :3], (2 * colours - mean).clamp(0, 1))
    assert torch.equal(raise_contrast(lonely, 3.0, has_alpha=True), lonely)  # of one colour
    nothing = torch.ones(1, 5, 5, 2) * torch.tensor([1.0, 0.0])
    for edit in (partial(dilate, radius=1), partial(raise_contrast, factor=0.5)):
        assert torch.equal(edit(nothing, has_alpha=True), nothing)


@pytest.mark.parametrize("source", ["originals", "reconstructions"])
def test_nothing_is_changed_at_first_so_that_the_error_is_the_baselines(tmp_path, store, source):
    """And it is that of an edited original, or of an edited reconstruction."""
    task, data = make_task(source=source), make_data(store)
    [metrics] = make_trainer(tmp_path).test(task, datamodule=data, verbose=False)
    assert metrics["test/error"] == metrics["test/unchanged"] > 0
    test = store.split("test")
    own = task._targets.render(test)
    images = Blobs().values(test.object_id).unflatten(1, (5, 6))
    images = images if source == "originals" else own.clamp(0, 1)
    expected = (own - dilate(images, 1)).square().mean()
    assert metrics["test/error"] == pytest.approx(float(expected), rel=1e-5)
    lower = make_trainer(tmp_path, precision="bf16-mixed")  # which is of the network alone
    assert lower.test(task, datamodule=data, verbose=False) == [metrics]


def test_it_learns_to_edit_and_predict_writes_the_edited_inrs(tmp_path, capsys):
    steps = ["--trainer.max_epochs=8", "--model.optimizer.lr=0.02"]
    main(["fit", *FIT, *EDITING, *steps, *places(tmp_path)])
    assert "targets of the editing: made of originals of blobs" in capsys.readouterr().err
    folder = checkpoints(tmp_path).parent
    events = EventAccumulator(str(folder))
    events.Reload()
    error, unchanged = (events.Scalars(f"test/{name}")[0].value for name in ("error", "unchanged"))
    assert error < 0.7 * unchanged
    assert (folder / "pictures" / "test_edited.png").stat().st_size > 1000
    assert {"val/edited", "test/edited"} <= set(events.Tags()["images"])
    edited = tmp_path / "edited"
    main(
        ["predict", f"--ckpt_path={checkpoints(tmp_path) / 'last.ckpt'}", f"--edited.path={edited}"]
    )
    found = INRStore(edited).split("test")
    [own] = (tmp_path / "data").iterdir()
    before = INRStore(own).split("test")
    assert torch.equal(found.object_id, before.object_id)
    assert not torch.equal(found.parameters, before.parameters)
    with torch.no_grad():
        task = EditingTask.from_checkpoint(checkpoints(tmp_path) / "last.ckpt")
        assert torch.allclose(task.edited(before).parameters, found.parameters, atol=1e-6)
    main(["inrs", "show", str(edited), "--split=test"])
    assert (edited / "inrs.png").exists()


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_resumed_run_ends_in_the_same_weights(tmp_path):
    """12 batches an epoch: stopped in mid-epoch; bit for bit."""
    words = [*FIT, *EDITING, *NOISE, *EVERY_STEP, *places(tmp_path), "--trainer.max_epochs=2"]
    main(["fit", *words])
    stopped = shutil.copy(checkpoints(tmp_path) / "16.ckpt", tmp_path / "stopped")
    main(["fit", *words, f"--ckpt_path={stopped}"])
    ends = [checkpoints(tmp_path, version) / "24.ckpt" for version in (0, 1)]
    assert same(*ends)
    assert not same(ends[0], checkpoints(tmp_path) / "23.ckpt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (['--trainer.callbacks=[{"class_path": "lightning_dws.mixup.MixUp"}]'],
         "MixUp: EditingTask has no labels or targets to mix"),
        (["--model.network=tiny.FlatMLP"],
         "FlatMLP has no parameter_features"),
        (['--data.augmentations=[{"class_path": "lightning_dws.augmentations.Rotation"}]'],
         "Rotation changes what an INR encodes"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_told(tmp_path, capsys, options, message):
    words = options if "network" in options[0] else [*EDITING[1:], *options]
    with pytest.raises(SystemExit) as stop:
        main(["fit", *FIT, "--task=editing", *words, *places(tmp_path)])
    assert stop.value.code == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edit": "erode"}, "edit must be one of"),
        ({"source": "elsewhere"}, "source must be one of"),
        ({"radius": 0}, "radius must be at least 1, got 0"),
        ({"factor": 0.0}, "factor must be positive, got 0.0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_task(**options)


def test_moves_hidden_in_combinations_are_found():
    check_function_kept([SirenNegation(), Compose([SirenNegation()])])
    with pytest.raises(DataError, match="Rotation changes what an INR encodes"):
        check_function_kept([Compose([OneOf([SirenNegation(), Rotation()])])])


def test_originals_that_are_not_at_hand_are_told(tmp_path, store, capsys):
    """A store whose signals nobody knows: reconstructions, or an error where they are asked for."""
    task = make_task()
    data = INRDataModule(None, store=str(store.directory), batch_size=8)
    make_trainer(tmp_path).test(task, datamodule=data, verbose=False)
    assert "made of the INRs' own reconstructions" in capsys.readouterr().err
    with pytest.raises(DataError, match="what its INRs were fitted to is not known"):
        make_trainer(tmp_path).test(make_task(source="originals"), datamodule=data)


def test_shapes_are_not_edited():
    class Shapes:
        directory, grid_shape, architecture = "here", (8, 8, 8), INRArchitecture((3, 4, 1))

    with pytest.raises(DataError, match="here: editing is of INRs of images, with two inputs"):
        EditTargets(Shapes(), dilate, "auto", "cpu")


def test_the_features_of_an_own_network_have_a_shape():
    class Wrong(FlatMLP):
        architecture, parameter_channels = ARCHITECTURE, 3

        def parameter_features(self, batch):
            return batch.parameters[..., None]

    task = EditingTask(Wrong(ARCHITECTURE, 1))
    with pytest.raises(DataError, match=r"gives shape \(4, \d+, 1\), expected \(4, \d+, 3\)"):
        task(random_batch())
