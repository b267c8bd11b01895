"""INRs behind a Fourier encoding: from the fit to files, models and pictures."""

import json
import math

import pytest
import torch
from tiny import Blobs, tiny_spec

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.cli import main
from lightning_dws.errors import DataError
from lightning_dws.fourier_encoding import FourierEncoding
from lightning_dws.inrs import INRStore, Recipe, Wanted, evaluate_inrs, fit_inrs, prepare_store
from lightning_dws.inrs.store.convention import ImageConvention, convert_exactly
from lightning_dws.inrs.store.verification import verify_store
from lightning_dws.models import DWSNet, NeuralGraphGNN, NeuralGraphTransformer

SOME = Wanted({"train": 8, "val": 4, "test": 4}, {})
ENCODING = FourierEncoding((0.5, 1.0, 2.0))
RELU = INRArchitecture((12, 9, 7, 1), activation="relu", encoding=ENCODING)


def random_batch(architecture=RELU, size=4, dtype=torch.float64):
    rows = torch.randn(size, architecture.num_parameters, generator=generator(), dtype=dtype)
    return WeightBatch.from_parameters(architecture, 0.4 * rows)


def generator():
    return torch.Generator().manual_seed(0)


def test_the_encoding_is_nerfs():
    """Equation 4 of Mildenhall et al. (2020), written out for two coordinates and two bands."""
    x, y = 0.3, -0.7
    encoded = FourierEncoding((1, 2)).encode(torch.tensor([[x, y]], dtype=torch.float64))
    parts = [[f(2**k * math.pi * v) for v in (x, y)] for k in (0, 1) for f in (math.sin, math.cos)]
    torch.testing.assert_close(encoded[0], torch.tensor(parts, dtype=torch.float64).flatten())
    with_input = FourierEncoding((1, 2), include_input=True).encode(torch.tensor([[x, y]]))
    torch.testing.assert_close(with_input[0, :2], torch.tensor([x, y]))


def test_whole_frequencies_alone_cannot_tell_opposite_edges_apart():
    edges = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    wrapped = FourierEncoding((1, 2, 4)).encode(edges)
    torch.testing.assert_close(wrapped[0], wrapped[1])
    for encoding in (FourierEncoding((0.5, 1)), FourierEncoding((1, 2), include_input=True)):
        first, last = encoding.encode(edges)
        assert (first - last).abs().max() > 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FourierEncoding(()), "frequencies must be positive and finite, got \\[\\]"),
        (lambda: FourierEncoding((1, -2)), "positive and finite, got \\[1.0, -2.0\\]"),
        (lambda: FourierEncoding((math.inf,)), "positive and finite"),
        (lambda: FourierEncoding((2, 2.0)), "must be different"),
        (lambda: FourierEncoding((1,), "no"), "include_input must be true or false, got 'no'"),
        (
            lambda: INRArchitecture((2, 8, 1), encoding=ENCODING),
            "widths must begin with a multiple of 6, .* of 3 frequencies, got 2",
        ),
    ],
)
def test_what_is_no_encoding_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_plain_data_without_an_encoding_is_as_it_was():
    assert INRArchitecture((2, 4, 1)).to_dict() == {
        "widths": [2, 4, 1],
        "activation": "sine",
        "w0": 30.0,
        "output_offset": 0.5,
    }
    plain = json.loads(json.dumps(RELU.to_dict()))
    assert plain["encoding"] == {"frequencies": [0.5, 1.0, 2.0], "include_input": False}
    again = INRArchitecture(**plain)
    assert again == RELU
    assert (again.in_features, hash(again)) == (2, hash(RELU))
    assert again != INRArchitecture((12, 9, 7, 1), activation="relu")


def test_a_sequential_computes_the_same_and_is_read_again():
    batch = random_batch()
    network = batch.to_sequential(1)
    points = 2 * torch.rand(11, 2, generator=generator(), dtype=torch.float64) - 1
    torch.testing.assert_close(network(points), evaluate_inrs(batch, points)[1])
    again = WeightBatch.from_sequentials(RELU, [network])
    assert torch.equal(again.parameters, batch.parameters[1:2])
    other = INRArchitecture((12, 9, 7, 1), "relu", encoding=FourierEncoding((1, 2, 4)))
    for architecture, expected in ((other, "encoding 1 2 4"), (None, "no encoding")):
        wanted = architecture or INRArchitecture((12, 9, 7, 1), "relu")
        with pytest.raises(DataError, match=f"encoding 0.5 1 2, expected .*{expected}"):
            WeightBatch.from_sequentials(wanted, [network])


