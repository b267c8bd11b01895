"""Run the command that words name, and say in one line what went wrong."""

import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.exceptions import SIGTERMException

from lightning_dws.commands.inrs import run_inrs
from lightning_dws.commands.predict import has_data, run_predict
from lightning_dws.commands.sharing import run_pull, run_push
from lightning_dws.config_files import expand_includes
from lightning_dws.distributed import in_one_line
from lightning_dws.errors import DataError
from lightning_dws.lightning_cli import run_lightning
from lightning_dws.saved_settings import with_found_checkpoint, with_saved_settings


def run_command(words: Sequence[str]) -> None:
    """Run ``inrs``, ``zoo``, ``table``, or one of Lightning's commands; exit with 1 where it fails.

    One that SIGTERM stops ends with 143, as programs do that know nothing of it.

    Args:
        words: The command line, its first the command.
    """
    try:
        if words[0] == "inrs":
            run_inrs(words[1:])
        elif words[0] == "zoo":
            from lightning_dws.commands.zoo import run_zoo  # only it needs what this imports

            run_zoo(words[1:])
        elif words[0] == "table":
            from lightning_dws.table.command import run_table  # likewise

            run_table(words[1:])
        elif words[0] == "sweep":
            _run_sweep(words[1:])
        elif words[0] == "push":
            run_push(words[1:])
        elif words[0] == "pull":
            run_pull(words[1:])
        elif words[0] == "predict" and has_data(words):
            run_predict(words[1:])
        else:
            run_lightning(with_saved_settings(with_found_checkpoint(expand_includes(words))))
    except SIGTERMException:  # Lightning's, by which a stopped run would have ended with 0
        sys.stderr.write("stopped by SIGTERM; 'fit' goes on with --ckpt_path last\n")
        sys.exit(128 + signal.SIGTERM)
    except (DataError, OSError, MisconfigurationException) as error:
        sys.stderr.write(f"error: {in_one_line(error)}\n")
        sys.exit(1)


def _run_sweep(words: Sequence[str]) -> None:
    if find_spec("optuna") is None:
        raise DataError("Optuna is not installed: pip install 'lightning-dws[sweep]'")
    from lightning_dws.sweep.sweep_command import run_sweep

    run_sweep(words)
