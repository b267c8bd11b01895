"""The objects of a dataset: their order, shared out between training, validation and test."""

from dataclasses import dataclass

import torch
from torch import Tensor

SPLITS = ("train", "val", "test")
_SPLIT_SEED = 0


@dataclass(frozen=True, eq=False)
class SplitOrder:
    """The objects of one split in their fixed order: a run that wants n takes the first n.

    Attributes:
        object_id: (n,) int64, unique over all splits of the dataset.
        label: (n,) int64, the class of each; 0 where there are no classes.
    """

    object_id: Tensor
    label: Tensor

    def __len__(self) -> int:
        return len(self.object_id)

    def __getitem__(self, index: slice | Tensor) -> "SplitOrder":
        return SplitOrder(self.object_id[index], self.label[index])


def stratified_order(label: Tensor, seed: int) -> Tensor:
    """Shuffle so that every prefix holds the classes in the proportions of the whole.

    Args:
        label: (n,) int64.
        seed: The order depends on it and on the labels alone.

    Returns:
        (n,) int64 indices: a permutation.

    Example:
        >>> label = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> label[stratified_order(label, seed=0)][:3].sort().values
        tensor([0, 0, 1])
    """
    shuffled = torch.randperm(len(label), generator=torch.Generator().manual_seed(seed))
    position = torch.empty(len(label), dtype=torch.float64)
    for value in label.unique():
        members = shuffled[label[shuffled] == value]
        ranks = torch.arange(len(members), dtype=torch.float64)
        position[members] = (ranks + 0.5) / len(members)
    return shuffled[torch.argsort(position[shuffled], stable=True)]


def cut_stratified(label: Tensor, first_id: int, sizes: dict[str, int]) -> dict[str, SplitOrder]:
    """Cut one stratified order of objects into consecutive, so again stratified, splits.

    Args:
        label: (n,) int64, of the objects ``first_id`` to ``first_id + n - 1``.
        first_id: Object id of the first.
        sizes: Objects per split; they add up to n.
    """
    order = stratified_order(label, _SPLIT_SEED)
    parts = order.split(list(sizes.values()))
    return {
        name: SplitOrder(part + first_id, label[part])
        for name, part in zip(sizes, parts, strict=True)
    }


def cut_official(label: Tensor, num_training: int, num_val: int) -> dict[str, SplitOrder]:
    """Keep a dataset's own test set, and cut validation from its own training set.

    Args:
        label: (n,) int64 by object id: the official training set, then the official test set.
        num_training: Objects in the official training set.
        num_val: How many of them are for validation: the last of a stratified seeded order.
    """
    training, test = label[:num_training], label[num_training:]
    return {
        **cut_stratified(training, 0, {"train": num_training - num_val, "val": num_val}),
        **cut_stratified(test, num_training, {"test": len(test)}),
    }
