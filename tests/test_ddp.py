"""Two real processes (gloo) give what one gives; where they must differ, they do."""

import csv
import math
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from ranks import on_two_ranks
from tiny import ARCHITECTURE, AddNoise, FlatMLP, random_batch, tiny_spec
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from lightning_dws import models
from lightning_dws.cli import main
from lightning_dws.data import INRDataModule
from lightning_dws.inrs import INRStore
from lightning_dws.inrs.store import ShardRange, StoreHeader, write_index, write_shard
from lightning_dws.mixup import MixUp
from lightning_dws.models import DWSNet
from lightning_dws.models.batch_norm import PositionBatchNorm
from lightning_dws.plugins import SyncBatchNorm
from lightning_dws.table.processes import redirect_output
from lightning_dws.tasks import ClassificationTask

ROOT = Path(__file__).parents[1]
TINY = [
    "--data.dataset.signals=tiny.Blobs",
    "--data.dataset.architecture.widths=[2,6,5,1]",
    '--data.dataset.recipe={"steps": 10, "learning_rate": 0.005}',
    "--trainer.accelerator=cpu",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]
DWSNET = [
    "--model.network=lightning_dws.models.DWSNet",
    "--model.network.init_args.hidden_dim=4",
    "--model.network.init_args.num_hidden=2",
    "--model.network.init_args.num_heads=2",
]
DDP = ["--trainer.devices=2", "--trainer.strategy=ddp"]
# 5 INRs in batches of 2: one rank has 3 of them and the other 2
UNEVEN = ["--data.num_val_objects=5", "--data.num_test_objects=5", "--data.eval_batch_size=2"]


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def run(tmp_path: Path, name: str, words: list[str], processes: int = 2) -> Path:
    """Fit on one process or two; give the run's folder."""
    root = tmp_path / name
    places = [f"--data.root={tmp_path / 'data'}", f"--trainer.default_root_dir={root}"]
    everything = ["fit", *TINY, *words, *places]
    if processes == 1:
        main(everything)
    else:
        assert on_two_ranks(main, [*everything, *DDP]) == [None, None]
    [folder] = (root / "run").glob("version_*")
    return folder


def state(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def curves(folder: Path) -> dict[tuple[str, str], float]:
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        (row["step"], name): float(value)
        for row in rows
        for name, value in row.items()
        if value and name not in ("step", "epoch", "train/samples_per_second")
    }


COMPARED = {
    "plain": ["--model.network.init_args.batch_norm=false"],
    "sync_batchnorm": ["--trainer.sync_batchnorm=true"],
    "regression": [
        *("--task=regression", "--model.targets=[psnr]"),
        "--model.network.init_args.batch_norm=false",
    ],
    "ema": [
        "--model.network.init_args.batch_norm=false",
        '--trainer.callbacks=[{"class_path": "pytorch_lightning.callbacks.EMAWeightAveraging", '
        '"init_args": {"decay": 0.5}}]',
    ],
}


@pytest.mark.parametrize("kind", COMPARED)
def test_two_processes_train_as_one_with_twice_the_batch(tmp_path, kind):
    """Every curve, every step's loss, and validation and test of splits that do not divide."""
    words = [*DWSNET, *COMPARED[kind], *UNEVEN, "--trainer.max_epochs=2"]
    words += [
        "--pictures.every_n_epochs=9",
        "--trainer.logger=CSVLogger",
        "--trainer.logger.name=run",
    ]
    words += ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.05"]
    two = run(tmp_path, "two", [*words, "--data.batch_size=4"])
    one = run(tmp_path, "one", [*words, "--data.batch_size=8"], processes=1)
    expected, found = curves(one), curves(two)
    score = "r2" if kind == "regression" else "accuracy"
    assert {name for _, name in expected} >= {
        *(f"{split}/{name}" for split in ("train", "val", "test") for name in ("loss", score)),
        "train/loss_step",
        "train/gradient_norm",
    }
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert math.isclose(found[key], value, rel_tol=1e-4), key
    first, second = (state(folder / "checkpoints" / "last.ckpt") for folder in (one, two))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-4, atol=1e-5)


RESUMABLE = [
    *DWSNET,
    "--model.network.init_args.dropout=0.2",
    "--trainer.max_epochs=2",
    "--pictures.every_n_epochs=9",
    "--test_after_fit=false",
    "--data.batch_size=2",
    '--data.augmentations=[{"class_path": "tiny.AddNoise", "init_args": {"p": 0.7}}]',
    "--checkpoint.monitor=null",
    "--checkpoint.save_top_k=-1",
    "--checkpoint.every_n_train_steps=1",
    "--checkpoint.filename={step}",
]
MIXUP = '{"class_path": "lightning_dws.mixup.MixUp", "init_args": {"alignment": "permutation"}}'


