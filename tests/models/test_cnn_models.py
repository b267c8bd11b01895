"""Every model takes CNNs, knows their symmetry, and notices where a coupling is broken."""

import pytest
import torch
from cnns import CNNS, cnn_batch

from lightning_dws.augmentations import Permutation
from lightning_dws.errors import DataError
from lightning_dws.models import (
    DWSNet,
    FlatMLP,
    NeuralGraphGNN,
    NeuralGraphTransformer,
    to_data,
)

DWS = {"hidden_dim": 4, "num_hidden": 2, "num_heads": 2}
MODELS = {
    "attention": (DWSNet, {**DWS, "set_layer": "attention"}),
    "deepsets": (DWSNet, {**DWS, "set_layer": "deepsets", "reduction": "mean"}),
    "gnn": (NeuralGraphGNN, {"hidden_dim": 10, "num_layers": 3, "fourier_features": 8}),
    "forward gnn": (
        NeuralGraphGNN,
        {"hidden_dim": 10, "num_layers": 3, "fourier_features": 8, "reverse_edges": False},
    ),
    "transformer": (
        NeuralGraphTransformer,
        {
            "node_dim": 8,
            "edge_dim": 6,
            "num_layers": 3,
            "num_heads": 2,
            "attention_dim": 8,
            "fourier_features": 8,
        },
    ),
}


def make_model(name, architecture):
    torch.manual_seed(0)
    kind, options = MODELS[name]
    model = kind(architecture, 3, **options).double().eval()
    model.standardize.keep_identity()
    return model


def permute(batch):
    return Permutation()(batch, torch.Generator().manual_seed(3))


@pytest.mark.parametrize("model_name", MODELS)
@pytest.mark.parametrize("name", CNNS)
@torch.no_grad()
def test_the_order_of_channels_does_not_matter_and_every_coupling_does(name, model_name):
    batch = cnn_batch(name)
    model = make_model(model_name, batch.architecture)
    expected, scale = model(batch), model(batch).std(0)
    assert (scale > 1e-6).all()
    torch.testing.assert_close(model(permute(batch)), expected, rtol=1e-9, atol=1e-9 * scale.max())
    for number, spec in enumerate(batch.architecture.tensors):
        if not any(spec.axes):
            continue
        tensors = batch.tensors
        tensors[number] = permute(batch).tensors[number]
        broken = type(batch).from_tensors(batch.architecture, tensors)
        change = (model(broken) - expected).abs().max()
        assert change > 1e-6 * scale.max(), f"{spec.name} may be permuted alone"


@pytest.mark.parametrize("model_name", ["attention", "deepsets"])
@pytest.mark.parametrize("name", CNNS)
@torch.no_grad()
def test_features_are_permuted_as_the_weights_are(name, model_name):
    batch = cnn_batch(name)
    model = make_model(model_name, batch.architecture)
    drawn = Permutation().draw(batch, torch.Generator().manual_seed(3))
    moved = model.equivariant_features(Permutation()(batch, params=drawn))
    expected = model.equivariant_features(batch)
    for tensor, features, found in zip(model.tensors, expected, moved, strict=True):
        assert features.shape[1] == 4 * tensor.fold
        for number, axis in enumerate(tensor.axes, start=2):
            order = drawn[f"permutation_{axis - 1}"]
            rows = zip(features, order, strict=True)
            features = torch.stack([own.index_select(number - 1, which) for own, which in rows])
        torch.testing.assert_close(found, features, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("model_name", MODELS)
def test_every_parameter_of_a_model_learns(model_name):
    batch = cnn_batch("residual")
    model = make_model(model_name, batch.architecture)
    model(batch).square().sum().backward()
    idle = [name for name, own in model.named_parameters() if own.grad is None]
    assert idle == []


def test_a_position_of_a_kernel_is_not_another_one():
    batch = cnn_batch("pool_and_flatten")
    tensors = batch.tensors
    tensors[0] = tensors[0].flip(3)
    flipped = type(batch).from_tensors(batch.architecture, tensors)
    for name in MODELS:
        model = make_model(name, batch.architecture)
        with torch.no_grad():
            assert not torch.allclose(model(flipped), model(batch), rtol=1e-6)


@pytest.mark.parametrize("name", CNNS)
def test_dense_and_sparse_message_passing_agree(name):
    batch = cnn_batch(name)
    model = make_model("gnn", batch.architecture)
    expected = model(batch)
    model.message_passing = True
    torch.testing.assert_close(model(batch), expected, rtol=1e-9, atol=1e-9)
    model.message_passing = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightning_dws.models.neural_graph_gnn.takes_kernels", lambda _: False)
        patch.setattr("lightning_dws.models.dense_edges.takes_kernels", lambda _: False)
        torch.testing.assert_close(model(batch), expected, rtol=1e-9, atol=1e-9)


def test_a_graph_has_kernels_as_edges_and_channels_as_nodes():
    batch = cnn_batch("residual")
    graph = to_data(batch)[1]
    assert graph.num_nodes == 1 + 4 + 5 + 3
    assert graph.num_edges == 2 * (4 + 20 + 20 + 16 + 12)
    assert graph.x.shape == (13, 2)
    assert torch.equal(graph.x[1:5], torch.stack([batch.tensors[1][1], batch.tensors[6][1]], 1))
    assert torch.equal(graph.edge_attr[:4, :9], batch.tensors[0][1].flatten(1))
    small = graph.edge_attr[24:44, :9]
    assert torch.equal(small[:, 0], batch.tensors[4][1].flatten())
    assert (small[:, 1:] == 0).all()


def test_a_flat_mlp_takes_any_row_and_other_networks_are_refused():
    batch = cnn_batch("no_bias", dtype=torch.float32)
    model = FlatMLP(batch.architecture, 3, hidden_dim=4)
    assert model.eval()(batch).shape == (4, 3)
    with pytest.raises(ValueError, match=r"batch must hold networks of 3 tensors .* got networks"):
        model(cnn_batch("residual"))


def test_probes_need_inrs():
    architecture = cnn_batch("no_bias").architecture
    for kind in (NeuralGraphGNN, NeuralGraphTransformer):
        with pytest.raises(DataError, match=r"probe features \(num_probes\): for INRs alone"):
            kind(architecture, 3, num_probes=4)
