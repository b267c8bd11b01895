import io
import itertools
import json
import os
import pickle
import re
import zipfile

import pytest
import torch
from tiny import ARCHITECTURE

from lightning_dws import INRArchitecture, WeightBatch, weight_space
from lightning_dws.commands.convert import export_parser, import_parser, run_export, run_import
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore, evaluate_inrs, formats
from lightning_dws.inrs.formats import importer
from lightning_dws.inrs.formats.torch_files import parse_torch_file
from lightning_dws.inrs.pictures import draw_reconstructions, render_images
from lightning_dws.inrs.signals import FashionMNIST
from lightning_dws.inrs.signals.base import pixel_coordinates
from lightning_dws.inrs.store import ShardRange, StoreHeader, write_index, write_shard
from lightning_dws.inrs.store.convention import ImageConvention

NFN = ImageConvention("ij", (-1.0, 1.0))
SIZES = {"train": 12, "val": 5, "test": 4}
ONE_VIEW = ("dwsnets-mnist", "dwsnets-fmnist")
EVERY = (*ONE_VIEW, "multiview", "nfn", "state-dicts")


def make_store(
    directory, views=1, architecture=ARCHITECTURE, convention=None, classes=FashionMNIST.classes
):
    """A store with several classes, and weights of every kind that float32 has."""
    directory.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    header = StoreHeader(
        architecture, classes, "numbers", (5, 6), {}, 0, convention or ImageConvention()
    )
    shards, first = [], 0
    for split, size in SIZES.items():
        object_id = torch.randperm(size, generator=generator) + first
        label = torch.randint(len(classes), (size,), generator=generator)
        for view in range(views if split == "train" else 1):
            parameters = torch.randn(size, architecture.num_parameters, generator=generator)
            parameters[0, :3] = torch.tensor([0.0, -0.0, 1e-30])
            batch = WeightBatch(
                architecture, parameters, label, object_id, torch.full_like(label, view)
            )
            where = ShardRange(split, view, 0, size)
            psnr = torch.full((size,), 20.0)
            shards.append(write_shard(directory, where, batch, psnr, header.fingerprint))
        first += size
    write_index(directory, header, shards)
    return INRStore(directory)


def do_import(name, source, output, *args):
    words = ["--format", name, "--source", str(source), "--output", str(output), *args]
    run_import(import_parser().parse_args(words))
    return INRStore(output)


def do_export(name, source, output):
    words = ["--format", name, "--source", str(source), "--output", str(output)]
    run_export(export_parser().parse_args(words))
    return output


def assert_same(a, b, by_id=True):
    """The same INRs, bit for bit; in the same order unless they are matched by their ids."""
    assert a.splits == b.splits
    for split in a.splits:
        first, second = a.split(split), b.split(split)
        if by_id:
            first, second = (
                x[torch.argsort(x.view * 10**6 + x.object_id)] for x in (first, second)
            )
            assert torch.equal(first.object_id, second.object_id)
        bits = [x.parameters.view(torch.int32) for x in (first, second)]
        assert torch.equal(*bits)
        assert torch.equal(first.label, second.label)
        assert torch.equal(first.view, second.view)


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("name", "views"),
    [(name, views) for name in EVERY for views in (1, 3) if views == 1 or name not in ONE_VIEW],
)
def test_round_trips_are_bit_identical(tmp_path, name, views):
    convention = NFN if name == "nfn" else None
    architecture = INRArchitecture(
        ARCHITECTURE.widths, output_offset=0.0 if name in ("nfn", "state-dicts") else 0.5
    )
    store = make_store(tmp_path / "store", views, architecture, convention)
    out = do_export(name, store.directory, tmp_path / "siren_fashion_wts")
    again = do_import(name, out, tmp_path / "again")
    # nfn's split is told by the index, so objects are numbered anew, in the same order
    assert_same(store, again, by_id=name != "nfn")
    assert again.architecture == architecture
    assert again.header.convention == (convention or ImageConvention())
    assert again.classes == (
        FashionMNIST.classes if name != "dwsnets-mnist" else tuple("0123456789")
    )
    assert again.psnr("train").isnan().all()
    twice = do_export(name, again.directory, tmp_path / "twice" / "siren_fashion_wts")
    assert files_of(twice) == files_of(out)
    third = do_import(name, twice, tmp_path / "third")
    assert_same(again, third)
    assert files_of(third.directory) == files_of(again.directory)