def test_a_run_on_two_processes_resumes_to_the_same_bits(tmp_path):
    """From mid-epoch, with batch norm's statistics of each rank and everything drawn at random."""
    words = [*RESUMABLE, f"--trainer.callbacks=[{MIXUP}]"]
    straight = run(tmp_path, "straight", words) / "checkpoints"
    stopped = shutil.copy(straight / "4.ckpt", tmp_path / "stopped.ckpt")
    resumed = run(tmp_path, "resumed", [*words, f"--ckpt_path={stopped}"]) / "checkpoints"
    assert not (resumed / "4.ckpt").exists()
    first, second = state(straight / "12.ckpt"), state(resumed / "12.ckpt")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], value) for name, value in state(stopped).items())


class Recorder(pl.Callback):
    """Keep what each step of this rank saw and drew, and its gradients after they were reduced."""

    def __init__(self) -> None:
        self.objects, self.noise, self.shares, self.masks = [], [], [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.objects.append(batch.object_id.clone())
        clean = {int(i): row for table in self.table for i, row in zip(*table, strict=True)}
        rows = torch.stack([clean[int(i)] for i in batch.object_id])
        self.noise.append(batch.parameters - rows)

    @property
    def table(self):
        return [(part.object_id, part.parameters) for part in self.data._tables["train"].chunks()]


class Shares(pl.Callback):
    """Behind MixUp: the targets that it drew."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.recorder.shares.append(batch.target.max(dim=1).values)


def record(root: str) -> dict[str, object]:
    data = INRDataModule(tiny_spec(), root=root, batch_size=4, augmentations=[AddNoise(0.5)])
    recorder = Recorder()
    recorder.data = data
    network = FlatMLP(ARCHITECTURE, 3, hidden_dim=32, dropout=0.5)
    network.dropout.register_forward_hook(
        lambda module, inputs, out: recorder.masks.append((out == 0) & (inputs[0] != 0))
    )
    trainer = pl.Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        callbacks=[recorder, MixUp(), Shares(recorder)],
        accelerator="cpu",
        devices=2,
        strategy="ddp",
    )
    trainer.fit(ClassificationTask(network, 3), datamodule=data)
    return {name: getattr(recorder, name) for name in ("objects", "noise", "shares", "masks")}


def test_ranks_see_other_inrs_and_draw_other_numbers(tmp_path, store):
    first, second = on_two_ranks(record, str(store.directory.parent))
    seen = torch.cat([*first["objects"], *second["objects"]])
    assert seen.unique().numel() == seen.numel() == 24
    for a, b in zip(first["noise"], second["noise"], strict=True):
        assert abs(torch.cat([a, b]).std() - 0.5) < 0.1
        assert not torch.equal(a, b)
    for a, b in zip(first["shares"], second["shares"], strict=True):
        assert not torch.equal(a, b)
    for a, b in zip(first["masks"], second["masks"], strict=True):
        assert a.any()
        assert not torch.equal(a, b)


def batch_norm_of_a_share(x, grad_out, sizes):
    dist.init_process_group("gloo")
    norm = PositionBatchNorm(3).double()
    norm.synchronised = True
    own = x.split(sizes)[dist.get_rank()].clone().requires_grad_()
    out = norm(own)
    out.backward(grad_out.split(sizes)[dist.get_rank()])
    return out.detach(), own.grad, norm.weight.grad, norm.bias.grad, norm.state_dict()


@pytest.mark.parametrize("sizes", [[4, 4], [7, 1]], ids=str)
def test_synchronised_batch_norm_is_that_of_the_joined_batch(sizes):
    """Exact: in float64, the gradient too, and where one rank has more INRs than the other."""
    generator = torch.Generator().manual_seed(0)
    x, grad_out = 5 + torch.randn((2, 8, 6, 4, 5), generator=generator, dtype=torch.float64)
    norm = PositionBatchNorm(3).double()
    whole = x.clone().requires_grad_()
    out = norm(whole)
    out.backward(grad_out)
    ranks = on_two_ranks(batch_norm_of_a_share, x, grad_out, sizes)
    torch.testing.assert_close(torch.cat([rank[0] for rank in ranks]), out.detach())
    torch.testing.assert_close(torch.cat([rank[1] for rank in ranks]), whole.grad)
    torch.testing.assert_close(ranks[0][2] + ranks[1][2], norm.weight.grad)
    torch.testing.assert_close(ranks[0][3] + ranks[1][3], norm.bias.grad)
    for rank in ranks:
        for name, value in norm.state_dict().items():
            torch.testing.assert_close(rank[4][name], value)


NETWORKS = {
    "DWSNet": {"hidden_dim": 4, "num_heads": 2},
    "NeuralGraphGNN": {"hidden_dim": 4, "num_layers": 2, "num_probes": 3},
    "NeuralGraphTransformer": {
        "node_dim": 8,
        "edge_dim": 4,
        "num_layers": 2,
        "num_heads": 2,
        "num_probes": 3,
        "dropout": 0,
    },
}


def network_and_batch(name: str):
    torch.manual_seed(0)
    batch = random_batch(size=8)
    batch = batch.replace(parameters=batch.parameters.double(), label=torch.arange(8) % 3)
    network = getattr(models, name)(ARCHITECTURE, num_classes=3, **NETWORKS[name])
    return network.double(), batch


def gradients_of_a_share(name: str) -> dict[str, torch.Tensor]:
    dist.init_process_group("gloo")
    network, batch = network_and_batch(name)
    network = SyncBatchNorm().apply(network)
    share = batch[torch.arange(4) + 4 * dist.get_rank()]
    wrapped = DistributedDataParallel(network)
    cross_entropy(wrapped(share), share.label).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_is_used(name):
    """DistributedDataParallel would fail at the second step."""
    network, batch = network_and_batch(name)
    network(batch).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", ["DWSNet", "NeuralGraphTransformer"])
def test_gradients_are_those_of_one_process_on_the_joined_batch(name):
    """In float64, with batch norm synchronised."""
    network, batch = network_and_batch(name)
    cross_entropy(network(batch), batch.label).backward()
    for gradients in on_two_ranks(gradients_of_a_share, name):
        for parameter_name, parameter in network.named_parameters():
            torch.testing.assert_close(
                gradients[parameter_name], parameter.grad, rtol=1e-7, atol=1e-10
            )


def test_two_processes_predict_as_one(tmp_path):
    """Every INR once, also where the ranks have unlike numbers of them."""
    words = [*TINY, *UNEVEN, "--model.network=tiny.FlatMLP", "--data.batch_size=8"]
    words += [f"--data.root={tmp_path / 'data'}", f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    main(["fit", *words, "--trainer.max_epochs=1", "--test_after_fit=false"])
    checkpoint = tmp_path / "runs" / "run" / "version_0" / "checkpoints" / "last.ckpt"
    tables = [tmp_path / "one.csv", tmp_path / "two.csv"]
    predict = ["predict", *words, f"--ckpt_path={checkpoint}", "--predictions.path"]
    main([*predict, str(tables[0])])
    assert on_two_ranks(main, [*predict, str(tables[1]), *DDP]) == [None, None]
    assert tables[0].read_text() == tables[1].read_text()
    assert len(tables[1].read_text().splitlines()) == 6


class SlowToPrepare(INRDataModule):
    """Needs longer to fit its INRs than the process group's timeout."""

    def prepare_data(self) -> None:
        time.sleep(6)
        with open(self.directory.parent / "prepared.txt", "a") as file:
            file.write(f"{os.environ['LOCAL_RANK']}\n")
        super().prepare_data()


def prepare_slowly(root: str) -> dict[str, torch.Tensor]:
    data = SlowToPrepare(tiny_spec(), root=root, batch_size=4)
    trainer = pl.Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(timeout=timedelta(seconds=4)),
    )
    task = ClassificationTask(DWSNet(ARCHITECTURE, num_classes=3, hidden_dim=4, num_heads=2), 3)
    trainer.fit(task, datamodule=data)
    return {"mean": task.network.standardize.mean, "std": task.network.standardize.std}


