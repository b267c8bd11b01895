"""How the objects of a dataset are shared out between training, validation and test."""

from torch import Tensor

from lightning_dws.inrs.signals.base import SplitOrder, stratified_order

_SPLIT_SEED = 0


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