def in_float64(batch: WeightBatch) -> WeightBatch:
    """So that renderings of weights as large as these differ by what is wrong, not by rounding."""
    return batch.replace(parameters=batch.parameters.double())


def test_a_round_trip_through_another_convention_changes_no_bit(tmp_path):
    store = make_store(tmp_path / "store")
    nfn = do_export("nfn", store.directory, tmp_path / "siren_mnist_wts")
    middle = do_import("nfn", nfn, tmp_path / "middle", "--w0", "8")
    assert not torch.equal(middle.split("train").parameters, store.split("train").parameters)
    wanted = render_images(in_float64(store.split("val")), (9, 7))
    shown = render_images(in_float64(middle.split("val")), (9, 7), middle.header.convention)
    torch.testing.assert_close(shown, wanted, rtol=0, atol=1e-6)
    back = do_export("dwsnets-fmnist", middle.directory, tmp_path / "fmnist_inrs")
    again = do_import("dwsnets-fmnist", back, tmp_path / "again", "--w0", "8")
    assert_same(store, again, by_id=False)


def test_weights_that_cannot_be_rewritten_exactly_are_refused(tmp_path):
    other = INRArchitecture(ARCHITECTURE.widths, output_offset=0.25)
    store = make_store(tmp_path / "store", architecture=other)
    with pytest.raises(DataError, match="cannot be turned into nfn's"):
        do_export("nfn", store.directory, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def check_state(path, layers, label=None):
    state = torch.load(path, weights_only=True)
    shapes = [(6, 2), (6,), (5, 6), (5,), (1, 5), (1,)]
    keys = [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    assert list(state) == keys + ([] if label is None else ["label"])
    if label is not None:
        assert type(state.pop("label")) is int
    assert [tuple(tensor.shape) for tensor in state.values()] == shapes
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert all(t.untyped_storage().nbytes() == 4 * t.numel() for t in state.values())


def test_an_exported_multiview_dataset_is_laid_out_as_published(tmp_path):
    store = make_store(tmp_path / "store", views=2)
    out = do_export("multiview", store.directory, tmp_path / "fmnist_multiview")
    train, test = store.split("train", views=1), store.split("test")
    ids = {split: store.split(split, views=1).object_id.tolist() for split in store.splits}
    paths = {
        "train": [f"view_{v}/train/model_{i}.pth" for v in (0, 1) for i in ids["train"]],
        "val": [f"view_0/train/model_{i}.pth" for i in ids["val"]],
        "test": [f"view_0/test/model_{i}.pth" for i in ids["test"]],
    }
    assert json.loads((out / "splits.json").read_text()) == {
        split: [f"fmnist_multiview/{path}" for path in part] for split, part in paths.items()
    }
    expected = {"splits.json", "statistics.pth", *(p for part in paths.values() for p in part)}
    assert set(files_of(out)) == expected
    for part in paths.values():
        for path in part:
            check_state(out / path, ["seq.0", "seq.1", "seq.2"], label=True)
    assert torch.load(out / paths["train"][0])["label"] == int(train.label[0])
    assert torch.load(out / paths["test"][-1])["label"] == int(test.label[-1])
    statistics = torch.load(out / "statistics.pth", weights_only=True)
    assert set(statistics) == {"weights", "biases"}
    both = store.split("train")
    for kind, tensors in (("weights", [w.mT for w in both.weights]), ("biases", both.biases)):
        assert set(statistics[kind]) == {"mean", "std"}
        for layer, values in enumerate(tensors):
            for measure in ("mean", "std"):
                found = statistics[kind][measure][layer]
                wanted = getattr(values, measure)(dim=0)[..., None]
                assert found.dtype == torch.float32
                torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_an_exported_fmnist_dataset_is_laid_out_as_published(tmp_path):
    store = make_store(tmp_path / "store")
    out = do_export("dwsnets-fmnist", store.directory, tmp_path / "fmnist_inrs")
    ids = {split: store.split(split).object_id.tolist() for split in store.splits}
    paths = {
        s: [f"{'test' if s == 'test' else 'train'}/model_{i}.pth" for i in ids[s]] for s in ids
    }
    listed = {split: [f"fmnist_inrs/{path}" for path in part] for split, part in paths.items()}
    assert json.loads((out / "splits.json").read_text()) == listed
    assert set(files_of(out)) == {"splits.json", *(p for part in paths.values() for p in part)}
    for path in paths["train"]:
        check_state(out / path, ["seq.0", "seq.1", "seq.2"], label=True)


def test_exported_mnist_and_nfn_names(tmp_path):
    store = make_store(tmp_path / "store", convention=NFN)
    out = do_export("nfn", store.directory, tmp_path / "siren_fashion_wts")
    label = store.split("val").label.tolist()
    for position, own in enumerate(label):
        path = out / f"randinit_smaller_{own}s" / f"net{45_000 + position}.pth"
        check_state(path, ["net.0.linear", "net.1.linear", "net.2"])
    other = make_store(tmp_path / "other", architecture=ARCHITECTURE)
    out = do_export("dwsnets-mnist", other.directory, tmp_path / "mnist-inrs")
    test = other.split("test")
    folder = f"mnist_png_testing_{int(test.label[0])}_{int(test.object_id[0])}"
    check_state(out / folder / "checkpoints" / "model_final.pth", ["seq.0", "seq.1", "seq.2"])
    (out / "mnist_splits.json").unlink()
    plain = do_import("dwsnets-mnist", out, tmp_path / "plain")
    assert plain.splits == ("train", "test")
    assert plain.num_objects("train") == 17
    held = do_import("dwsnets-mnist", out, tmp_path / "held", "--num_val", "5")
    assert [held.num_objects(split) for split in held.splits] == [12, 5, 4]


def state_dict(seed=0, widths=(2, 6, 5, 1)):
    torch_state = torch.nn.Sequential(
        *(torch.nn.Linear(a, b) for a, b in itertools.pairwise(widths))
    ).state_dict()
    generator = torch.Generator().manual_seed(seed)
    return {f"seq.{k}": torch.randn(v.shape, generator=generator) for k, v in torch_state.items()}


def write_fmnist(root, count=6):
    """The published fmnist layout, by hand: ids that overlap between train and test."""
    splits = {"train": [], "val": [], "test": []}
    for split, first in (("train", 0), ("val", count), ("test", 0)):
        for i in range(first, first + count):
            folder = "test" if split == "test" else "train"
            (root / folder).mkdir(parents=True, exist_ok=True)
            torch.save({**state_dict(i), "label": i % 10}, root / folder / f"model_{i}.pth")
            splits[split].append(f"elsewhere/fmnist_inrs/{folder}/model_{i}.pth")
    (root / "splits.json").write_text(json.dumps(splits))
    return root


def test_published_files_keep_their_bytes_and_numbers(tmp_path):
    root = write_fmnist(tmp_path / "fmnist_inrs")
    store = do_import("dwsnets-fmnist", root, tmp_path / "store")
    assert store.split("test").object_id.tolist() == [60_000 + i for i in range(6)]
    row = torch.cat([tensor.flatten() for tensor in state_dict(7).values()])
    assert torch.equal(store.split("val").parameters[1], row)
    assert store.architecture == INRArchitecture((2, 6, 5, 1))
    out = do_export("dwsnets-fmnist", store.directory, tmp_path / "out")
    assert {n for n in files_of(out) if n.endswith(".pth")} == {
        n for n in files_of(root) if n.endswith(".pth")
    }
    for path in (root / "test").iterdir():
        first, second = torch.load(path), torch.load(out / "test" / path.name)
        assert first.pop("label") == second.pop("label")
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_objects_are_held_out_by_the_labels_inside_their_files(tmp_path):
    root = write_fmnist(tmp_path / "fmnist_inrs", count=20)
    splits = json.loads((root / "splits.json").read_text())
    splits["train"] += splits.pop("val")
    (root / "splits.json").write_text(json.dumps(splits))
    store = do_import("dwsnets-fmnist", root, tmp_path / "store", "--num_val", "10")
    assert [store.num_objects(split) for split in store.splits] == [30, 10, 20]
    assert store.split("val").label.sort().values.tolist() == list(range(10))


def test_nfns_images_stand_upright(tmp_path):
    """INRs of the row alone: white below, in nfn's convention (row first, from -1 to 1)."""
    root = tmp_path / "siren_mnist_wts" / "randinit_smaller_3s"
    root.mkdir(parents=True)
    state = {
        "net.0.linear.weight": torch.tensor([[1 / 30, 0.0]]),
        "net.0.linear.bias": torch.zeros(1),
        "net.1.weight": torch.tensor([[1 / torch.sin(torch.tensor(1.0)).item()]]),
        "net.1.bias": torch.zeros(1),
    }
    torch.save(state, root / "net0.pth")
    store = do_import("nfn", root.parent, tmp_path / "store")
    assert store.architecture.output_offset == 0
    image = render_images(store.split("train"), (28, 28), store.header.convention)[0, ..., 0]
    assert torch.equal(image, image[:, :1].expand(28, 28))  # nothing changes from left to right
    torch.testing.assert_close(image[[0, -1], 0], torch.tensor([0.0, 1.0]), rtol=0, atol=1e-6)
    value = evaluate_inrs(store.split("train"), pixel_coordinates(28, 28).flip(1))[0, :, 0]
    torch.testing.assert_close(image.flatten(), ((value + 1) / 2).clamp(0, 1))
    figure = draw_reconstructions(store, None, "train", 1)
    assert figure.axes[0].get_title() == "3\n- dB"


def test_state_dicts_under_any_names(tmp_path):
    from safetensors.torch import save_file

    network = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Linear(6, 1))
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "in" / split / name).mkdir(parents=True)
    torch.save(network.state_dict(), tmp_path / "in/train/cat/a.pt")
    torch.save(dict(network.named_parameters()), tmp_path / "in/train/dog/b.pth")
    save_file(network.state_dict(), tmp_path / "in/test/dog/c.safetensors")
    store = do_import("state-dicts", tmp_path / "in", tmp_path / "out", "--output_offset", "0.5")
    row = torch.nn.utils.parameters_to_vector(network.parameters()).detach()
    assert torch.equal(store.split("train").parameters, row.expand(2, -1))
    assert torch.equal(store.split("test").parameters[0], row)
    assert store.classes == ("cat", "dog")
    assert sorted(store.split("train").label.tolist()) == [0, 1]
    assert store.architecture.output_offset == 0.5