def test_one_rank_fits_the_inrs_however_long_it_takes(tmp_path):
    """The other waits beyond the timeout of collectives; both standardise alike."""
    first, second = on_two_ranks(prepare_slowly, str(tmp_path))
    assert (tmp_path / "prepared.txt").read_text() == "0\n"
    for name in ("mean", "std"):
        assert torch.equal(first[name], second[name])
    assert not torch.equal(first["std"], torch.ones_like(first["std"]))


def write_large_store(directory: Path, megabytes: int) -> None:
    directory.mkdir(parents=True)
    count = megabytes * 2**20 // (4 * ARCHITECTURE.num_parameters)
    batch = random_batch(size=count).replace(
        label=torch.arange(count) % 3, object_id=torch.arange(count), view=torch.zeros(count).long()
    )
    header = StoreHeader(ARCHITECTURE, ("a", "b", "c"), "large", (5, 6), {}, 0)
    shards = [
        write_shard(
            directory,
            ShardRange(split, 0, 0, size),
            batch[:size],
            torch.zeros(size),
            header.fingerprint,
        )
        for split, size in (("train", count), ("val", 4), ("test", 4))
    ]
    write_index(directory, header, shards)


def memory_of_a_table(root: str) -> dict[str, int]:
    """Give this rank's kilobytes: of the mapped store, its share of them, and of its own."""
    data = INRDataModule(root=root, store="large", batch_size=4)
    trainer = pl.Trainer(
        logger=False,
        enable_checkpointing=False,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
    )
    trainer.strategy.setup_environment()
    trainer.datamodule, data.trainer = data, trainer
    before = private_kilobytes()
    data.setup("fit")
    for _ in zip(range(50), data.train_dataloader(), strict=False):
        pass
    dist.barrier()
    found = {"mapped": 0, "share": 0, "own": private_kilobytes() - before}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            inside = words[-1].endswith(".safetensors")
        elif inside and words[0] in ("Rss:", "Pss:"):
            found["mapped" if words[0] == "Rss:" else "share"] += int(words[1])
    dist.barrier()
    return found


