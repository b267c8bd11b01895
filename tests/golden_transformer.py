"""Give our relational transformer the parameters of the published one."""

import torch
from golden import FOLDER, Golden
from torch import Tensor, nn

from lightning_dws.models.neural_graph_transformer import NeuralGraphTransformer

TRANSFORMER_FILES = sorted(path.stem for path in FOLDER.glob("ng_transformer_*.safetensors"))

GRAPH = {
    "positions": "pos_embed",
    "encode_weight.1": "proj_weight.1",
    "encode_bias.1": "proj_bias.1",
    "node_in": "proj_node_in",
    "edge_in": "proj_edge_in",
    "probes.inputs": "gpf.inputs",
    "probes.layers": "gpf.proj",
}
LAYER = {
    "attention.node_maps": "self_attn.qkv_node",
    "attention.edge_maps": "self_attn.qkv_edge",
    "attention.out": "self_attn.proj_out",
    "attention_out": "lin0",
    "attention_norm": "node_ln0",
    "mlp.0": "node_mlp.0",
    "mlp.2": "node_mlp.2",
    "mlp_norm": "node_ln1",
}
EDGE_UPDATE = {
    "edge": "edge_mlp0.lin0_e",
    "query": "edge_mlp0.lin0_s",
    "key": "edge_mlp0.lin0_t",
    "out": "edge_mlp0.lin1",
    "norm": "eln0",
    "mlp_in": "edge_mlp1.0",
    "mlp_out": "edge_mlp1.2",
    "mlp_norm": "eln1",
}


def golden_transformer(golden: Golden) -> NeuralGraphTransformer:
    """Build our model with the authors' parameters, float64, in evaluation mode."""
    sizes = golden.options["sizes"]
    model = NeuralGraphTransformer(
        golden.architecture,
        num_classes=golden.logits.shape[1],
        node_dim=sizes["d_node"],
        edge_dim=sizes["d_edge"],
        num_layers=sizes["n_layers"],
        num_heads=sizes["n_heads"],
        num_probes=golden.options.get("num_probe_features", 0),
        attention_dim=sizes["d_attn_hid"],
        node_hidden_dim=sizes["d_node_hid"],
        edge_hidden_dim=sizes["d_edge_hid"],
        head_dim=sizes["d_out_hid"],
    )
    model = model.double().eval()
    load_published_transformer(
        model, {k[6:]: v for k, v in golden.tensors.items() if k[:6] == "state/"}
    )
    return model


@torch.no_grad()
def load_published_transformer(model: NeuralGraphTransformer, state: dict[str, Tensor]) -> None:
    """Copy a state dict of the authors' implementation; every entry is used exactly once."""
    left = dict(state)
    published = {
        **{ours: f"construct_graph.{theirs}" for ours, theirs in GRAPH.items()},
        **{f"head.{number}": f"proj_out.{number}" for number in (0, 2)},
    }
    for number in range(len(model.layers)):
        for ours, theirs in LAYER.items():
            published[f"layers.{number}.{ours}"] = f"layers.{number}.{theirs}"
        for ours, theirs in EDGE_UPDATE.items():
            published[f"edge_updates.{number}.{ours}"] = f"layers.{number}.edge_updates.{theirs}"
    for name, parameter in model.named_parameters():
        ours = next(ours for ours in published if name == ours or name.startswith(f"{ours}."))
        value = left.pop(published[ours] + name[len(ours) :])
        if name in ("encode_weight.1.weight", "encode_bias.1.weight"):
            value = torch.cat(value.chunk(2, 1)[::-1], 1)  # theirs are sines, then cosines
        parameter.copy_(value.view_as(parameter))
    for ours, theirs in (("weight", "proj_weight"), ("bias", "proj_bias")):
        encoding: nn.Module = getattr(model, f"encode_{ours}")[0]
        encoding.frequencies.copy_(left.pop(f"construct_graph.{theirs}.0._B").T)
    assert not left, sorted(left)
