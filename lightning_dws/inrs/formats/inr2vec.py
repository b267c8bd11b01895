"""inr2vec's INRs of shapes: ``<split>/<i>.h5`` with a flat vector of parameters."""

from importlib import import_module
from typing import Any

import torch

from lightning_dws.errors import DataError
from lightning_dws.inrs.formats.layers import split_row
from lightning_dws.inrs.formats.layouts import FoundINR, Layout
from lightning_dws.inrs.formats.listing import FoundObject, Listing, finish_listing
from lightning_dws.inrs.formats.source import MAX_FILE_BYTES, BadFile, Source
from lightning_dws.inrs.formats.state_dicts import interleave
from lightning_dws.inrs.signals import SPLITS
from lightning_dws.weight_space import INRArchitecture

_MAX_CLASS = 9_999


class INR2Vec(Layout):
    """``<split>/<i>.h5`` with ``params`` (P,) and ``class_id``; meshes beside them are not read.

    Args:
        widths: Of every INR, since a flat vector does not tell.

    Raises:
        DataError: h5py is not installed.
    """

    name = "inr2vec"
    example = "train/0.h5, beside train/ val/ and test/"
    output_offset = 0.0

    def __init__(self, widths: tuple[int, ...] = (3, 512, 512, 512, 512, 512, 1)) -> None:
        self.widths = widths
        self._architecture = INRArchitecture(widths)
        try:
            self._h5py: Any = import_module("h5py")
        except ModuleNotFoundError as error:
            raise DataError(
                "inr2vec needs h5py to read its files: pip install 'lightning-dws[inr2vec]'"
            ) from error

    def list_source(self, source: Source) -> Listing:
        found, bad = [], []
        for split in (name for name in SPLITS if name in source.folders()):
            for name in source.files(split):
                path = f"{split}/{name}"
                if name.endswith(".h5"):
                    try:
                        label = self._read_class(source, path)
                    except DataError as error:
                        bad.append(BadFile(path, str(error)))
                    else:
                        found.append(FoundObject(split, split, name, label, {0: path}))
        num_classes = 1 + max((item.label or 0 for item in found), default=0)
        return finish_listing(source, interleave(found), tuple(map(str, range(num_classes))), bad)

    def read(self, source: Source, path: str) -> FoundINR:
        values = torch.from_numpy(
            self._read_entry(
                source, path, "params", "float32", (self._architecture.num_parameters,)
            )
        )
        return FoundINR(split_row(self._architecture, values), None)

    def _read_class(self, source: Source, path: str) -> int:
        label = int(self._read_entry(source, path, "class_id", None, None).item())
        if not 0 <= label <= _MAX_CLASS:
            raise DataError(f"class_id {label}, expected 0 to {_MAX_CLASS}")
        return label

    def _read_entry(
        self, source: Source, path: str, name: str, dtype: str | None, shape: tuple[int, ...] | None
    ) -> Any:
        real = source.real_path(path)
        try:
            with open(real, "rb") as raw, self._h5py.File(raw, "r") as file:
                if raw.seek(0, 2) > MAX_FILE_BYTES:
                    raise DataError(f"more than {MAX_FILE_BYTES} bytes")
                link = file.get(name, getlink=True)
                entry = file[name] if isinstance(link, self._h5py.HardLink) else None
                if not isinstance(entry, self._h5py.Dataset):
                    raise DataError(f"holds no {name} of its own")
                if entry.external or entry.is_virtual:
                    raise DataError(f"its {name} lies in another file: refused")
                if shape is None and (entry.size != 1 or entry.dtype.kind not in "iu"):
                    raise DataError(f"{name} is {entry.dtype} of shape {entry.shape}")
                if shape is not None and (entry.shape, str(entry.dtype)) != (shape, dtype):
                    raise DataError(
                        f"{name} is {entry.dtype} of shape {entry.shape}, expected {dtype} of "
                        f"shape {shape}; other widths can be given"
                    )
                return entry[()]
        except DataError:
            raise
        # h5py raises many kinds of errors for damaged files, some undocumented
        except Exception as error:
            text = str(error).splitlines() or [""]
            raise DataError(f"damaged ({type(error).__name__}: {text[0][:200]})") from error