@pytest.mark.parametrize(("num_inputs", "grid_shape"), [(4, None), (2, (28, 28)), (3, (32,) * 3)])
def test_inrs_of_images_and_shapes_are_taken_and_others_refused(tmp_path, num_inputs, grid_shape):
    (tmp_path / "in" / "train" / "cat").mkdir(parents=True)
    network = torch.nn.Sequential(torch.nn.Linear(num_inputs, 6), torch.nn.Linear(6, 1))
    torch.save(network.state_dict(), tmp_path / "in/train/cat/a.pt")
    if grid_shape is None:
        with pytest.raises(DataError, match=r"with 4 inputs, expected 1 .*, 2 .* or 3"):
            do_import("state-dicts", tmp_path / "in", tmp_path / "out")
        assert not (tmp_path / "out" / "dataset.json").exists()
        return
    store = do_import("state-dicts", tmp_path / "in", tmp_path / "out")
    assert store.header.grid_shape == grid_shape
    assert draw_reconstructions(store, None, "train", 1).axes
    again = do_export("state-dicts", store.directory, tmp_path / "exported")
    assert_same(store, do_import("state-dicts", again, tmp_path / "back"))


def import_one(folder, widths, *options):
    """Import one INR of a network of those widths, the same at each call."""
    torch.manual_seed(0)
    layers = itertools.starmap(torch.nn.Linear, itertools.pairwise(widths))
    network = torch.nn.Sequential(*layers)
    path = folder / "in" / "train" / "cat" / "a.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return do_import("state-dicts", folder / "in", folder / f"out{len(options)}", *options)


