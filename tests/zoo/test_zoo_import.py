"""A tiny stand-in of the Small CNN Zoo's files becomes a store that computes the same."""

import csv
import gzip
import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore
from lightning_dws.zoo import import_zoo

STEPS = (0, 20, 86)
TENSORS = (  # in the order of the published layout: a layer's bias stands before its kernel
    ("sequential/conv2d/bias:0", (4,)),
    ("sequential/conv2d/kernel:0", (3, 3, 1, 4)),
    ("sequential/conv2d_1/bias:0", (5,)),
    ("sequential/conv2d_1/kernel:0", (3, 3, 4, 5)),
    ("sequential/dense/bias:0", (10,)),
    ("sequential/dense/kernel:0", (5, 10)),
)
NUM_NETWORKS = 12


def write_csv(path, rows, fieldnames=None):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="") as file:
        writer = csv.DictWriter(file, fieldnames or list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def layout_rows():
    rows, start = [], 0
    for name, shape in TENSORS:
        size = math.prod(shape)
        row = {"varname": name, "start_idx": start, "end_idx": start + size, "shape": shape}
        rows.append({**row, "size": size})
        start += size
    return rows


def metric_rows():
    return [
        {
            "config.activation": "relu" if network % 3 else "tanh",
            "config.learning_rate": 0.001 * (network + 1),
            "config.w_init": "he_normal",
            "modeldir": f"/zoo/{network:05d}",
            "step": step,
            "test_accuracy": 0.01 * network + 0.001 * step,
        }
        for network in range(NUM_NETWORKS)
        for step in STEPS
    ]


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "published"
    folder.mkdir()
    write_csv(folder / "layout.csv", layout_rows())
    write_csv(folder / "metrics.csv.gz", metric_rows())
    size = sum(math.prod(shape) for _, shape in TENSORS)
    rows = np.random.default_rng(0).normal(size=(NUM_NETWORKS * len(STEPS), size))
    np.save(folder / "weights.npy", rows.astype(np.float32))
    return folder


def published_logits(row, images):
    """Compute a row as TensorFlow does: images and kernels with the channels last."""
    parts, start = [], 0
    for _, shape in TENSORS:
        parts.append(row[start : start + math.prod(shape)].reshape(shape))
        start += math.prod(shape)
    x = images
    for bias, kernel in (parts[:2], parts[2:4]):
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
        x = np.maximum(np.einsum("nhwcij,ijco->nhwo", windows, kernel) + bias, 0)
    return x.mean(axis=(1, 2)) @ parts[5] + parts[4]


def test_networks_compute_what_the_published_rows_do(source, tmp_path):
    store = import_zoo(source, tmp_path / "store").store
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 10),
    )  # fmt: skip
    images = np.random.default_rng(1).normal(size=(3, 8, 7, 1))
    weights = np.load(source / "weights.npy").astype(np.float64)
    seen = []
    for split in ("train", "val", "test"):
        inrs = store.split(split).to(torch.float64)
        for network, own in zip(inrs.object_id.tolist(), inrs.parameters, strict=True):
            nn.utils.vector_to_parameters(own, module.double().parameters())
            logits = functional_call(module, {}, (torch.from_numpy(images).permute(0, 3, 1, 2),))
            expected = published_logits(weights[3 * network + 2], images)
            np.testing.assert_allclose(logits.detach().numpy(), expected, rtol=1e-9)
        accuracy = store.columns(("test_accuracy",), split)[:, 0]
        torch.testing.assert_close(accuracy, 0.01 * inrs.object_id + 0.086)
        seen += inrs.object_id.tolist()
    assert sorted(seen) == list(range(NUM_NETWORKS))
    assert store.header.measures == ("config.learning_rate", "step", "test_accuracy")
    assert store.architecture.groups == {"h1": 4, "h2": 5}
    assert store.architecture.functions_of("h2") == ()  # relu here, tanh there


