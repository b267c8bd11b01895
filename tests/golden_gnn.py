"""The parameters of the published PNA model in our order."""

import torch
from golden import FOLDER, Golden

from lightning_dws.models import NeuralGraphGNN

GNN_FILES = sorted(path.stem for path in FOLDER.glob("ng_pna_*.safetensors"))

# The authors' names, or parts of them, and ours.
_NAMES = {
    "construct_graph.": "",
    "proj_weight.0.b": "weight_features.frequencies",
    "proj_bias.0.b": "bias_features.frequencies",
    "proj_weight.1": "encode_weight",
    "proj_bias.1": "encode_bias",
    "proj_edge_in": "edge_in",
    "proj_node_in": "node_in",
    "pos_embed": "positions",
    "gpf.inputs": "probes.inputs",
    "gpf.proj": "probes.layers",
    "gnn.": "",
    "edge_update.": "edge_updates.",
    "edge_encoder": "edge",
    "pre_nns.0.0": "pre",
    "post_nns.0.0": "post",
    ".lin.": ".out.",
    "lin1": "out",
    "lin_e": "edge",
    "lin_s": "source",
    "lin_t": "target",
    "proj_out": "head",
    "aggr_module.avg_deg_log": "mean_log_degree",
}


def published_gnn(golden: Golden, **options: object) -> NeuralGraphGNN:
    """Build our model with the authors' parameters, float64, in evaluation mode."""
    model = NeuralGraphGNN(
        golden.architecture,
        num_classes=golden.logits.shape[1],
        hidden_dim=golden.options["hidden"],
        num_layers=golden.options["layers"],
        num_probes=golden.options.get("probe", 0),
        reverse_edges=golden.options.get("rev", False),
        fourier_features=16,
        **options,
    )
    own = model.double().eval().state_dict()
    state = {}
    for name, tensor in golden.tensors.items():
        prefix, _, name = name.partition("/")
        if prefix != "state" or name.endswith("avg_deg_lin"):  # which they do not use
            continue
        for theirs, ours in _NAMES.items():
            name = name.replace(theirs, ours)
        state[name] = tensor.reshape(own[name].shape)
    statistics = golden.options["statistics"]
    for which in ("mean", "std"):
        weights, biases = statistics[f"weights_{which}"], statistics[f"biases_{which}"]
        pairs = [value for pair in zip(weights, biases, strict=True) for value in pair]
        state[f"standardize.{which}"] = torch.tensor(pairs, dtype=torch.float64)
    model.load_state_dict(state)
    return model