def test_what_state_dicts_mean_is_said_by_options(tmp_path):
    """Which axis comes first, black and white, and the size: seen in the pictures."""
    drawn = []
    turned = ("--axis_order=ij", "--grid_shape", "9", "6")
    for options in (("--value_range", "-9", "9"), (*turned, "--value_range", "-3", "3")):
        store = import_one(tmp_path, (2, 6, 1), "--output_offset=0.5", *options)
        header = store.header
        assert header.grid_shape == ((9, 6) if turned[0] in options else (28, 28))
        image = render_images(store.split("train"), (7, 7), header.convention)[0]
        low, high = header.convention.value_range
        drawn.append(low + (high - low) * image)
    assert torch.allclose(drawn[1], drawn[0].transpose(0, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("widths", "options", "note"),
    [
        ((3, 6, 1), ("--volume", "--grid_shape", "4", "5", "6"), "--grid_shape 4 5 6"),
        ((2, 6, 4), ("--alpha",), "--alpha"),
    ],
)
def test_what_an_export_has_no_place_for_comes_back_by_options(
    tmp_path, widths, options, note, capsys
):
    store = import_one(tmp_path, widths, *options)
    again = do_export("state-dicts", store.directory, tmp_path / "exported")
    assert f"import it with {note}" in capsys.readouterr().err
    back = do_import("state-dicts", again, tmp_path / "back", *options)
    assert back.header.convention == store.header.convention
    assert back.header.grid_shape == store.header.grid_shape
    assert_same(store, back)


@pytest.mark.parametrize(
    ("widths", "options", "message"),
    [
        ((2, 6, 1), ("--alpha",), "2 inputs and 1 outputs have no alpha"),
        ((2, 6, 1), ("--volume",), "2 inputs are of no volumes, expected 3"),
        ((3, 6, 1), ("--axis_order=ij",), "3 inputs have no axis order"),
        ((2, 6, 1), ("--value_range", "1", "0"), "value_range must be finite and ascending"),
        ((2, 6, 1), ("--grid_shape", "5"), r"grid_shape \[5\], expected 2 numbers"),
        ((2, 6, 1), ("--grid_shape", "5", "0"), r"grid_shape \[5, 0\], expected 2 numbers"),
    ],
)
def test_options_that_inrs_cannot_mean_are_refused(tmp_path, widths, options, message):
    with pytest.raises(DataError, match=message):
        import_one(tmp_path, widths, *options)
    assert not (tmp_path / f"out{len(options)}" / "dataset.json").exists()


def test_inr2vec(tmp_path):
    h5py = pytest.importorskip("h5py")
    architecture = INRArchitecture((3, 4, 4, 1), output_offset=0.0)
    rows = torch.randn(6, architecture.num_parameters)
    for i, row in enumerate(rows):
        path = tmp_path / "in" / ("train" if i < 4 else "test") / f"{i % 4}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["params"], file["class_id"] = row.numpy(), i % 2
            file["vertices"] = [[0.0, 1.0, 2.0]]
    store = do_import("inr2vec", tmp_path / "in", tmp_path / "out", "--widths", "[3, 4, 4, 1]")
    assert store.architecture == architecture
    order = store.split("train").object_id
    assert torch.equal(store.split("train").parameters, rows[order])
    assert torch.equal(store.split("test").parameters.sort(0).values, rows[4:].sort(0).values)
    with pytest.raises(DataError, match="other widths can be given"):
        do_import("inr2vec", tmp_path / "in", tmp_path / "other")
    with h5py.File(tmp_path / "in" / "train" / "0.h5", "w") as file:
        file["class_id"] = 0
        file["params"] = h5py.ExternalLink("../test/0.h5", "params")
    with pytest.raises(DataError, match="holds no params of its own"):
        do_import("inr2vec", tmp_path / "in", tmp_path / "third", "--widths", "[3, 4, 4, 1]")


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def damage(root, marker):
    """Spoil five of the training files, each in its own way."""
    train = root / "train"
    torch.save({**state_dict(), "label": Evil(marker)}, train / "model_0.pth")
    content = bytearray((train / "model_1.pth").read_bytes())
    content[content.index(torch.load(train / "model_1.pth")["seq.0.weight"].numpy().tobytes())] ^= 1
    (train / "model_1.pth").write_bytes(content)
    torch.save({**state_dict(widths=(2, 7, 5, 1)), "label": 1}, train / "model_2.pth")
    huge = {name: tensor.double() * 1e39 for name, tensor in state_dict().items()}
    torch.save({**huge, "label": 1}, train / "model_3.pth")
    secret = root.parent / "secret.pth"
    torch.save({**state_dict(), "label": 1}, secret)
    (train / "model_4.pth").unlink()
    (train / "model_4.pth").symlink_to(secret)


def test_bad_files_are_reported_and_left_out(tmp_path, capsys):
    root, marker = write_fmnist(tmp_path / "fmnist_inrs"), tmp_path / "marker"
    damage(root, marker)
    with pytest.raises(DataError, match="5 bad files, nothing is published") as caught:
        do_import("dwsnets-fmnist", root, tmp_path / "strict")
    reasons = (
        r"names posix.system: refused, nothing was run",
        r"Bad CRC-32",
        r"widths \(2, 7, 5, 1\), expected \(2, 6, 5, 1\)",
        r"its weights are not finite in float32",
        r"leads out of the source folder",
    )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "strict" / "dataset.json").exists()
    capsys.readouterr()
    store = do_import("dwsnets-fmnist", root, tmp_path / "store", "--skip-bad")
    told = capsys.readouterr().err
    for reason in reasons:
        assert len([line for line in told.splitlines() if re.search(reason, line)]) == 1, reason
    assert store.split("train").object_id.tolist() == [5]
    assert store.num_objects("val") == store.num_objects("test") == 6
    assert not marker.exists()


