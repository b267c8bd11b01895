"""What had to be left out of a dataset: told once, and kept beside the store."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_dws.files import write_atomically
from lightning_dws.inrs.signals import SignalDataset

if TYPE_CHECKING:
    from lightning_dws.inrs.preparation import Wanted

REPORT_NAME = "skipped.json"


def report_skipped(directory: Path, signals: SignalDataset, wanted: "Wanted") -> None:
    """Write every object that was left out, with the reason, beside the store, and print it.

    What the report holds already is kept, and not printed again.

    Raises:
        DataError: The report cannot be written.
    """
    skipped = signals.skipped(wanted.num_objects)
    if not skipped:
        return
    path = directory / REPORT_NAME
    known = _read(path)
    new = {name: reason for name, reason in skipped.items() if name not in known}
    if new:
        content = json.dumps(dict(sorted((known | skipped).items())), indent=1) + "\n"
        write_atomically(path, content.encode())
    for name, reason in sorted(new.items()):
        sys.stderr.write(f"skipped: {name}: {reason}\n")
    sys.stderr.write(f"{signals.name}: {len(skipped)} objects were skipped, see {path}\n")


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):  # none yet, or damaged: it is written anew
        return {}
    return found if isinstance(found, dict) else {}
