"""Networks as people save them: what they compute is what their rows in the store compute."""

import io
import itertools
import json
import os
import resource
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lightning_dws import INRArchitecture
from lightning_dws.commands.convert import export_parser, import_parser, run_export, run_import
from lightning_dws.errors import DataError
from lightning_dws.inrs import INRStore, evaluate_inrs
from lightning_dws.inrs.formats import WRITABLE, StateDicts, export_inrs, source_function
from lightning_dws.inrs.formats.importing import choose_grid
from lightning_dws.inrs.formats.layers import find_layers
from lightning_dws.inrs.formats.source import Source
from lightning_dws.inrs.formats.torch_files import parse_torch_file

WIDTHS = (2, 6, 6, 6, 1)
SEQUENTIAL = [f"seq.{layer}" for layer in range(4)]
SIREN_PYTORCH = ["layers.0", "layers.1", "layers.2", "last_layer"]
POINTS = 2 * torch.rand(40, 2, generator=torch.Generator().manual_seed(1)) - 1


def make_state(names=SEQUENTIAL, widths=WIDTHS, seed=0):
    """Layers under these names, in this order, with weights that no two layers share."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, (n_in, n_out) in zip(names, itertools.pairwise(widths), strict=True):
        state[f"{name}.weight"] = (torch.rand(n_out, n_in, generator=generator) - 0.5) / n_in
        state[f"{name}.bias"] = torch.randn(n_out, generator=generator) / 10
    return state


def compute(state, w0=(30.0, 30.0, 30.0), activation=torch.sin):
    """What an ordinary network of these layers, in this order, computes, in float64."""
    values, tensors = POINTS.double(), [tensor.double() for tensor in state.values()]
    for layer, (weight, bias) in enumerate(zip(tensors[::2], tensors[1::2], strict=True)):
        values = nn.functional.linear(values, weight, bias)
        if layer < len(w0):
            values = activation(w0[layer] * values)
    return values


def write(root, content, name="0.pth"):
    path = root / "train" / "cat" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".safetensors"):
        save_file(content, path)
    else:
        torch.save(content, path)
    return root


def do_import(root, output, *args, format_name="state-dicts"):
    words = ["--format", format_name, "--source", str(root), "--output", str(output), *args]
    run_import(import_parser().parse_args(words))
    return INRStore(output)


def assert_computes(store, expected):
    inrs = store.split("train").to(torch.float64)
    found = evaluate_inrs(inrs, POINTS.double())[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("w0", "by_layer"),
    [("30 1", (30.0, 1.0, 1.0)), ("30 1 7", (30.0, 1.0, 7.0)), ("4", (4.0,) * 3)],
)
def test_a_frequency_per_layer_is_folded_into_the_weights(tmp_path, capsys, w0, by_layer):
    state = make_state()
    store = do_import(write(tmp_path / "in", state), tmp_path / "out", "--w0", *w0.split())
    assert store.architecture.w0 == by_layer[0]
    assert_computes(store, compute(state, by_layer))
    if len(set(by_layer)) == 1:
        row = torch.cat([tensor.flatten() for tensor in state.values()])
        assert torch.equal(store.split("train").parameters[0], row)
    else:
        assert store.header.recipe["w0"] == list(by_layer)
        with pytest.raises(DataError, match="holds a store of something else"):
            do_import(tmp_path / "in", tmp_path / "out", "--w0", "30")
    assert "computed by its own layers and from the store" in capsys.readouterr().err


def test_wrong_frequencies_are_refused(tmp_path):
    root = write(tmp_path / "in", make_state())
    with pytest.raises(DataError, match=r"5 values of w0 .* 3 hidden layers"):
        do_import(root, tmp_path / "out", "--w0", *"12345")
    with pytest.raises(DataError, match="cannot be given for activation relu"):
        do_import(root, tmp_path / "out", "--w0", "2", "--activation", "relu")
    write(root, {**make_state(), "omega_0": 15.0})
    with pytest.raises(DataError, match="its omega_0 is 15, imported with w0 30"):
        do_import(root, tmp_path / "out")
    assert_computes(
        do_import(root, tmp_path / "out", "--w0", "15"), compute(make_state(), (15,) * 3)
    )


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_names_of_siren_pytorch_need_their_frequencies(tmp_path, suffix):
    state = make_state(SIREN_PYTORCH)
    root = write(tmp_path / "in", state, f"0{suffix}")
    with pytest.raises(DataError, match=r"siren-pytorch's, .*: give --w0 30 1") as caught:
        do_import(root, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "dataset.json").exists()
    store = do_import(root, tmp_path / "out", "--w0", "30", "1")
    assert_computes(store, compute(state, (30.0, 1.0, 1.0)))


def test_layers_go_by_the_numbers_in_their_names(tmp_path, capsys):
    state = make_state(SEQUENTIAL)
    names = [f"seq.{layer}.{kind}" for layer in (0, 2, 1, 3) for kind in ("weight", "bias")]
    root = write(tmp_path / "in", {name: state[name] for name in names})
    store = do_import(root, tmp_path / "out")
    assert_computes(store, compute(state))
    assert "saved in another order than their names say" in capsys.readouterr().err


@pytest.mark.parametrize(
    "names",
    [
        ["net.0.linear", "net.1.linear", "net.2.linear", "net.3"],
        ["layers.0", "layers.1", "layers.2", "last_layer"],
        ["layers.8", "layers.9", "layers.10", "head"],
        ["w0", "w1", "w2", "w3"],
        ["model.2.first", "model.2.mid.0", "model.2.mid.1", "model.2.out"],
    ],
)
def test_layers_are_found_without_an_order(names):
    state = make_state(names)
    shuffled = {name: state[name] for name in sorted(state)}
    layers, is_changed = find_layers(shuffled, is_ordered=False)
    assert not is_changed
    found = [tensor for layer in layers for tensor in (layer.weight, layer.bias)]
    assert all(a is b for a, b in zip(found, state.values(), strict=True))


@pytest.mark.parametrize("names", ["w{} b{}", "weights.{} biases.{}", "params.{} params.{}"])
def test_weights_and_biases_are_joined_by_any_numbers(names):
    tensors = list(make_state().values())
    weight, bias = names.split()
    step = 2 if weight == bias else 1
    numbers = [step * layer + (step - 1) * kind for layer in range(4) for kind in (0, 1)]
    keys = [(bias if i % 2 else weight).format(n) for i, n in enumerate(numbers)]
    state = dict(zip(keys, tensors, strict=True))
    layers, _ = find_layers({name: state[name] for name in sorted(state)}, is_ordered=False)
    assert all(a.weight is b for a, b in zip(layers, tensors[::2], strict=True))
    assert all(a.bias is b for a, b in zip(layers, tensors[1::2], strict=True))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["first", "second", "third", "last"], "several orders of its layers"),
        (["a.0", "a.2", "b.1", "a.3"], None),
        (["seq.1", "seq.0", "seq.2", "seq.3"], "do not follow each other"),
    ],
)
def test_layers_whose_order_nothing_tells_are_refused(names, reason):
    state = make_state(names)
    if reason is None:  # the numbers are of all layers, whatever else is in the names
        order = [layer.name for layer in find_layers(state, is_ordered=True).layers]
        assert order == ["a.0", "b.1", "a.2", "a.3"]
        return
    with pytest.raises(DataError, match=reason):
        find_layers(state, is_ordered=False)


def test_many_equal_layers_without_numbers_do_not_hang():
    letters = ["".join(pair) for pair in itertools.product("abcdefgh", repeat=2)]
    with pytest.raises(DataError, match="orders of its layers"):
        find_layers(make_state(letters, (3,) * 65), is_ordered=False)


def test_a_tensor_that_belongs_to_no_layer_is_named(tmp_path):
    root = write(tmp_path / "in", {"grid": torch.zeros(9, 2), **make_state()})
    with pytest.raises(DataError, match="'grid' belongs to none"):
        do_import(root, tmp_path / "out")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_every_float_is_cast(tmp_path, capsys, dtype, suffix):
    state = {name: tensor.to(dtype) for name, tensor in make_state().items()}
    store = do_import(write(tmp_path / "in", state, f"0{suffix}"), tmp_path / "out")
    row = torch.cat([tensor.flatten() for tensor in state.values()])
    assert torch.equal(store.split("train").parameters[0], row.float())
    assert ("rounded to float32" in capsys.readouterr().err) == (dtype == torch.float64)


def test_what_float32_cannot_hold_is_refused(tmp_path):
    state = make_state()
    state["seq.1.weight"] = state["seq.1.weight"].double() * 1e39
    with pytest.raises(DataError, match="not finite in float32"):
        do_import(write(tmp_path / "in", state), tmp_path / "out")
    state["seq.1.weight"] = torch.zeros(6, 6, dtype=torch.int64)
    with pytest.raises(DataError, match=r"seq.1 is torch.int64, expected float32, float16"):
        do_import(write(tmp_path / "in", state), tmp_path / "out")


def checkpoints():
    network = nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(WIDTHS)))
    optimizer = torch.optim.Adam(network.parameters())
    network(POINTS).sum().backward()
    optimizer.step()
    state = network.state_dict()
    beside = {"epoch": 3, "loss": 0.25, "best": np.float64(0.1), "name": "x", "nothing": None}
    return state, {
        "state_dict": {"state_dict": state},
        "model_state_dict": {**beside, "model_state_dict": state, "mean": {"x": torch.zeros(2)}},
        "optimizer": {**beside, "net": state, "optimizer": optimizer.state_dict(), "l": [1, 2.5]},
        "flat": {**state, **beside},
        "deep": {"model": {"state_dict": state}},
    }


@pytest.mark.parametrize("kind", ["state_dict", "model_state_dict", "optimizer", "flat", "deep"])
def test_checkpoints_are_read(tmp_path, kind):
    state, kinds = checkpoints()
    store = do_import(write(tmp_path / "in", kinds[kind], "0.pt"), tmp_path / "out")
    row = torch.cat([tensor.flatten() for tensor in state.values()])
    assert torch.equal(store.split("train").parameters[0], row)


def test_checkpoints_of_two_networks_are_refused(tmp_path):
    root = write(tmp_path / "in", {"net": make_state(), "ema": make_state(seed=1)})
    with pytest.raises(DataError, match=r"several networks .*'net', 'ema'"):
        do_import(root, tmp_path / "out")


LABELS = [np.int64(2), np.int32(2), np.uint8(2), np.array(2, ">i8")[()], torch.tensor(2), 2]


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, 4])
def test_numpy_numbers_are_read_without_numpy(protocol):
    numbers = {
        **{f"l{i}": label for i, label in enumerate(LABELS)},
        **{f"f{i}": kind(-1.5) for i, kind in enumerate((np.float16, np.float32, np.float64))},
        "flag": np.bool_(True),
        "large": np.uint64(2**63 + 1),
        "swapped": [np.array(258, ">i2")[()], np.array(259, ">i2")[()]],
    }
    buffer = io.BytesIO()
    torch.save(numbers, buffer, pickle_protocol=protocol)
    found = parse_torch_file(buffer.getvalue(), 10**6)
    assert found == numbers
    assert type(found["l0"]) is int


@pytest.mark.parametrize("label", LABELS)
def test_labels_of_any_integer_kind(tmp_path, label):
    (tmp_path / "in" / "train").mkdir(parents=True)
    torch.save({**make_state(), "label": label}, tmp_path / "in" / "train" / "model_0.pth")
    (tmp_path / "in" / "splits.json").write_text(json.dumps({"train": ["train/model_0.pth"]}))
    store = do_import(tmp_path / "in", tmp_path / "out", format_name="dwsnets-fmnist")
    assert store.split("train").label.tolist() == [2]


@pytest.mark.parametrize("label", [2.0, np.float64(2), "2", None, True, torch.ones(1)])
def test_labels_that_are_no_integers_are_refused(tmp_path, label):
    root = write(tmp_path / "in", {**make_state(), "label": label})
    with pytest.raises(DataError, match="label is"):
        do_import(root, tmp_path / "out")


def test_relu_networks(tmp_path, capsys):
    state = make_state()
    root = write(tmp_path / "in", state)
    store = do_import(root, tmp_path / "out", "--activation", "relu")
    assert store.architecture.activation == "relu"
    assert_computes(store, compute(state, (1.0,) * 3, torch.relu))
    options = ["--format", "state-dicts", "--source", str(tmp_path / "out")]
    run_export(export_parser().parse_args([*options, "--output", str(tmp_path / "again")]))
    assert "import it with --activation relu" in capsys.readouterr().err


def test_inrs_with_one_input_are_shown_on_a_line():
    assert choose_grid(INRArchitecture((1, 8, 1))) == (1024,)


def test_an_import_checks_what_it_did(tmp_path, monkeypatch):
    root = write(tmp_path / "in", make_state())
    right = source_function.SourceFunction.make_row

    def wrong(self, layers):
        return right(self, [layers[0], layers[2], layers[1], layers[3]])

    monkeypatch.setattr(source_function.SourceFunction, "make_row", wrong)
    with pytest.raises(DataError, match="own layers and the imported row differ by"):
        do_import(root, tmp_path / "out", "--w0", "3", "1", "2")
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_what_is_taken_for_granted_of_inputs_is_told(tmp_path, capsys):
    shapes = write(tmp_path / "in", make_state(widths=(3, 6, 6, 6, 1)))
    taken = "taken for signed distances of shapes; --volume says"
    assert not do_import(shapes, tmp_path / "out").header.convention.is_volume
    told = capsys.readouterr().err
    assert taken in told
    assert "drawn on 32 x 32 x 32 points" in told
    words = ["--volume", "--grid_shape", "4", "5", "6"]
    store = do_import(shapes, tmp_path / "volumes", *words)
    assert store.header.convention.is_volume
    assert store.header.grid_shape == (4, 5, 6)
    told = capsys.readouterr().err
    assert taken not in told
    assert "drawn on" not in told


def test_twins_and_files_that_are_passed_over_are_told(tmp_path, capsys):
    root = write(tmp_path / "in", make_state())
    write(root, make_state(seed=1), "1.pth")
    write(root, make_state(), "2.pth")
    (root / "train" / "cat" / "3.ckpt").write_bytes(b"x")
    for _ in range(2):  # the second time nothing is read again
        do_import(root, tmp_path / "out")
        told = capsys.readouterr().err
        assert "1 file holds the very weights of another one" in told
        assert "passed over, first train/cat/3.ckpt" in told


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_and_devices_are_no_files(tmp_path, make):
    root = write(tmp_path / "in", make_state())
    make(root / "train" / "cat" / "1.pth")
    make(root / "classes.json")
    with pytest.raises(DataError, match=r"not a regular file|leads out"):
        do_import(root, tmp_path / "out")
    (root / "classes.json").unlink()
    with pytest.raises(DataError, match=r"1 bad file.*(not a regular file|leads out)"):
        do_import(root, tmp_path / "out")


def test_a_pipe_that_takes_a_files_place_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    source = Source(tmp_path)
    monkeypatch.setattr(source, "real_path", lambda path: str(tmp_path / path))
    with pytest.raises(DataError, match="not a regular file"):
        source.read_bytes("pipe")


def test_an_absurd_view_number_costs_nothing(tmp_path):
    root = write(tmp_path / "in", make_state(), "0_view9999.pth")
    for number in range(1, 4):
        write(root, make_state(seed=number), f"{number}_view0.pth")
    with pytest.raises(DataError, match=r"no file of view [01], so it is left out"):
        do_import(root, tmp_path / "out")


@pytest.mark.parametrize("name", ["state-dicts", "multiview"])
def test_a_full_disk_ends_an_export_and_leaves_nothing(tmp_path, name):
    root = write(tmp_path / "in", make_state())
    do_import(root, tmp_path / "out", "--output_offset", "0.5")
    export = partial(export_inrs, WRITABLE[name](), tmp_path / "out", show_progress=False)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 500, 2000):  # the system refuses what is longer
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
        try:
            with pytest.raises(DataError, match=r"exported/.*\.(pth|json): cannot be written"):
                export(tmp_path / "exported")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    export(tmp_path / "exported")
    assert (tmp_path / "exported").is_dir()


def test_every_layout_says_what_it_looks_like(tmp_path):
    (tmp_path / "in" / "weights").mkdir(parents=True)
    for name in ("dwsnets-mnist", "dwsnets-fmnist", "multiview", "nfn", "state-dicts"):
        with pytest.raises(DataError, match=r"expected .*\.pth.*; found weights/"):
            do_import(tmp_path / "in", tmp_path / "out", format_name=name)
    assert StateDicts.example in " ".join(import_parser().format_help().split())
