"""What a store's INRs were fitted to, found by its name, to compare them with it."""

import sys
from collections.abc import Callable
from pathlib import Path

from lightning_dws.errors import DataError
from lightning_dws.inrs.shapes import Solids
from lightning_dws.inrs.signals import CIFAR10, MNIST, Digits, FashionMNIST, SignalDataset
from lightning_dws.inrs.sounds import SpokenDigits
from lightning_dws.inrs.store import StoreHeader

_Known = tuple[Callable[[], SignalDataset], ...]
_KNOWN_SIGNALS: _Known = (Digits, FashionMNIST, MNIST, CIFAR10, Solids, SpokenDigits)


def find_originals(
    directory: Path, header: StoreHeader, given: SignalDataset | None = None
) -> SignalDataset | None:
    """Give the signals that a store was fitted to, if they are known and to be had here."""
    if given is not None and given.name != header.signals:
        raise DataError(
            f"{directory}: INRs of {header.signals}, the signals given are {given.name}"
        )
    known = (given,) if given is not None else (kind() for kind in _KNOWN_SIGNALS)
    signals = next((s for s in known if s.name == header.signals), None)
    if signals is None:
        return None
    try:
        signals.first("test", 1)
    except DataError as error:
        sys.stderr.write(f"without originals: {error}\n")
        return None
    return signals
