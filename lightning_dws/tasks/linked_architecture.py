"""The architecture of the data on its way to the network that is to read them."""

from typing import Any

from pytorch_lightning.cli import LightningArgumentParser
from torch import nn

from lightning_dws.tasks.restoring import make_with_architecture
from lightning_dws.weight_space import Architecture, read_architecture, to_plain


def link_architecture(parser: LightningArgumentParser) -> None:
    """Let a network have the data's architecture, whatever its constructor annotates it as.

    jsonargparse builds what an annotation names, from a mapping: of the base class it would keep
    nothing. So what it built is replaced by the architecture itself.
    """
    found: list[Architecture] = []

    def to_mapping(architecture: Architecture) -> dict[str, Any]:
        found[:] = [architecture]
        return to_plain(architecture)

    def make(network_class: type[nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
        if "architecture" in kwargs and found:
            kwargs["architecture"] = found[0]
        return make_with_architecture(network_class, *args, **kwargs)

    parser.link_arguments(
        "data.architecture",
        "model.network.init_args.architecture",
        compute_fn=to_mapping,
        apply_on="instantiate",
    )
    parser.add_instantiator(make, nn.Module)
    parser.add_instantiator(_read, Architecture)


def _read(_: type[Architecture], /, **plain: Any) -> Architecture:
    """Make something of what jsonargparse built of the mapping; it is replaced."""
    return read_architecture(plain if isinstance(plain.get("tensors", [{}])[0], dict) else {})