def test_an_object_is_left_out_in_all_views(tmp_path, capsys):
    made = make_store(tmp_path / "made", views=2)
    root = do_export("multiview", made.directory, tmp_path / "views")
    (root / "view_1" / "train" / "model_3.pth").write_bytes(b"PK\x03\x04")
    store = do_import("multiview", root, tmp_path / "store", "--skip-bad")
    train = store.split("train")
    assert len(train) == 22
    assert 3 not in train.object_id
    assert torch.equal(train.object_id[:11], train.object_id[11:])
    assert "its object is left out of every view" in capsys.readouterr().err
    splits = json.loads((root / "splits.json").read_text())
    splits["train"].remove("views/view_0/train/model_5.pth")
    (root / "splits.json").write_text(json.dumps(splits))
    with pytest.raises(DataError, match="no file of view 0, so it is left out of every view"):
        do_import("multiview", root, tmp_path / "other")


@pytest.mark.parametrize(
    "path", ["../secret.pth", "/etc/passwd", "train/../../secret.pth", "a\0b", "", ".", "x" * 5000]
)
def test_paths_that_lead_out_are_refused(tmp_path, path):
    root = write_fmnist(tmp_path / "fmnist_inrs")
    torch.save({**state_dict(), "label": 1}, tmp_path / "secret.pth")
    splits = json.loads((root / "splits.json").read_text())
    splits["test"].append(path)
    (root / "splits.json").write_text(json.dumps(splits))
    with pytest.raises(DataError, match="1 bad file"):
        do_import("dwsnets-fmnist", root, tmp_path / "store")


