"""MixUp of INRs: mix the weights and the labels of a batch with those of the batch permuted."""

from typing import Any, Literal

import pytorch_lightning as pl
import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

from lightning_dws.augmentations.base import check_probability, check_range
from lightning_dws.augmentations.symmetry import Permutation
from lightning_dws.errors import DataError
from lightning_dws.mixup.alignment import SYMMETRIES, align
from lightning_dws.randomness import make_generator
from lightning_dws.weight_space import ODD, Architecture, WeightBatch, require_functions

AlignmentMode = Literal["none", "permutation", "signed_permutation"]
LabelMode = Literal["mixed", "hard"]


def mix_up(
    batch: WeightBatch,
    partner: WeightBatch,
    share: Float[Tensor, "batch"],
    num_classes: int,
    labels: LabelMode = "mixed",
) -> WeightBatch:
    """Mix every INR of a batch with its partner (Zhang et al., 2018; in weight space).

    Args:
        batch: B INRs.
        partner: B INRs of the same architecture.
        share: In [0, 1], the batch's own share (lambda); the partner's is the rest. With share 1
            the weights stay bit-equal.
        num_classes: K.
        labels: ``"mixed"`` mixes targets (one-hot labels, or the soft targets that are already
            there) with the same share; ``"hard"`` takes the label (and the soft target, if
            there is one) of the larger share.

    Returns:
        A batch with ``parameters`` mixed, ``target`` soft where labels are mixed, and ``label``
        that of the larger share, for metrics. Ids stay the batch's own.
    """
    column = share[:, None]
    weight = column.to(batch.parameters.dtype)
    own_is_larger = share >= 0.5
    target = None
    if labels == "mixed":
        own, others = _soft_target(batch, num_classes), _soft_target(partner, num_classes)
        target = torch.lerp(others, own, column.to(own.dtype))
    elif batch.target is not None and partner.target is not None:
        target = torch.where(own_is_larger[:, None], batch.target, partner.target)
    return batch.replace(
        parameters=torch.lerp(partner.parameters, batch.parameters, weight),
        label=torch.where(own_is_larger, batch.label, partner.label),
        target=target,
    )


def _soft_target(batch: WeightBatch, num_classes: int) -> Tensor:
    if batch.target is not None:
        return batch.target
    return F.one_hot(batch.label, num_classes).float()


def _num_targets(batch: WeightBatch, datamodule: Any) -> int:
    if batch.target is not None:
        return batch.target.shape[1]
    num_classes: int | None = getattr(datamodule, "num_classes", None)
    if num_classes is None:
        raise ValueError(
            "MixUp needs a datamodule with num_classes, got "
            f"{'none' if datamodule is None else type(datamodule).__name__}"
        )
    return num_classes


def draw_beta(alpha: float, size: int, generator: torch.Generator) -> Float[Tensor, "size"]:
    """Draw numbers of Beta(alpha, alpha), from logarithms, which small alphas need.

    A gamma variate of shape alpha is one of shape alpha + 1 times ``uniform ** (1 / alpha)``.
    """
    shape = torch.full((2, size), alpha + 1, device=generator.device)
    log_gamma = torch._standard_gamma(shape, generator=generator).log()
    uniform = torch.rand((2, size), generator=generator, device=generator.device)
    log_gamma += uniform.clamp_min(torch.finfo(uniform.dtype).tiny).log() / alpha
    return torch.sigmoid(log_gamma[0] - log_gamma[1])


