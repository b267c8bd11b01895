"""The command line: what ``python main.py`` says and runs."""

import re
import sys
from collections.abc import Sequence

from lightning_fabric.utilities.exceptions import MisconfigurationException

from lightning_dws.commands.inrs import run_inrs
from lightning_dws.commands.predict import has_data, run_predict
from lightning_dws.config_files import expand_includes
from lightning_dws.distributed import in_one_line
from lightning_dws.errors import DataError
from lightning_dws.lightning_cli import run_lightning
from lightning_dws.saved_settings import with_saved_settings

HELP = """\
Learning in deep weight spaces: networks that take other networks' weights as their input.

usage: python main.py COMMAND --config FILE [--config FILE ...] [--OPTION VALUE ...]

  fit         train a network on INRs, fitting the INRs first where they are missing
  validate    measure a checkpoint on the validation split
  test        measure a checkpoint on the test split
  predict     write a checkpoint's predictions for the test split to a file, or with
              --data for any folder of images, meshes or networks, or for a store
  inrs fit    fit a dataset of INRs, without training anything
  inrs show   show what a dataset of INRs holds, with a picture
  inrs augment  draw INRs after augmentation, and MixUp between two
  table       run a table of experiments, or what is left of it, and write its report

examples:
  python main.py fit --config conf/quickstart.yaml
  python main.py fit --config conf/fmnist_dws.yaml --data.num_train_objects 4000
  python main.py test --config conf/quickstart.yaml --ckpt_path PATH
  python main.py predict --ckpt_path PATH --data FOLDER
  python main.py inrs fit --config conf/inrs/digits.yaml

Options of three parts can be set in files and on the command line: --data.*, --model.*,
--trainer.*; later ones win. 'python main.py COMMAND --help' lists them all,
'python main.py fit --config FILE --print_config' shows what a run would use.
"""


COMMANDS = ("fit", "validate", "test", "predict", "inrs", "table")
_SETTING = re.compile(r"(--(?:\w+\.)*recipe)\.(\w+(?:=.*)?)", re.DOTALL)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: The words behind ``main.py``. Default: those of this process.
    """
    words = expand_recipe_settings(sys.argv[1:] if args is None else args)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(HELP)
        return
    if words[0] not in COMMANDS and not words[0].startswith("-"):
        sys.stderr.write(f"error: {words[0]!r} is no command; there are {', '.join(COMMANDS)}\n")
        sys.exit(2)
    try:
        if words[0] == "inrs":
            run_inrs(words[1:])
        elif words[0] == "table":
            from lightning_dws.table.command import run_table  # imports what no other command needs

            run_table(words[1:])
        elif words[0] == "predict" and has_data(words):
            run_predict(words[1:])
        else:
            run_lightning(with_saved_settings(expand_includes(words)))
    except (DataError, OSError, MisconfigurationException) as error:
        sys.stderr.write(f"error: {in_one_line(error)}\n")
        sys.exit(1)


def expand_recipe_settings(words: Sequence[str]) -> list[str]:
    """Let single settings on a command line be changes on top of the recipe that is chosen.

    A recipe's name has no settings that jsonargparse could change.

    Example:
        >>> expand_recipe_settings(["--recipe", "sharp", "--recipe.steps=20"])
        ['--recipe', 'sharp', '--recipe_changes.steps=20']
    """
    matches = [(word, _SETTING.fullmatch(word)) for word in words]
    return [f"{m[1]}_changes.{m[2]}" if m else word for word, m in matches]
