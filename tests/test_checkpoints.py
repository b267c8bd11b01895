"""Checkpoint files: never lost, never silently wrong."""

import io
import os
import random
import resource
import shutil
import zipfile
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from test_cli import NETWORK, RUN, TINY, error_of, places, run_folder  # noqa: F401
from tiny import Blobs, FlatMLP, tiny_spec

from lightning_dws.checkpoints import CheckpointFiles, find_readable, load_checkpoint
from lightning_dws.cli import main
from lightning_dws.data import INRDataModule
from lightning_dws.errors import DataError
from lightning_dws.models import DWSNet, recorded
from lightning_dws.table.worker import clear_after_failure
from lightning_dws.tasks import ClassificationTask

OLD = Path(__file__).parent / "data" / "checkpoints" / "version_0_1_0.ckpt"
FIT = [*TINY, *NETWORK, *RUN, "--model.schedule=constant", "--test_after_fit=false"]


@recorded
class RecordedMLP(FlatMLP):
    """An own network that says in checkpoints how it was made."""

    def __init__(self, architecture, num_classes, width=9):
        super().__init__(architecture, num_classes, hidden_dim=width)


class KeepingMLP(FlatMLP):
    """An own network that keeps its arguments, as most do."""

    def __init__(self, architecture, num_classes, width=9):
        super().__init__(architecture, num_classes, hidden_dim=width)
        self.width = width


class RenamedBlobs(Blobs):
    classes = ("left", "right", "middle")


def rewrite(path: Path, change) -> None:
    """Change what a checkpoint holds; its file stays whole."""
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, path)


def python_checkpoint(tmp_path, store, network) -> Path:
    data = INRDataModule(tiny_spec(), root=str(store.directory.parent), batch_size=8)
    trainer = pl.Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        accelerator="cpu",
        log_every_n_steps=1,
    )
    task = ClassificationTask(network(data.architecture, num_classes=3), 3, label_smoothing=0.1)
    trainer.fit(task, datamodule=data)
    trainer.save_checkpoint(tmp_path / "python.ckpt")
    return tmp_path / "python.ckpt"


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_checkpoint_of_an_earlier_version_loads_tests_and_resumes(tmp_path, places, capsys):  # noqa: F811
    assert isinstance(ClassificationTask.from_checkpoint(OLD).network, FlatMLP)
    main(["test", *FIT, *places, f"--ckpt_path={OLD}"])
    assert "test/accuracy" in capsys.readouterr().out
    main(["fit", *FIT, *places, "--trainer.max_epochs=2"])
    copied = shutil.copy(OLD, tmp_path / "old.ckpt")
    shutil.copy(OLD, tmp_path / "best-epoch=0.ckpt")  # it stays the best on some processors
    main(["fit", *FIT, *places, "--trainer.max_epochs=2", f"--ckpt_path={copied}"])
    first, second = (load_checkpoint(path) for path in sorted(tmp_path.rglob("last.ckpt")))
    assert first["global_step"] == second["global_step"] == 6
    # Another processor rounds otherwise, and so did the build that made the old one.
    torch.testing.assert_close(first["state_dict"], second["state_dict"], rtol=1e-4, atol=1e-5)


