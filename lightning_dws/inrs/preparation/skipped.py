"""What had to be left out of a dataset: told once, kept beside the store, and good once repaired.

A store whose dataset has objects that cannot be used (damaged images, broken meshes) gets two more
files: ``skipped.json`` names these objects with the reasons, and ``others.sha256`` names the
dataset but for the content of these. Repairing files changes the dataset, and with it the store's
name. The new store is then not fitted from nothing: any store beside it that is of the same INRs,
and of the same dataset but for what it skipped, gives its INRs, and only those of repaired objects
are fitted. Datasets whose objects are named by their content all have the same ``others.sha256``:
what one of them has fitted, the next takes. As an INR depends on its own object alone, the bytes
are as if all were fitted at once.
"""

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lightning_dws.errors import DataError
from lightning_dws.files import check_regular, write_atomically
from lightning_dws.inrs.signals import SignalDataset
from lightning_dws.inrs.store import INRStore, StoreHeader

REPORT_NAME = "skipped.json"
OTHERS_NAME = "others.sha256"


def report_skipped(
    directory: Path, signals: SignalDataset, num_objects: Mapping[str, int | None]
) -> None:
    """Write every object that was left out, with the reason, beside the store, and print it.

    What the report holds already is kept, and not printed again.

    Raises:
        DataError: The report cannot be written.
    """
    skipped = signals.skipped(num_objects)
    if signals.is_named_by_content and not (directory / OTHERS_NAME).exists():
        _write_others(directory, signals.identity_without(()))
    if not skipped:
        return
    path = directory / REPORT_NAME
    known = read_report(directory)
    new = {name: reason for name, reason in skipped.items() if name not in known}
    if new:
        report = dict(sorted((known | skipped).items()))
        _write_others(directory, signals.identity_without(report))
        write_atomically(path, (json.dumps(report, indent=1) + "\n").encode())
    for name, reason in sorted(new.items()):
        sys.stderr.write(f"skipped: {name}: {reason}\n")
    sys.stderr.write(
        f"{signals.name}: skipped {len(skipped)} in all, see {path}; "
        "once they are repaired, the same command fits them alone\n"
    )


def _write_others(directory: Path, identity: str | None) -> None:
    if identity is not None:
        write_atomically(directory / OTHERS_NAME, f"{identity}\n".encode())


def read_report(directory: Path) -> dict[str, str]:
    """Read which objects a store lacks and why; nothing where there is no report."""
    path = directory / REPORT_NAME
    try:
        check_regular(path)
        found = json.loads(path.read_bytes())
    except (DataError, OSError, ValueError, RecursionError):  # damaged: it is written anew
        return {}
    plain = isinstance(found, dict) and all(isinstance(reason, str) for reason in found.values())
    return found if plain else {}


def recall_skipped(directory: Path, signals: SignalDataset, store: INRStore) -> None:
    """Tell signals what their store knows of them, so that no file is examined again."""
    with suppress(DataError):  # what cannot be read is found out anew, and told by whoever needs it
        signals.recall(store.object_ids(), read_report(directory))


def find_earlier_stores(
    directory: Path, header: StoreHeader, signals: SignalDataset
) -> list[INRStore]:
    """Find stores beside this one of the same INRs, as far as both hold them.

    They lack objects which this one has, or are of objects that are named by their content.
    """
    found = []
    for path in sorted(directory.parent.glob(f"*/{OTHERS_NAME}")):
        report = read_report(path.parent)
        if path.parent == directory or not (report or signals.is_named_by_content):
            continue
        with suppress(DataError, OSError, UnicodeDecodeError):  # it is only a help
            check_regular(path)
            if path.read_text().strip() == signals.identity_without(report):
                store = INRStore(path.parent, allow_missing=True)
                if replace(store.header, signals=header.signals).fingerprint == header.fingerprint:
                    found.append(store)
    return found
