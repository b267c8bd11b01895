"""Plugins of the trainer that this package's networks and checkpoints need."""

from typing import Any

from lightning_fabric.plugins import CheckpointIO
from pytorch_lightning.plugins import TorchSyncBatchNorm
from torch import nn

from lightning_dws.checkpoints import CheckpointFiles
from lightning_dws.models.batch_norm import PositionBatchNorm


class SyncBatchNorm(TorchSyncBatchNorm):
    """Lightning's ``sync_batchnorm``, for this package's batch norm too, on CPUs and GPUs.

    A plugin of the trainer: the command line adds it for ``--trainer.sync_batchnorm true``.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        _set_synchronised(model, True)
        own = [
            (parent, name, child)
            for parent in model.modules()
            for name, child in parent.named_children()
            if isinstance(child, PositionBatchNorm)
        ]
        for parent, name, _ in own:  # torch would make its own of them
            parent.add_module(name, nn.Identity())
        model = super().apply(model)
        for parent, name, child in own:
            parent.add_module(name, child)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        _set_synchronised(model, False)
        return super().revert(model)


def _set_synchronised(model: nn.Module, synchronised: bool) -> None:
    for module in model.modules():
        if isinstance(module, PositionBatchNorm):
            module.synchronised = synchronised


def with_plugins(config: dict[str, Any]) -> dict[str, Any]:
    """Add to a trainer's config what this package's networks and checkpoints need."""
    plugins = config["plugins"] or []
    plugins = list(plugins) if isinstance(plugins, list) else [plugins]
    if config["sync_batchnorm"]:
        plugins.append(SyncBatchNorm())
    if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
        plugins.append(CheckpointFiles())
    return {**config, "plugins": plugins}