def test_a_full_disk_leaves_the_old_checkpoint_and_names_the_new(tmp_path):
    path = tmp_path / "runs" / "last.ckpt"
    files = CheckpointFiles()
    content = {"state_dict": {"w": torch.zeros(10)}, "pytorch-lightning_version": "2"}
    files.save_checkpoint(content, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # as a full disk, of this size
    try:
        with pytest.raises(DataError, match=r"last.ckpt: cannot be written \(File too large\)"):
            files.save_checkpoint({**content, "more": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [entry.name for entry in path.parent.iterdir()] == ["last.ckpt"]
    assert torch.equal(files.load_checkpoint(path)["state_dict"]["w"], torch.zeros(10))


def test_a_checkpoint_is_on_the_disk_before_the_one_before_is_removed(
    tmp_path,
    places,  # noqa: F811
    monkeypatch,
):
    """Written beside its place, wherever temporary files are."""
    calls = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)

        def record(*args, name=name, original=original):
            if name == "replace":
                calls.append((name, Path(args[1]).name))
                assert Path(args[0]).parent == Path(args[1]).parent
            else:
                calls.append((name, Path(os.readlink(f"/proc/self/fd/{args[0]}")).name))
            return original(*args)

        monkeypatch.setattr(os, name, record)
    remove = CheckpointFiles.remove_checkpoint
    monkeypatch.setattr(
        CheckpointFiles,
        "remove_checkpoint",
        lambda self, path: (calls.append(("remove", Path(path).name)), remove(self, path)),
    )
    words = ["--checkpoint.monitor=null", "--checkpoint.filename={epoch}", "--data.views=1"]
    main(["fit", *FIT, *places, *words])
    of_checkpoints = [call for call in calls if "ckpt" in call[1] or call[1] == "checkpoints"]
    removed = of_checkpoints.index(("remove", "0.ckpt"))
    replaced = of_checkpoints.index(("replace", "1.ckpt"))
    assert of_checkpoints[replaced - 1][0] == "fsync"
    assert of_checkpoints[replaced + 1] == ("fsync", "checkpoints")
    assert replaced + 1 < removed


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".last.ckpt.123.partial").write_bytes(b"half")
    CheckpointFiles().save_checkpoint({"state_dict": {}}, tmp_path / "best.ckpt")
    assert [entry.name for entry in tmp_path.iterdir()] == ["best.ckpt"]


def test_a_truncated_last_checkpoint_falls_back_to_the_one_before(tmp_path, places, capsys):  # noqa: F811
    frozen = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.init_args.lr=0"]
    main(["fit", *FIT, *places, *frozen])
    last = run_folder(tmp_path) / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    words = [*FIT, *places, *frozen, f"--ckpt_path={last}"]
    for command in ("validate", "test", "predict"):
        assert "last.ckpt: not a readable checkpoint" in error_of([command, *words], capsys)
    with pytest.warns(UserWarning, match=r"last.ckpt: damaged; going on from .*best-epoch=0.ckpt"):
        main(["fit", *words])
    assert load_checkpoint(last)["global_step"] == 6
    for path in last.parent.iterdir():
        path.write_bytes(whole[:100])
    with pytest.raises(DataError, match="its folder has no other to go on from"):
        find_readable(last)


def test_a_cell_of_a_table_falls_back_too(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "last.ckpt").write_bytes(OLD.read_bytes()[:5000])
    shutil.copy(OLD, folder / "best-epoch=0.ckpt")
    clear_after_failure(tmp_path, None)
    assert find_readable(folder / "last.ckpt")[0].name == "best-epoch=0.ckpt"
    (folder / "best-epoch=0.ckpt").unlink()
    clear_after_failure(tmp_path, None)
    assert not folder.exists()


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_checkpoint_is_measured_without_any_config(tmp_path, places, capsys):  # noqa: F811
    main(["fit", *FIT, *places, "--model.network.init_args.hidden_dim=9"])
    last = run_folder(tmp_path) / "checkpoints" / "last.ckpt"
    few = ["--trainer.accelerator=cpu", "--trainer.logger=false", "--trainer.default_root_dir"]
    few += [str(tmp_path), "--trainer.enable_progress_bar=false"]
    moved = shutil.copy(last, tmp_path / "moved.ckpt")
    for command in ("validate", "test"):
        main([command, "--ckpt_path", str(moved), *few])
        assert "accuracy" in capsys.readouterr().out
    main(["predict", f"--ckpt_path={moved}", *few, f"--predictions.path={tmp_path / 'p.csv'}"])
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 7
    rewrite(moved, lambda checkpoint: checkpoint["lightning_dws"].update(settings=None))
    message = error_of(["test", f"--ckpt_path={moved}", *few], capsys)
    assert "does not say what it was trained on; give the --config of its run" in message
    rewrite(last, lambda checkpoint: checkpoint["lightning_dws"].update(settings=None))
    main(["test", "--ckpt_path", str(last), *few])  # by the run's own config.yaml


def test_a_checkpoint_is_measured_on_another_store(tmp_path, places, store, capsys, caplog):  # noqa: F811
    """On all of it, whatever share of its own data it was trained and tested on."""
    for name in ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero"):
        caplog.set_level("INFO", name)  # a cell of a table in this process may have changed it
    few = ["--data.num_test_objects=1", "--data.dataset.architecture.w0=8"]
    main(["fit", *FIT, *places, *few])
    last = run_folder(tmp_path) / "checkpoints" / "last.ckpt"
    table = tmp_path / "p.csv"
    words = [f"--ckpt_path={last}", "--trainer.enable_progress_bar=false"]
    main(["test", *words, f"--data.store={store.directory}"])
    assert "test/accuracy" in capsys.readouterr().out
    main(["predict", *words, "--data.store", str(store.directory), f"--predictions.path={table}"])
    assert len(table.read_text().splitlines()) == 1 + len(store.split("test"))
    run = run_folder(tmp_path)
    own = set(run.iterdir())
    main(["predict", *words, f"--data.store={store.directory}"])
    assert set(run.iterdir()) == own  # beside what is known of its own data
    found = run / store.directory.name / "predictions.csv"
    assert found.read_text() == table.read_text()
    assert "in the place of others" not in caplog.text
    found.write_text("object_id\n")
    main(["predict", *words, f"--data.store={store.directory}"])
    assert f"{found}, in the place of others that were there" in caplog.text


def keeping(architecture, num_classes):
    return KeepingMLP(architecture, num_classes, 11)


@pytest.mark.parametrize("network", [RecordedMLP, DWSNet, FlatMLP, keeping])
def test_a_checkpoint_of_a_trainer_in_python_is_rebuilt(tmp_path, store, network):
    path = python_checkpoint(tmp_path, store, network)
    batch = store.split("test")
    for load in (ClassificationTask.load_from_checkpoint, ClassificationTask.from_checkpoint):
        task = load(path)
        assert type(task.network) in (network, KeepingMLP)
        assert (task.label_smoothing, task.classes) == (0.1, ("left", "middle", "right"))
        assert task(batch).shape == (6, 3)
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(saved[name], value) for name, value in task.state_dict().items())