def test_checkpoints_of_a_network_are_its_views(source, tmp_path):
    found = import_zoo(source, tmp_path / "store", steps=[86, 0], activation="relu")
    assert found.store.architecture.functions_of("h2") == ("relu", "avg_pool")
    ids = {split: found.store.split(split).object_id for split in ("train", "val", "test")}
    assert all(own[: len(own) // 2].equal(own[len(own) // 2 :]) for own in ids.values())
    assert sum(len(own.unique()) for own in ids.values()) == len(
        torch.cat([*ids.values()]).unique()
    )
    steps = found.store.columns(("step",), "val")[:, 0]
    assert steps.tolist() == [86.0, 0.0]


def test_splits_can_be_those_of_nfn(source, tmp_path):
    order = np.random.default_rng(2).permutation(NUM_NETWORKS * 3)
    np.savetxt(tmp_path / "order.csv", order, fmt="%d")
    store = import_zoo(source, tmp_path / "store", row_order=tmp_path / "order.csv").store
    last = [
        row // 3 for row in order.tolist() if row % 3 == 2
    ]  # networks, by their last checkpoint
    learned = list(range(6))
    random.Random(0).shuffle(learned)
    assert store.split("test").object_id.tolist() == last[6:]
    assert store.split("train").object_id.tolist() == [last[i] for i in learned[:4]]
    assert store.split("val").object_id.tolist() == [last[i] for i in learned[4:]]


def test_what_is_incomplete_or_not_finite_is_left_out_and_told(source, tmp_path, capsys):
    rows = metric_rows()
    weights = np.load(source / "weights.npy")
    weights[2, 7] = np.nan
    np.save(source / "weights.npy", np.delete(weights, 5, axis=0))
    write_csv(source / "metrics.csv.gz", rows[:5] + rows[6:])
    main(["zoo", "import", f"--source={source}", f"--output={tmp_path / 'store'}"])
    told = capsys.readouterr().err
    assert "1 of 12 networks lacks a checkpoint and was left out" in told
    assert "1 network has weights that are not finite" in told
    assert INRStore(tmp_path / "store").object_ids() == set(range(10))


def test_an_import_is_continued(source, tmp_path):
    directory = tmp_path / "store"
    import_zoo(source, directory)
    before = {path.name: path.read_bytes() for path in directory.glob("*.*s*")}
    (directory / "dataset.json").unlink()
    next(directory.glob("val*")).unlink()
    import_zoo(source, directory)
    assert {path.name: path.read_bytes() for path in directory.glob("*.*s*")} == before


def spoil_pickle(folder):
    np.save(folder / "weights.npy", np.array([{"a": 1}]), allow_pickle=True)


def spoil_rows(folder):
    np.save(folder / "weights.npy", np.load(folder / "weights.npy")[:-1])


def spoil_columns(folder):
    np.save(folder / "weights.npy", np.load(folder / "weights.npy")[:, :-1])


def spoil_gzip(folder):
    path = folder / "metrics.csv.gz"
    path.write_bytes(path.read_bytes()[:-20])


def spoil_step(folder):
    write_csv(folder / "metrics.csv.gz", [{**row, "step": "last"} for row in metric_rows()])


def spoil_metrics(folder):
    rows = [{"step": row["step"]} for row in metric_rows()]
    write_csv(folder / "metrics.csv.gz", rows)


def spoil_twice(folder):
    write_csv(folder / "metrics.csv.gz", [{**row, "step": 86} for row in metric_rows()])


def spoil_layout(folder):
    rows = layout_rows()
    rows[1]["start_idx"] = 5
    write_csv(folder / "layout.csv", rows)


def spoil_name(folder):
    rows = layout_rows()
    rows[0]["varname"] = "sequential/batch_normalization/gamma:0"
    write_csv(folder / "layout.csv", rows)


def spoil_flatten(folder):
    rows = layout_rows()
    rows[5]["shape"] = (25, 2)
    rows[4] |= {"shape": (2,), "end_idx": rows[4]["start_idx"] + 2}
    rows[5] |= {"start_idx": rows[4]["end_idx"], "end_idx": rows[4]["end_idx"] + 50}
    write_csv(folder / "layout.csv", rows)


def lose_layout(folder):
    (folder / "layout.csv").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_pickle, "weights.npy: not a NumPy array of numbers"),
        (spoil_rows, "metrics.csv.gz: 36 lines, and weights.npy has 35 rows"),
        (spoil_columns, r"shape \(36, 284\), expected floats of shape \(N, 285\)"),
        (spoil_gzip, "metrics.csv.gz: cannot be read"),
        (spoil_step, "step must be a number in every line"),
        (spoil_metrics, "no column 'modeldir', it has step"),
        (spoil_twice, "two lines of /zoo/00000, step 86"),
        (spoil_layout, "layout.csv, line 3: columns 5 to 40"),
        (spoil_name, "gamma:0', expected a name that ends in kernel:0 or bias:0"),
        (spoil_flatten, "layer 2 takes in 25 channels and the one before gives 5"),
        (lose_layout, "layout.csv: is missing"),
    ],
)
def test_a_bad_source_is_one_error(source, tmp_path, spoil, message):
    spoil(source)
    with pytest.raises(DataError, match=message):
        import_zoo(source, tmp_path / "store")
    assert not (tmp_path / "store" / "dataset.json").exists()


def test_what_is_not_there_is_named(source, tmp_path):
    with pytest.raises(DataError, match=r"no checkpoint of step 7, only \[0, 20, 86\]"):
        import_zoo(source, tmp_path / "store", steps=[7])
    with pytest.raises(
        DataError, match="no network has the activation 'selu'; there is relu, tanh"
    ):
        import_zoo(source, tmp_path / "store", activation="selu")
    with pytest.raises(DataError, match=r"nowhere is no folder; expected one with weights\.npy"):
        import_zoo(tmp_path / "nowhere", tmp_path / "store")
    (tmp_path / "order.csv").write_text("0\n1\n1\n")
    with pytest.raises(DataError, match="expected the numbers of all 36 rows, each once"):
        import_zoo(source, tmp_path / "store", row_order=tmp_path / "order.csv")