@pytest.mark.parametrize("skip", [(), ("--skip-bad",)])
def test_an_interrupted_import_is_resumed(tmp_path, monkeypatch, skip):
    made = make_store(tmp_path / "made", views=2)
    root = do_export("multiview", made.directory, tmp_path / "views")
    if skip:
        (root / "view_1" / "train" / "model_3.pth").write_bytes(b"nothing")
    monkeypatch.setattr(importer, "SHARD_SIZE", 4)
    straight = do_import("multiview", root, tmp_path / "straight", *skip)
    real, calls = importer.write_shard, []

    def failing(directory, where, *rest):
        calls.append(where)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(directory, where, *rest)

    monkeypatch.setattr(importer, "write_shard", failing)
    with pytest.raises(KeyboardInterrupt):
        do_import("multiview", root, tmp_path / "store", *skip)
    with pytest.raises(DataError, match="an unfinished store"):
        INRStore(tmp_path / "store")
    store = do_import("multiview", root, tmp_path / "store", *skip)
    assert len(calls) == len(store.shards) + 1  # view 0 of the chunk that was stopped, again
    assert files_of(store.directory) == files_of(straight.directory)
    do_import("multiview", root, tmp_path / "store", *skip)
    assert len(calls) == len(store.shards) + 1
    if not skip:  # a file that changes is read again
        path = root / "view_1" / "train" / "model_3.pth"
        state = torch.load(path)
        torch.save(state | {"seq.0.bias": torch.zeros(6)}, path)
        store = do_import("multiview", root, tmp_path / "store")
        train = store.split("train")
        assert (train.biases[0] == 0).all(dim=1).nonzero().tolist() == [
            [12 + train.object_id[:12].tolist().index(3)]
        ]


def test_a_repaired_file_is_taken_in(tmp_path, monkeypatch):
    made = make_store(tmp_path / "made", views=2)
    root = do_export("multiview", made.directory, tmp_path / "views")
    monkeypatch.setattr(importer, "SHARD_SIZE", 4)
    path = root / "view_1" / "train" / "model_3.pth"
    content = path.read_bytes()
    path.write_bytes(b"")
    do_import("multiview", root, tmp_path / "store", "--skip-bad")
    path.write_bytes(content)
    store = do_import("multiview", root, tmp_path / "store")
    assert_same(store, INRStore(made.directory))


