import pytest
import torch
from torch_geometric.loader import DataLoader
from torch_geometric.nn import global_mean_pool

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.inrs import evaluate_inrs
from lightning_dws.models import NeuralGraph, to_data
from lightning_dws.models.graph_features import FourierFeatures, ProbeFeatures

WIDTHS = (2, 3, 4, 1)


def make_batch(widths=WIDTHS, size=3):
    architecture = INRArchitecture(widths)
    rows = torch.randn(size, architecture.num_parameters, dtype=torch.float64)
    return WeightBatch.from_parameters(architecture, rows, label=torch.arange(size))


def test_edges_are_the_weights_in_order():
    batch = make_batch()
    graph = NeuralGraph(batch.architecture)
    assert (graph.num_nodes, graph.num_weights, graph.num_edges) == (10, 22, 44)
    weights = graph.weights(batch)[..., 0]
    layers = graph.node_layer.tolist()
    starts = [layers.index(layer) for layer in range(4)]
    for edge, (source, target) in enumerate(graph.edge_index[:, :22].T.tolist()):
        layer = layers[source]
        assert layers[target] == layer + 1 == graph.edge_layer[edge] + 1
        matrix = batch.weights[layer]
        expected = matrix[:, target - starts[layer + 1], source - starts[layer]]
        assert torch.equal(weights[:, edge], expected)
    assert torch.equal(graph.edge_index[:, 22:], graph.edge_index[:, :22].flip(0))
    assert torch.equal(graph.edge_layer[22:], graph.edge_layer[:22])
    assert graph.is_reversed.tolist() == [False] * 22 + [True] * 22


def test_nodes():
    batch = make_batch((2, 3, 4, 2))
    graph = NeuralGraph(batch.architecture, reverse_edges=False)
    assert graph.neuron_class.tolist() == [0, 1, 2, 2, 2, 3, 3, 3, 3, 4, 5]
    assert graph.in_degree.tolist() == [0, 0, 2, 2, 2, 3, 3, 3, 3, 4, 4]
    assert NeuralGraph(batch.architecture).in_degree.tolist() == [3, 3, *[6] * 3, *[5] * 4, 4, 4]
    expected = torch.cat([torch.zeros(3, 2, dtype=torch.float64), *batch.biases], 1)
    assert torch.equal(graph.biases(batch)[..., 0], expected)


def test_a_zero_weight_is_an_edge():
    batch = make_batch()
    zero = batch.replace(parameters=torch.zeros_like(batch.parameters))
    graph = NeuralGraph(batch.architecture)
    assert torch.equal(graph.to_data(zero)[0].edge_index, graph.to_data(batch)[0].edge_index)


def test_data_for_other_models():
    batch = make_batch()
    for reverse_edges, channels in ((True, 3), (False, 1)):
        graph = NeuralGraph(batch.architecture, reverse_edges)
        data = graph.to_data(batch)
        assert len(data) == 3
        assert all(one.validate() for one in data)
        assert data[1].edge_attr.shape == (graph.num_edges, channels)
        together = next(iter(DataLoader(data, batch_size=3)))
        assert together.y.tolist() == [0, 1, 2]
        assert global_mean_pool(together.x, together.batch).shape == (3, 1)
        values = together.edge_attr.view(3, graph.num_edges, channels)
        assert torch.equal(values[:, :22, 0], graph.weights(batch)[..., 0])
        if reverse_edges:
            assert torch.equal(values[:, 22:, 1], graph.weights(batch)[..., 0])
            assert torch.equal(values[..., 2], values[..., 0] + values[..., 1])
            assert torch.equal(values[:, :22, 1], torch.zeros_like(values[:, :22, 1]))
    with pytest.raises(ValueError, match=r"widths \(2, 3, 4, 1\), got \(2, 5, 1\)"):
        graph.to_data(make_batch((2, 5, 1)))


def test_indices_follow_the_module_and_are_no_buffers():
    graph = NeuralGraph(INRArchitecture(WIDTHS))
    assert not list(graph.buffers())
    moved = graph.to("meta")
    assert moved.edge_index.device.type == moved.in_degree.device.type == "meta"
    assert moved.double().edge_index.dtype == torch.int64


def test_fourier_features():
    torch.manual_seed(0)
    features = FourierFeatures(1, 4096, scale=3.0)
    assert abs(features.frequencies.std() - 3) < 0.15
    values = torch.tensor([[0.0], [0.3]])
    cosines, sines = features(values).chunk(2, 1)
    turns = 0.3 * features.frequencies[:, 0]
    torch.testing.assert_close(cosines[1], torch.cos(2 * torch.pi * turns), atol=1e-5, rtol=0)
    torch.testing.assert_close(sines[1], torch.sin(2 * torch.pi * turns), atol=1e-5, rtol=0)
    # The kernel of Tancik et al.: the mean product depends on the distance alone.
    expected = torch.exp(torch.tensor(-2 * (torch.pi * 3 * 0.05) ** 2))
    near = features(torch.tensor([[0.3], [0.35]]))
    assert abs((near[0] * near[1]).sum() / 4096 - expected) < 0.03


def test_probe_features_see_the_function():
    batch = make_batch((2, 5, 1))
    torch.manual_seed(0)
    probes = ProbeFeatures(batch.architecture, num_probes=7, dim=4).double()
    assert probes.inputs.abs().max() <= 1
    features = probes(batch)
    assert features.shape == (3, 8, 4)
    outputs = evaluate_inrs(batch, probes.inputs)
    torch.testing.assert_close(features[:, -1:], probes.layers[-1](outputs.mT))
    torch.testing.assert_close(features[0, :2], probes.layers[0](probes.inputs.T))
    features.sum().backward()
    assert probes.inputs.grad.abs().min() > 0


def test_inrs_are_graphs_without_making_one_first():
    batch = make_batch((2, 4, 3, 1))
    for reverse in (True, False):
        expected = NeuralGraph(batch.architecture, reverse_edges=reverse).to_data(batch)
        for found, data in zip(to_data(batch, reverse_edges=reverse), expected, strict=True):
            assert found.keys() == data.keys()
            assert all(torch.equal(found[name], data[name]) for name in data.keys())  # noqa: SIM118
    [joined] = DataLoader(to_data(batch), batch_size=len(batch))
    assert torch.equal(joined.y, batch.label)
