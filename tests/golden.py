"""Read what the published DWSNet gave on random inputs, and its parameters in our order."""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.models import DWSNet
from lightning_dws.models.dws_layer import DWSLayer
from lightning_dws.models.merged_linear import LinearMap, MergedLinear
from lightning_dws.models.set_attention import AttentionGroup

FOLDER = Path(__file__).parent / "golden"
DWSNET_FILES = sorted(path.stem for path in FOLDER.glob("dwsnet_*.safetensors"))
SET_LAYERS = {"sab": "attention", "ds": "deepsets"}


class Golden:
    """One file: the tensors by name, the options, and the batch."""

    def __init__(self, name: str) -> None:
        with safe_open(FOLDER / f"{name}.safetensors", "pt") as file:
            self.options = {k: json.loads(v) for k, v in file.metadata().items()}
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        self.architecture = INRArchitecture(tuple(self.options["widths"]))
        layers = range(self.architecture.num_layers)
        # The authors' weights are (B, in, out, 1).
        self.batch = WeightBatch.from_layers(
            self.architecture,
            [self.tensors[f"input/weights/{layer}"][..., 0].mT for layer in layers],
            [self.tensors[f"input/biases/{layer}"][..., 0] for layer in layers],
        )
        self.logits = self.tensors["output/logits"]

    def equivariant_features(self) -> list[Tensor]:
        """Give features of weights (B, out, in, C), then of biases (B, out, C), where recorded."""
        layers = range(self.architecture.num_layers)
        if "output/equivariant/weights/0" not in self.tensors:
            return []
        weights = [self.tensors[f"output/equivariant/weights/{layer}"] for layer in layers]
        biases = [self.tensors[f"output/equivariant/biases/{layer}"] for layer in layers]
        return [*(weight.transpose(1, 2) for weight in weights), *biases]

    def dwsnet(self) -> DWSNet:
        """Build our model with the authors' parameters, float64, in evaluation mode."""
        options = self.options
        model = DWSNet(
            self.architecture,
            num_classes=self.logits.shape[1],
            hidden_dim=options["hidden_dim"],
            num_hidden=options["n_hidden"],
            set_layer=SET_LAYERS[options["set_layer"]],
            reduction=options["reduction"],
            num_heads=options.get("num_heads", 1),
            batch_norm=options["bn"],
        )
        model = model.double().eval()
        load_published_dwsnet(
            model, {k[6:]: v for k, v in self.tensors.items() if k[:6] == "state/"}
        )
        return model


@torch.no_grad()
def load_published_dwsnet(model: DWSNet, state: dict[str, Tensor]) -> None:
    """Copy a state dict of the authors' implementation; every entry is used exactly once."""
    left = dict(state)
    stride = 4 if model.norms else 3  # layer, (batch norm,) relu, dropout
    for number, layer in enumerate(model.layers):
        _load_layer(layer, left, f"layers.layers.{stride * number}", model.architecture.num_layers)
    for number, norms in enumerate(model.norms):
        for index, norm in enumerate(norms):
            kind, layer = _kind(index, model.architecture.num_layers)
            prefix = (
                f"layers.layers.{stride * number + 1}.{kind}{'e' * (kind == 'bias')}s_bn.{layer}."
            )
            norm.load_state_dict({name: left.pop(prefix + name) for name in norm.state_dict()})
    model.head.load_state_dict({k: left.pop(f"clf.layer.0.{k}") for k in ("weight", "bias")})
    assert not left, sorted(left)


def _load_layer(layer: DWSLayer, left: dict[str, Tensor], prefix: str, num_layers: int) -> None:
    def pair_prefix(target: int, source: int) -> str:
        (to, j), (of, i) = _kind(target, num_layers), _kind(source, num_layers)
        return f"{prefix}.{of}_to_{to}.layers.{i}_{j}"

    def pop(target: int, source: int, ending: str) -> Tensor:
        start = pair_prefix(target, source)
        names = [k for k in left if k.startswith(start + ".") and k.endswith("." + ending)]
        assert len(names) == 1, (start, ending, names)
        return left.pop(names[0])

    def linear_name(block: LinearMap) -> str:
        if block.target == block.source and len(layer.tensors[block.target].axes) == 2:
            ends = layer.tensors[block.target].axes
            # lin_n takes the entries pooled over n, the input neurons; lin_m over m, the outputs.
            name = {ends: "all", ends[:1]: "n", ends[1:]: "m", (): "both"}[block.along]
            return f"lin_{name}.0"
        if f"{pair_prefix(block.target, block.source)}.layer.0.weight" in left or not any(
            "set_layer" in k
            for k in left
            if k.startswith(pair_prefix(block.target, block.source) + ".")
        ):
            return "layer.0"
        return "Gamma.0" if block.along else "Lambda.0"

    biases = {}
    for along, linear in zip(layer.alongs, layer.linears, strict=True):
        assert isinstance(linear, MergedLinear)
        matrix = torch.zeros_like(linear.coefficients)
        for block in (block for block in layer.maps if block.along == along):
            name = linear_name(block)
            matrix[linear.block(block.target, block.source)] = pop(
                block.target, block.source, f"{name}.weight"
            )
            if block.bias:
                biases[block] = pop(block.target, block.source, f"{name}.bias")
        linear.weight.copy_(matrix[linear.coefficients != 0])
    layer.bias.copy_(torch.cat([biases[block] for block in layer.maps if block.bias]))
    for attention in layer.attentions.values():
        for group in attention.groups:
            _load_group(group, pop)


def _load_group(group: AttentionGroup, pop: object) -> None:
    weights: dict[int, list[Tensor]] = {source: [] for source in group.sources}
    for block, (source, target) in enumerate(group.pairs):
        qkv = []
        for which in "qkv":
            weight = pop(target, source, f"mab.fc_{which}.weight")
            bias = pop(target, source, f"mab.fc_{which}.bias")
            qkv.append(torch.cat([weight, bias[:, None]], dim=1))
        weights[source].append(torch.stack(qkv))
        group.out_weight[block] = pop(target, source, "mab.fc_o.weight")
        group.out_bias[block] = pop(target, source, "mab.fc_o.bias")
    for parameter, source in zip(group.in_weights, group.sources, strict=True):
        parameter.copy_(torch.cat(weights[source], dim=1))


def _kind(tensor: int, num_layers: int) -> tuple[str, int]:
    return ("weight", tensor) if tensor < num_layers else ("bias", tensor - num_layers)