class MixUp(pl.Callback):
    """Mix each training batch with a random permutation of itself.

    So a partner is always an INR that the run was given, and a batch of one is its own partner.
    Draws depend on (seed, rank, number of batches seen), and that number is saved in
    checkpoints: a resumed run draws what the straight one would have. The number of classes is
    the datamodule's ``num_classes``; of batches with a ``target``, as of a regression, that is
    mixed, and there need not be any.

    Args:
        alpha: The batch's own share is Beta(alpha, alpha), per INR; 1 is uniform.
        p: Probability that an INR is mixed at all.
        alignment: How to move the partner towards the INR first: ``"none"``, by
            ``"permutation"`` of its hidden neurons, or by ``"signed_permutation"``, for sine.
        permute: Permute the partner's hidden neurons at random before anything else.
        labels: ``"mixed"``, or ``"hard"``: the label of the larger share.
        seed: Of the draws; None takes the datamodule's ``seed``, or 0 where it has none.

    Raises:
        ValueError: An argument is out of its range; at the first batch, the alignment is wrong
            for the INRs or there is no datamodule with ``num_classes``.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        p: float = 1.0,
        alignment: AlignmentMode = "none",
        permute: bool = False,
        labels: LabelMode = "mixed",
        seed: int | None = None,
    ) -> None:
        if alpha == 0:
            raise ValueError(f"alpha must be positive, got {alpha}")
        check_range("alpha", alpha, 0)
        check_probability("p", p)
        if alignment not in ("none", *SYMMETRIES):
            raise ValueError(f"alignment must be one of {('none', *SYMMETRIES)}, got {alignment!r}")
        if labels not in ("mixed", "hard"):
            raise ValueError(f"labels must be 'mixed' or 'hard', got {labels!r}")
        self.alpha = alpha
        self.p = p
        self.alignment = alignment
        self.permute = permute
        self.labels = labels
        self.seed = seed
        self.batches_seen = 0

    def mix(self, batch: WeightBatch, num_classes: int, generator: torch.Generator) -> WeightBatch:
        """Draw partners and shares for a batch and mix it; the batch itself is not changed."""
        size, device = len(batch), batch.device
        order = torch.randperm(size, generator=generator, device=device)
        share = draw_beta(self.alpha, size, generator)
        mixed = torch.rand(size, generator=generator, device=device) < self.p
        partner = batch[order]
        if self.permute:
            partner = Permutation()(partner, generator)
        if self.alignment != "none":
            partner = align(batch, partner, self.alignment).aligned
        share = torch.where(mixed, share, torch.ones_like(share))
        return mix_up(batch, partner, share, num_classes, self.labels)

    @property
    def state_key(self) -> str:
        return self._generate_state_key(
            alpha=self.alpha, p=self.p, alignment=self.alignment, permute=self.permute
        )

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        if sum(isinstance(callback, MixUp) for callback in callbacks) > 1:
            raise DataError("two MixUps in one run would mix what is mixed; choose one")
        self.check_run(pl_module, getattr(trainer, "datamodule", None))

    def check_run(self, pl_module: Any, data: Any) -> None:
        """Refuse a task or INRs that cannot be mixed so.

        Raises:
            DataError: It says why.
        """
        if getattr(pl_module, "pairs", None) or not getattr(pl_module, "can_mix", True):
            what = (
                "trains on pairs of one object, and " if getattr(pl_module, "pairs", None) else ""
            )
            raise DataError(
                f"MixUp: {type(pl_module).__name__} {what}has no labels or targets to mix"
            )
        architecture = getattr(data, "architecture", None)
        if self.alignment == "signed_permutation" and isinstance(architecture, Architecture):
            try:
                why = "it needs an odd activation"
                require_functions("alignment signed_permutation", ODD, why, architecture)
            except ValueError as error:
                raise DataError(f"MixUp: {error}") from error

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not isinstance(batch, WeightBatch):
            raise TypeError(f"MixUp needs batches of type WeightBatch, got {type(batch).__name__}")
        datamodule = getattr(trainer, "datamodule", None)
        num_classes = _num_targets(batch, datamodule)
        seed = getattr(datamodule, "seed", 0) if self.seed is None else self.seed
        generator = make_generator(
            seed,
            rank=trainer.global_rank,
            counter=self.batches_seen,
            stream="mixup",
            device=batch.device,
        )
        self.batches_seen += 1
        mixed = self.mix(batch, num_classes, generator)
        # The training step gets this same object: rebinding its fields hands over the mixed
        # ones, and writes into nobody's tensors.
        batch.parameters, batch.label, batch.target = mixed.parameters, mixed.label, mixed.target

    def state_dict(self) -> dict[str, Any]:
        return {"batches_seen": self.batches_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.batches_seen = state_dict["batches_seen"]