def private_kilobytes() -> int:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells of pages")
def test_ranks_on_the_cpu_share_one_mapping_of_the_store(tmp_path):
    write_large_store(tmp_path / "large", megabytes=32)
    for rank in on_two_ranks(memory_of_a_table, str(tmp_path)):
        assert rank["mapped"] > 30 * 1024  # all of it is in memory
        assert rank["share"] < 0.6 * rank["mapped"]  # once for both
        assert rank["own"] < 12 * 1024  # and no copy


FAILING = ["fit", *TINY, "--trainer.max_epochs=1", "--data.batch_size=4"]
FAILING += [*DDP, "--model.network=tiny.FlatMLP"]


def report_of(tmp_path: Path, words: list[str]) -> str:
    """Run what fails on two ranks; give what both wrote to standard error about it."""
    places = [f"--data.root={tmp_path / 'data'}", f"--trainer.default_root_dir={tmp_path}"]
    stderr = tmp_path / "stderr.txt"
    assert on_two_ranks(main, [*FAILING, *places, *words], stderr=stderr) == [1, 1]
    [line] = [line for line in stderr.read_text().splitlines() if "error" in line.lower()]
    return line


def test_an_error_on_every_rank_is_told_once(tmp_path):
    line = report_of(tmp_path, ["--data.num_val_objects=1"])
    assert "the 1 val INR of this run cannot be split over 2 processes" in line


def test_an_error_of_the_rank_that_fits_is_told_by_it(tmp_path):
    """And not as the other's, which finds no store."""
    assert "25 are asked for" in report_of(tmp_path, ["--data.num_train_objects=25"])


def failing_callback(rank: int, how: str) -> str:
    return (
        f'--trainer.callbacks=[{{"class_path": "tiny.Failing", '
        f'"init_args": {{"rank": {rank}, "how": "{how}"}}}}]'
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_on_one_rank_is_told_and_ends_both(tmp_path, rank):
    assert report_of(tmp_path, [failing_callback(rank, "data")]) == "error: bad data"


def launch(tmp_path: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Start main.py as users do: Lightning starts it again for the second rank."""
    places = [f"--data.root={tmp_path / 'data'}", f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *words, *places],
        cwd=ROOT,
        env=environment(),
        timeout=300,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_readme_command_trains_on_two_devices(tmp_path):
    """One run folder, one set of pictures, one report, status 0."""
    page = (ROOT / "docs" / "devices.md").read_text()
    [words] = re.findall(r"^python main\.py (fit .*--trainer\.strategy ddp)$", page, re.MULTILINE)
    small = [*TINY, *UNEVEN, "--trainer.max_epochs=1", "--data.batch_size=4", "--data.views=1"]
    done = launch(tmp_path, [*words.split(), *small])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 1
    assert "Warning" not in done.stderr
    [folder] = (tmp_path / "runs" / "quickstart").iterdir()
    assert len(list((folder / "checkpoints").iterdir())) == 2
    assert (folder / "pictures" / "test_confusion_matrix.png").is_file()
    [store] = (tmp_path / "data").iterdir()
    assert INRStore(store).num_objects("test") == 5


def launch_second_rank(words: list[str], log: Path) -> None:
    """Be what a user started, which has imported all it needs; Lightning starts the other."""
    redirect_output(log)
    os.environ.update(environment())
    torch.set_num_threads(1)
    sys.argv = [str(ROOT / "main.py"), *words]
    main()


def test_a_killed_process_ends_the_run(tmp_path):
    places = [f"--data.root={tmp_path / 'data'}", f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    words, log = [*FAILING, failing_callback(1, "killed"), *places], tmp_path / "log.txt"
    process = multiprocessing.get_context("forkserver").Process(
        target=launch_second_rank, args=(words, log)
    )
    process.start()
    process.join(300)
    printed = log.read_text()
    assert process.exitcode == 1, printed
    assert "error: another process of this run ended before it was done" in printed
    assert "Traceback" not in printed