@pytest.mark.parametrize("optimizer", ["adam", "kfac"])
def test_a_fit_lowers_the_error_and_does_not_depend_on_the_batch(optimizer):
    recipe = {
        "adam": Recipe(steps=40, learning_rate=1e-2),
        "kfac": Recipe(steps=8, learning_rate=1.0, optimizer="kfac", damping=1e-2),
    }[optimizer]
    architecture = INRArchitecture((12, 16, 16, 1), activation="relu", encoding=ENCODING)
    signals = Blobs()
    ids = signals.split("train").object_id[:5]

    def fit(ids, points):
        values = signals.values(ids)
        view = torch.zeros_like(ids)
        return fit_inrs(
            values, points, architecture, recipe=recipe, seed=0, object_id=ids, view=view
        )

    points = signals.coordinates
    together, psnr = fit(ids, points)
    own_points, _ = fit(ids, points.expand(len(ids), -1, -1))
    assert torch.equal(together.parameters, own_points.parameters)
    for row in (0, 3):
        alone, _ = fit(ids[row : row + 1], points)
        assert torch.equal(alone.parameters[0], together.parameters[row])
    found = evaluate_inrs(together, points)
    error = (found - signals.values(ids)).square().mean(dim=(1, 2))
    torch.testing.assert_close(-10 * error.log10(), psnr, rtol=1e-3, atol=0.05)
    assert psnr.mean() > 20


def test_a_store_is_fitted_verified_shown_and_told_apart(tmp_path, capsys):
    spec = tiny_spec(architecture=RELU)
    plain = tiny_spec(architecture=INRArchitecture((2, 9, 7, 1), activation="relu"))
    assert spec.store_name != plain.store_name
    store = prepare_store(tmp_path / "s", spec, SOME, show_progress=False)
    assert INRStore(store.directory).architecture == RELU
    assert verify_store(store.directory, Blobs()).problems == []
    main(["inrs", "show", str(store.directory)])
    assert "Fourier encoding 0.5 1 2" in capsys.readouterr().out.replace("\n", "")
    main(["inrs", "browse", str(store.directory)])
    other = tiny_spec(
        architecture=INRArchitecture((12, 9, 7, 1), "relu", encoding=FourierEncoding((1, 2, 4)))
    )
    with pytest.raises(DataError):
        prepare_store(store.directory, other, SOME, show_progress=False)


def test_an_export_says_what_the_layout_cannot_and_the_import_takes_it(tmp_path, capsys):
    store = prepare_store(tmp_path / "s", tiny_spec(architecture=RELU), SOME, show_progress=False)
    folder, again = tmp_path / "exported", tmp_path / "again"
    main(
        [
            "inrs",
            "export",
            "--format",
            "nfn",
            "--source",
            str(store.directory),
            "--output",
            str(folder),
        ]
    )
    note = next(line for line in capsys.readouterr().err.splitlines() if "encoding" in line)
    given = note.split("--encoding '")[1].removesuffix("'")
    words = ("inrs", "import", "--format", "nfn", "--source", str(folder), "--activation", "relu")
    with pytest.raises(SystemExit):
        main([*words, "--output", str(again)])
    assert "with 12 inputs" in capsys.readouterr().err
    main([*words, "--output", str(again), "--encoding", given, "--output_offset", "0.5"])
    assert "Fourier encoding 0.5 1 2" in capsys.readouterr().err
    found = INRStore(again)
    assert found.architecture == RELU
    wanted = convert_exactly(store.split("train"), ImageConvention(), found.header.convention, 0.5)
    if wanted is not None:
        assert torch.equal(found.split("train").parameters, wanted.parameters)


@pytest.mark.parametrize("include_input", [False, True])
def test_axes_are_exchanged_behind_the_encoding(include_input):
    encoding = FourierEncoding((0.5, 1.0), include_input)
    batch = random_batch(
        INRArchitecture((2 * encoding.features_per_input, 5, 1), "relu", encoding=encoding)
    )
    swapped = convert_exactly(batch, ImageConvention("xy"), ImageConvention("ij"), 0.5)
    points = 2 * torch.rand(7, 2, generator=generator(), dtype=torch.float64) - 1
    torch.testing.assert_close(evaluate_inrs(swapped, points.flip(1)), evaluate_inrs(batch, points))


def test_networks_read_such_inrs_and_refuse_those_of_another_encoding():
    batch = random_batch(dtype=torch.float32)
    networks = [
        DWSNet(RELU, num_classes=3, hidden_dim=4, num_hidden=1, num_heads=1),
        NeuralGraphGNN(RELU, num_classes=3, hidden_dim=8, num_layers=1, num_probes=2),
        NeuralGraphTransformer(
            RELU, num_classes=3, node_dim=8, edge_dim=4, num_layers=1, num_heads=2, num_probes=2
        ),
    ]
    other = INRArchitecture(RELU.widths, "relu", encoding=FourierEncoding((1, 2, 4)))
    for network in networks:
        network.eval()
        assert network(batch).shape == (4, 3)
        with pytest.raises(ValueError, match="must hold INRs of encoding"):
            network(batch.replace(architecture=other))