def test_a_network_that_cannot_be_made_again_is_asked_for(tmp_path, store):
    path = python_checkpoint(tmp_path, store, partial(FlatMLP, dropout=0.5))
    with pytest.raises(DataError, match=r"python.ckpt: does not say .*; pass it as network="):
        ClassificationTask.load_from_checkpoint(path)
    network = FlatMLP(store.architecture, 3)
    task = ClassificationTask.load_from_checkpoint(path, network=network)
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert torch.equal(task.network.head.weight, saved["network.head.weight"])
    with pytest.raises(DataError, match=r"network.first.weight is \(8, .*, expected \(4, "):
        ClassificationTask.from_checkpoint(path, FlatMLP(store.architecture, 3, hidden_dim=4))


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_classes_of_other_names_are_refused(tmp_path, places, capsys, command):  # noqa: F811
    main(["fit", *FIT, *places])
    last = run_folder(tmp_path) / "checkpoints" / "last.ckpt"
    words = [*FIT, *places, "--data.dataset.signals=test_checkpoints.RenamedBlobs"]
    message = error_of([command, *words, f"--ckpt_path={last}"], capsys)
    assert "label 1: trained on middle, the data have right" in message


def test_a_rebuilt_task_is_not_measured_on_other_classes(tmp_path, store):
    task = ClassificationTask.from_checkpoint(python_checkpoint(tmp_path, store, RecordedMLP))
    data = INRDataModule(tiny_spec(signals=RenamedBlobs()), root=str(tmp_path / "other"))
    trainer = pl.Trainer(logger=False, enable_progress_bar=False, accelerator="cpu")
    with pytest.raises(DataError, match="label 1: trained on middle, the data have right"):
        trainer.test(task, datamodule=data)


def test_another_optimizer_is_refused(tmp_path, places, capsys):  # noqa: F811
    main(["fit", *FIT, *places])
    last = run_folder(tmp_path) / "checkpoints" / "last.ckpt"
    words = ["fit", *FIT, *places, f"--ckpt_path={last}", "--trainer.max_epochs=3"]
    message = error_of([*words, "--model.optimizer=torch.optim.SGD"], capsys)
    assert "of another optimizer than SGD" in message


def flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 4))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def restructure(content: bytes, rng: random.Random) -> bytes:
    """Drop, rename or replace something at a random depth of what the checkpoint holds."""
    checkpoint = torch.load(io.BytesIO(content), weights_only=True)
    places_found = []

    def walk(node):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            places_found.append((node, key))
            if isinstance(value, (dict, list)):
                walk(value)

    walk(checkpoint)
    node, key = rng.choice(places_found)
    value = node[key]
    kinds = ["drop", "text", "none"] + ["rename"] * isinstance(node, dict)
    if isinstance(value, torch.Tensor):
        kinds += ["shape", "type", "nan"] * 2
    kind = rng.choice(kinds)
    if kind == "drop":
        del node[key]
    elif kind == "rename":
        node[f"{key}x"] = node.pop(key)
    else:
        node[key] = {
            "text": lambda: "text",
            "none": lambda: None,
            "shape": lambda: torch.zeros(7, 3),
            "type": lambda: value.to(torch.complex64),
            "nan": lambda: torch.full_like(value.float(), float("nan")),
        }[kind]()
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def same_tensors(found, expected) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], tensor) for name, tensor in expected.items()
    )


def outcomes(content: bytes, path: Path, runs: Path, words: list[str], count: int) -> list[str]:
    """Damage a checkpoint and go on from it: what was neither refused nor the same in the end."""
    rng = random.Random(0)
    path.parent.mkdir(parents=True, exist_ok=True)

    def run(changed: bytes) -> dict | None:
        path.write_bytes(changed)
        try:
            main([*words, f"--ckpt_path={path}"])
        except SystemExit as stop:
            return {} if stop.code != 1 else None
        written = runs.glob("version_*/checkpoints/last.ckpt")
        return load_checkpoint(max(written, key=os.path.getmtime))["state_dict"]

    expected = run(content)
    assert expected is not None
    faults = []
    for number in range(count):
        mutate = (flip, truncate, restructure)[number % 3]
        changed = mutate(content, rng)
        try:
            found = run(changed)
        except Exception as error:  # the fault that is looked for
            faults.append(f"{number} {mutate.__name__}: {type(error).__name__}: {error}")
            continue
        if found is not None and not same_tensors(found, expected):
            faults.append(f"{number} {mutate.__name__}: accepted")
    return faults


@pytest.mark.filterwarnings("ignore")
def test_no_damage_is_silent(tmp_path, places):  # noqa: F811
    """Each damaged checkpoint is refused in one line, or leads to the same weights."""
    main(["fit", *FIT, *places, "--trainer.max_epochs=1"])
    content = (run_folder(tmp_path) / "checkpoints" / "last.ckpt").read_bytes()
    quiet = ["--trainer.logger=false", "--pictures.num_inrs=1"]
    runs = run_folder(tmp_path).parent
    path = tmp_path / "other" / "checkpoints" / "damaged.ckpt"
    words = ["fit", *FIT, *places, *quiet, f"--checkpoint.dirpath={path.parent}"]
    words += [
        "--trainer.max_epochs=2",
        "--trainer.limit_val_batches=0",
        "--checkpoint.monitor=null",
    ]
    assert outcomes(content, path, runs, words, int(os.environ.get("MUTATIONS", "9"))) == []


def test_every_bit_of_the_weights_is_checked(tmp_path):
    content = OLD.read_bytes()
    with zipfile.ZipFile(OLD) as archive:
        members = [m for m in archive.infolist() if "/data/" in m.filename and m.file_size > 64]
    for member in members[:5]:
        changed = bytearray(content)
        changed[member.header_offset + 30 + len(member.filename) + 80] ^= 1
        (tmp_path / "flipped.ckpt").write_bytes(changed)
        if changed != content:
            with pytest.raises(DataError, match="not a readable checkpoint"):
                load_checkpoint(tmp_path / "flipped.ckpt")


def test_weights_that_are_not_finite_are_not_measured(tmp_path, places, capsys):  # noqa: F811
    main(["fit", *FIT, *places])
    last = run_folder(tmp_path) / "checkpoints" / "last.ckpt"

    def spoil(checkpoint):
        checkpoint["state_dict"]["network.head.bias"][0] = float("inf")

    rewrite(last, spoil)
    message = error_of(["test", *FIT, *places, f"--ckpt_path={last}"], capsys)
    assert "network.head.bias holds numbers that are not finite" in message
