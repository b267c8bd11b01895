"""Read what the published NFN (nfn 0.1.2) gave on random networks, and its parameters in ours."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn

from lightning_dws import INRArchitecture, NetworkArchitecture, TensorSpec, WeightBatch
from lightning_dws.models import NFN
from lightning_dws.models.nfn_layer import NFNLayer

FOLDER = Path(__file__).parent / "golden"
NFN_FILES = sorted(path.stem for path in FOLDER.glob("nfn_*.safetensors"))
OPTIONS = ("layer", "pool", "fourier_features", "fourier_scale", "io_bands", "io_max_frequency")
OPTIONS += ("hidden_dim", "num_layers", "head_dim")


class PublishedMap(NamedTuple):
    """A linear map of a published layer.

    Attributes:
        name: Of its module.
        target: The tensor that it gives.
        along: The neurons of the axes that it goes through.
        sources: The tensors that it takes, one after another; of those that are averaged over the
            inputs or outputs besides, True.
    """

    name: str
    target: int
    along: tuple[int, ...]
    sources: list[tuple[int, bool]]


class GoldenNFN:
    """One file: the tensors by name, the options, and the batch."""

    def __init__(self, name: str) -> None:
        with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
            self.options = {k: json.loads(v) for k, v in file.metadata().items()}
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        self.num_layers = sum(key.startswith("input/weights/") for key in self.tensors)
        inputs = self.by_layer("input")
        self.architecture = _architecture(inputs)
        self.batch = WeightBatch.from_tensors(self.architecture, inputs)
        self.logits = self.tensors["output/logits"]

    def by_layer(self, kind: str) -> list[Tensor]:
        """Give weight 0, bias 0, weight 1, ... of ``input`` or ``output/equivariant``."""
        names = [f"{kind}/{of}/{i}" for i in range(self.num_layers) for of in ("weights", "biases")]
        return [self.tensors[name] for name in names]

    @torch.no_grad()
    def nfn(self) -> NFN:
        """Build our model with the authors' parameters, float64, in evaluation mode."""
        options = {name: self.options[name] for name in OPTIONS}
        model = NFN(self.architecture, self.logits.shape[1], **options).double().eval()
        left = {k[6:]: v for k, v in self.tensors.items() if k[:6] == "state/"}
        start = int(model.encoding.bands > 0)
        if len(model.encoding.frequencies) > 0:
            model.encoding.frequencies.copy_(left.pop("nfnet_features.0._B")[0])
            start += 1
        for number, layer in enumerate(model.layers):
            prefix = f"nfnet_features.{start + 2 * number}."  # the layer, then relu
            _load_layer(layer, left, prefix, self.options["layer"])
        linears = [module for module in model.head if isinstance(module, nn.Linear)]
        for number, linear in enumerate(linears):
            for kind in ("weight", "bias"):
                getattr(linear, kind).copy_(left.pop(f"head.head.{2 + 2 * number}.{kind}"))
        assert not left, sorted(left)
        return model


def _architecture(inputs: list[Tensor]) -> INRArchitecture | NetworkArchitecture:
    shapes = [tuple(tensor.shape[1:]) for tensor in inputs]
    weights = shapes[::2]
    if all(len(shape) == 2 for shape in weights):
        return INRArchitecture((weights[0][1], *(shape[0] for shape in weights)))
    groups = [None, *(f"h{layer}" for layer in range(1, len(weights))), None]
    specs = []
    for layer, (weight, bias) in enumerate(zip(weights, shapes[1::2], strict=True)):
        kernel = (None,) * (len(weight) - 2)
        axes = (groups[layer + 1], groups[layer], *kernel)
        specs.append(TensorSpec(f"{layer}.weight", weight, axes))
        specs.append(TensorSpec(f"{layer}.bias", bias, axes[:1]))
    return NetworkArchitecture(tuple(specs))


