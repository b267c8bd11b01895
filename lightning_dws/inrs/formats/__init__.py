"""Published INR datasets, in and out."""

from lightning_dws.inrs.formats.dwsnets import DWSNetsFMNIST, DWSNetsMNIST, Multiview
from lightning_dws.inrs.formats.exporting import ExportReport, export_inrs
from lightning_dws.inrs.formats.importing import ImportReport, describe_bad, import_inrs
from lightning_dws.inrs.formats.inr2vec import INR2Vec
from lightning_dws.inrs.formats.layouts import Layout, WritableLayout
from lightning_dws.inrs.formats.listing import FoundObject, Listing, finish_listing
from lightning_dws.inrs.formats.nfn import NFN
from lightning_dws.inrs.formats.source import Source
from lightning_dws.inrs.formats.state_dicts import StateDicts

WRITABLE: dict[str, type[WritableLayout]] = {
    kind.name: kind for kind in (DWSNetsMNIST, DWSNetsFMNIST, Multiview, NFN, StateDicts)
}
LAYOUTS: dict[str, type[Layout]] = {**WRITABLE, INR2Vec.name: INR2Vec}

__all__ = [
    "LAYOUTS",
    "WRITABLE",
    "ExportReport",
    "FoundObject",
    "INR2Vec",
    "ImportReport",
    "Layout",
    "Listing",
    "Source",
    "StateDicts",
    "WritableLayout",
    "describe_bad",
    "export_inrs",
    "finish_listing",
    "import_inrs",
]
