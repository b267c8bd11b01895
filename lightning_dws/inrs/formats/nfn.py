"""NFN's INRs of MNIST, Fashion-MNIST and CIFAR-10, numbered, in a folder of each class."""

import re

import torch

from lightning_dws.counting import counted
from lightning_dws.errors import DataError
from lightning_dws.inrs.formats.layouts import DIGITS, INRName, PathNamer, WritableLayout
from lightning_dws.inrs.formats.listing import FoundObject, Listing, finish_listing
from lightning_dws.inrs.formats.source import BadFile, Source
from lightning_dws.inrs.signals import CIFAR10, FashionMNIST
from lightning_dws.inrs.store import INRStore
from lightning_dws.inrs.store.convention import ImageConvention

_NFN_SPLITS = {"train": (0, 45_000), "val": (45_000, 50_000), "test": (50_000, 2**40)}


class _NFNNamer(PathNamer):
    """Number by object id where that says the split, else by the position in each split."""

    def __init__(self, store: INRStore, layout: WritableLayout) -> None:
        super().__init__(store, layout)
        self._by_id = all(self._ids_tell(split) for split in store.splits)
        if not self._by_id:
            for split in store.splits:
                start, stop = _NFN_SPLITS[split]
                if store.num_objects(split) > stop - start:
                    raise DataError(
                        f"{store.directory}: {counted(store.num_objects(split), 'object')} in "
                        f"split {split!r}, nfn has room for {stop - start}"
                    )

    def _ids_tell(self, split: str) -> bool:
        start, stop = _NFN_SPLITS[split]
        last = start - 1
        for batch, _ in self.store.parts(split, views=1):
            ids = torch.cat([torch.tensor([last]), batch.object_id])
            last = int(ids[-1])
            # in another order than by id, an import would not give the same order again
            if last >= stop or (ids[1:] <= ids[:-1]).any():
                return False
        return True

    def path(self, name: INRName) -> str:
        view = self.view_name(name.view, f"aug{name.view - 1}" if name.view else "")
        index = name.object_id if self._by_id else _NFN_SPLITS[name.split][0] + name.position
        prefix = f"randinit_smaller_{view}_" if view else "randinit_smaller_"
        return f"{prefix}{name.label}s/net{index}.pth"


class NFN(WritableLayout):
    """``randinit_smaller_<label>s/net<idx>.pth``, views in ``randinit_smaller_aug<i>_<label>s``.

    The first 45,000 indices are for training, the next 5,000 for validation, the rest for test.
    """

    name = "nfn"
    example = "randinit_smaller_5s/net0.pth (the label and the number)"
    output_offset = 0.0
    convention = ImageConvention("ij", (-1.0, 1.0))
    has_views = True
    _folder = re.compile(r"randinit_smaller_(?:aug([0-9]{1,6})_)?([0-9]{1,6})s")
    _file = re.compile(r"net([0-9]{1,12})\.pth")

    def list_source(self, source: Source) -> Listing:
        folders = [m for m in map(self._folder.fullmatch, source.folders()) if m]
        augmented = sorted({int(m[1]) for m in folders if m[1] is not None})
        numbers: list[int | None] = [None, *augmented]
        found: dict[int, FoundObject] = {}
        bad: list[BadFile] = []
        for folder in folders:
            view = numbers.index(None if folder[1] is None else int(folder[1]))
            for name in source.files(folder[0]):
                match = self._file.fullmatch(name)
                path = f"{folder[0]}/{name}"
                if match is None:
                    continue
                index, label = int(match[1]), int(folder[2])
                new = FoundObject(_nfn_split(index), "", f"net{index}", label)
                known = found.setdefault(index, new)
                if known.label != label or view in known.paths:
                    bad.append(BadFile(path, f"object {index} has another label or file as well"))
                else:
                    known.paths[view] = path
        ordered = [found[index] for index in sorted(found)]
        listing = finish_listing(source, ordered, _nfn_classes(source.name), bad)
        listing.notes["views"] = ["", *(f"aug{number}" for number in augmented)]
        return listing

    def layer_names(self, num_layers: int) -> list[str]:
        hidden = [f"net.{layer}.linear" for layer in range(num_layers - 1)]
        return [*hidden, f"net.{num_layers - 1}"]

    def paths(self, store: INRStore) -> PathNamer:
        return _NFNNamer(store, self)


def _nfn_split(index: int) -> str:
    return next(split for split, (_, stop) in _NFN_SPLITS.items() if index < stop)


def _nfn_classes(folder: str) -> tuple[str, ...]:
    if "fashion" in folder:
        return FashionMNIST.classes
    return CIFAR10.classes if "cifar" in folder else DIGITS