def _published_maps(num_layers: int, symmetry: str) -> Iterator[PublishedMap]:
    """List the maps of NPLinear or HNPLinear, in the words of our axes: inputs are 0."""
    last = num_layers - 1
    weights, biases = range(0, 2 * num_layers, 2), range(1, 2 * num_layers, 2)
    everything = [(index, True) for index in (*weights, *biases)]
    if symmetry == "HNP":
        everything += [(weights[0], False), (weights[-1], False), (biases[-1], False)]
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        below = [(weight, True)] if symmetry == "NP" or 0 < i < last else [(weight, False)]
        above = [*below, (bias, False)]
        if i > 0:
            below += [(weights[i - 1], True), (biases[i - 1], False)]
        if i < last:
            above += [(weights[i + 1], True)]
        if symmetry == "NP":
            yield PublishedMap(f"layer_{i}", weight, (i + 1, i), [(weight, False)])
            yield PublishedMap(f"layer_{i}_rc", weight, (), everything)
            yield PublishedMap(f"layer_{i}_r", weight, (i,), below)
            yield PublishedMap(f"layer_{i}_c", weight, (i + 1,), above)
            yield PublishedMap(f"bias_{i}", bias, (i + 1,), above)
            yield PublishedMap(f"bias_{i}_rc", bias, (), everything)
            continue
        if i == 1:
            below += [(weights[0], False)]
        if i == last - 1:
            above += [(weights[-1], False)]
        if i == 0:
            above[1:3] = above[2:0:-1]  # here the bias comes after the next weight
            yield PublishedMap("w0_rpt", weight, (1,), above)
            yield PublishedMap("w0_rbdcst", weight, (), everything)
        elif i == last:
            below.remove((biases[i - 1], False))  # the published layer has no such map
            yield PublishedMap("wfin_cpt", weight, (i,), below)
            yield PublishedMap("wfin_cbdcst", weight, (), everything)
            yield PublishedMap("bias_fin_rc", bias, (), everything)
        else:
            yield PublishedMap(f"layer_{i}", weight, (i + 1, i), [(weight, False)])
            yield PublishedMap(f"layer_{i}_rc", weight, (), everything)
            yield PublishedMap(f"layer_{i}_r", weight, (i,), below)
            yield PublishedMap(f"layer_{i}_c", weight, (i + 1,), above)
        if i < last:
            yield PublishedMap(f"bias_{i}", bias, (i + 1,), above)
            yield PublishedMap(f"bias_{i}_rc", bias, (), everything)


def _load_layer(layer: NFNLayer, left: dict[str, Tensor], prefix: str, symmetry: str) -> None:
    for parameter in layer.parameters():
        parameter.zero_()
    tensors, folds = layer.tensors, [tensor.fold for tensor in layer.tensors]
    kernels = [math.prod(tensor.shape[2:]) for tensor in tensors]
    for name, target, along, sources in _published_maps(len(tensors) // 2, symmetry):
        weight = left.pop(f"{prefix}{name}.weight").flatten(1)
        bias = left.pop(f"{prefix}{name}.bias")
        # Folded inputs or outputs stand behind the kernel's positions there, here before them.
        ends = folds[target] // kernels[target]
        weight, bias = (
            x.unflatten(0, (-1, kernels[target], ends)).transpose(1, 2).flatten(0, 2)
            for x in (weight, bias)
        )
        linear = layer.linears["_".join(map(str, along)) or "all"]
        indices = [index for index, _ in layer.ends[along]]
        out_channels = len(bias) // folds[target]
        in_channels = linear.in_features // sum(folds[index] for index in indices)
        row = out_channels * sum(folds[index] for index in indices[: indices.index(target)])
        linear.bias[row : row + len(bias)] += bias
        for source, is_averaged in sources:
            ends = folds[source] // kernels[source]
            size = in_channels * kernels[source] * (1 if is_averaged else ends)
            block, weight = weight[:, :size], weight[:, size:]
            block = block.unflatten(1, (in_channels, kernels[source], -1))
            if is_averaged:
                block = block.expand(-1, -1, -1, ends) / ends
            block = block.transpose(2, 3).flatten(1)
            column = in_channels * sum(folds[index] for index in indices[: indices.index(source)])
            linear.weight[row : row + len(bias), column : column + block.shape[1]] += block
        assert weight.shape[1] == 0, (name, weight.shape)
