"""The published layouts: where each keeps its INRs, and how it names them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lightning_dws.errors import DataError
from lightning_dws.inrs.formats.layers import SourceLayer, find_layers
from lightning_dws.inrs.formats.listing import Listing
from lightning_dws.inrs.formats.source import Source
from lightning_dws.inrs.formats.state_files import parse_state_dict
from lightning_dws.inrs.store import INRStore
from lightning_dws.inrs.store.convention import DEFAULT, ImageConvention

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class FoundINR:
    """What a file holds.

    Attributes:
        layers: In the order in which they are applied.
        label: None where the file does not tell.
        frequencies: Numbers in the file that are named as frequencies are.
        is_reordered: Whether its entries are in another order than its layers' numbers.
    """

    layers: tuple[SourceLayer, ...]
    label: int | None
    frequencies: Mapping[str, float] = field(default_factory=dict)
    is_reordered: bool = False

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.layers[0].weight.shape[1], *(len(layer.bias) for layer in self.layers))


@dataclass(frozen=True)
class INRName:
    """Where an INR stands in its store.

    Attributes:
        split: Of the store.
        position: In its split's order.
        object_id: Of its object.
        label: Its class.
        view: Which neural view.
    """

    split: str
    position: int
    object_id: int
    label: int
    view: int


class Layout(ABC):
    """A published layout, for import.

    Attributes:
        name: On the command line.
        example: What its folder holds, for whoever has another one.
        w0: Frequency of its SIRENs.
        output_offset: What its INRs add to their last layer.
        convention: How its images were given to the INRs.
        is_anybodys: Whether its INRs may be of anything, which an import is told, or takes for
            granted and says so.
    """

    name: str
    example: str
    w0 = 30.0
    output_offset = 0.5
    convention: ImageConvention = DEFAULT
    is_anybodys = False

    @abstractmethod
    def list_source(self, source: Source) -> Listing:
        """List the objects of a folder."""

    def read(self, source: Source, path: str) -> FoundINR:
        """Read one file.

        Raises:
            DataError: It is damaged, or holds something else.
        """
        content = source.read_bytes(path)
        state = parse_state_dict(content, path.endswith(".safetensors"))
        layers, is_reordered = find_layers(state.tensors, state.is_ordered)
        return FoundINR(layers, state.label, state.frequencies, is_reordered)


class WritableLayout(Layout):
    """A published layout, for export as well.

    Attributes:
        label_inside: Whether the label is an entry of each file.
        has_views: Whether there is room for several views.
    """

    label_inside = False
    has_views = False

    def layer_names(self, num_layers: int) -> list[str]:
        """Name the layers, as the files' keys do."""
        return [f"seq.{layer}" for layer in range(num_layers)]

    def check_store(self, store: INRStore) -> None:
        """Refuse a store for which the layout has no room."""
        views = max(store.num_views(split) for split in store.splits)
        if views > 1 and not self.has_views:
            raise DataError(
                f"{store.directory}: {views} views, {self.name} has room for one; "
                "multiview, nfn and state-dicts have room for several"
            )

    @abstractmethod
    def paths(self, store: INRStore) -> "PathNamer":
        """Decide how a store's files will be named."""


class PathNamer(ABC):
    """Name the files of an export; most layouts name them by object id.

    Args:
        store: What is exported.
        layout: Only the offsets that an import into this layout's store added are taken off.
    """

    def __init__(self, store: INRStore, layout: WritableLayout) -> None:
        notes = store.header.recipe
        own = notes.get("imported") == layout.name
        offsets = notes.get("id_offsets") if own else None
        views = notes.get("views") if own else None
        self.offsets: dict[str, Any] = offsets if isinstance(offsets, dict) else {}
        self.views: list[Any] = views if isinstance(views, list) else []
        self.store = store

    def number(self, name: INRName, folder: str) -> int:
        """Give the number that tells an object from the others of its folder."""
        offset = self.offsets.get(folder, 0)
        return name.object_id - (offset if isinstance(offset, int) else 0)

    def view_name(self, view: int, otherwise: str) -> str:
        """Give the name that a view had where an import into this layout's store found it."""
        return str(self.views[view]) if view < len(self.views) else otherwise

    @abstractmethod
    def path(self, name: INRName) -> str:
        """Name an INR's file, relative to the exported folder."""

    def folder_files(self, root: str, names: list[tuple[INRName, str]]) -> dict[str, Any]:
        """Give the json files of the folder, by name; ``names`` are all INRs with their paths."""
        return {}