def test_a_folder_of_something_else_is_refused_and_kept(tmp_path):
    made = make_store(tmp_path / "made")
    root = do_export("dwsnets-fmnist", made.directory, tmp_path / "out")
    before = files_of(made.directory)
    with pytest.raises(DataError, match="holds a store of something else"):
        do_import("dwsnets-fmnist", root, made.directory)
    assert files_of(made.directory) == before | {".lock": b""}
    with pytest.raises(DataError, match="not an empty folder"):
        do_export("nfn", made.directory, root)
    two = make_store(tmp_path / "two", views=2)
    with pytest.raises(DataError, match=r"2 views, dwsnets-mnist has room for one"):
        do_export("dwsnets-mnist", two.directory, tmp_path / "none")


def test_sources_of_another_layout_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in formats.LAYOUTS:
        if name == "inr2vec":
            pytest.importorskip("h5py")
        with pytest.raises(DataError, match=r"no INRs of layout|splits\.json: missing"):
            do_import(name, tmp_path / "empty", tmp_path / name)
        with pytest.raises(DataError, match="not a folder"):
            do_import(name, tmp_path / "nowhere", tmp_path / name)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_torch_file_is_read_as_torch_reads_it(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Linear(6, 1))
    for protocol in (2, 3, 4, 5):
        for content in (network.state_dict(), dict(network.named_parameters()), state_dict()):
            content = content | {"label": 70_000, "t": content[next(iter(content))].T}
            torch.save(content, tmp_path / "x.pth", pickle_protocol=protocol)
            found = parse_torch_file((tmp_path / "x.pth").read_bytes(), 10**6)
            # torch itself reads no newer protocol than this
            readable = protocol <= 3
            expected = torch.load(tmp_path / "x.pth", weights_only=True) if readable else content
            assert found.pop("label") == expected.pop("label")
            assert list(found) == list(expected)
            assert all(torch.equal(found[name], expected[name]) for name in expected)


def with_pickle(pickled):
    """A torch file with other instructions, and right checksums."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", bytes(40))
    return buffer.getvalue()


def nested_key(depth):
    """Tuples of tuples, as a key: hashing it takes 2 ** depth steps."""
    return b"\x80\x02})" + b"q\x00h\x00\x86" * depth + b"K\x01s."


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + (2**40).to_bytes(6, "little") + b"\x85R.",
        nested_key(60),
        b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s.",
        b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.",
        b"\x80\x02}" + b"(" * 100_000 + b".",
        pickle.dumps({"a": {1}}),
        pickle.dumps({("a",): 1}),
        pickle.dumps([1]),
        b"",
    ],
)
def test_hostile_pickles_end_at_once(pickled):
    with pytest.raises(DataError):
        parse_torch_file(with_pickle(pickled), 10**6)


def test_views_keep_their_published_names(tmp_path):
    made = make_store(tmp_path / "made", views=3)
    root = do_export("multiview", made.directory, tmp_path / "a")
    for view in range(3):
        (root / f"view_{view}").rename(root / f"init{10 - view}")
    text = (root / "splits.json").read_text()
    for view in range(3):
        text = text.replace(f"view_{view}/", f"init{10 - view}/")
    (root / "splits.json").write_text(text)
    splits = json.loads(text)  # val and test, too, lie in view 0, which is now the last by name
    store = None
    with pytest.raises(DataError, match="no file of view"):
        store = do_import("multiview", root, tmp_path / "store")
    for split in ("val", "test"):
        splits[split] = [p.replace("init10", "init8") for p in splits[split]]
    (root / "splits.json").write_text(json.dumps(splits))
    for split in ("train", "test"):
        (root / "init8" / split).mkdir(exist_ok=True)
    for split in ("val", "test"):
        for path in splits[split]:
            own = root / path.removeprefix("a/")
            os.rename(str(own).replace("init8", "init10"), own)
    store = do_import("multiview", root, tmp_path / "store")
    assert store.header.recipe["views"] == ["init8", "init9", "init10"]
    out = do_export("multiview", store.directory, tmp_path / "b" / "a")
    assert set(files_of(out)) == set(files_of(root))
    assert len(weight_space.cat([store.split("train"), store.split("test")])) == 40
