"""The command line: what ``python main.py`` says and runs."""

import re
import sys
from collections.abc import Sequence

from lightning_dws.program import __version__, program, shipped_configs
from lightning_dws.startup import importing
from lightning_dws.suggestions import closest

HELP = """\
Learning in deep weight spaces: networks that take other networks' weights as their input.

usage: {program} COMMAND --config FILE [--config FILE ...] [--OPTION VALUE ...]

  fit         train a network on INRs, fitting the INRs first where they are missing
  validate    measure a checkpoint on the validation split
  test        measure a checkpoint on the test split
  predict     write a checkpoint's predictions for the test split to a file, or with
              --data for any folder of images, arrays, meshes, sounds or networks, or a store
  inrs fit    fit a dataset of INRs, without training anything
  inrs show   show what a dataset of INRs holds, with a picture
  inrs augment  draw INRs after augmentation, and MixUp between two
  inrs browse   write a web page that shows INRs, augments and mixes them
  inrs import, export, verify  read and write published datasets, check a dataset
  zoo fit     train a zoo of small CNNs, whose accuracy networks learn to predict
  zoo import, baseline  read a published zoo; predict from statistics of weights
  table       run a table of experiments, or what is left of it, and write its report
  sweep       search for the options of fit with the best validation score
  push, pull  share a checkpoint or a dataset of INRs on the Hugging Face Hub, or get one

examples:
  {program} fit --config conf/quickstart.yaml
  {program} fit --config conf/fmnist_dws.yaml --data.num_train_objects 4000
  {program} test --config conf/quickstart.yaml --ckpt_path PATH
  {program} predict --ckpt_path PATH --data FOLDER
  {program} inrs fit --config conf/inrs/digits.yaml

A config that is not found here is looked for in {configs}.
Options of three parts can be set in files and on the command line: --data.*, --model.*,
--trainer.*; later ones win. '{program} COMMAND --help' lists them all,
'{program} fit --config FILE --print_config' shows what a run would use.
"""


COMMANDS = ("fit", "validate", "test", "predict", "inrs", "zoo", "table", "sweep", "push", "pull")
_SETTING = re.compile(r"(--(?:\w+\.)*recipe)\.(\w+(?:=.*)?)", re.DOTALL)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        args: The words behind ``main.py``. Default: those of this process.
    """
    words = expand_recipe_settings(sys.argv[1:] if args is None else args)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(HELP.format(program=program(), configs=shipped_configs()))
    elif words[0] == "--version":
        sys.stdout.write(f"lightning-dws {__version__}\n")
    elif words[0] not in COMMANDS and not words[0].startswith("-"):
        known = f"there are {', '.join(COMMANDS)}{closest(words[0], COMMANDS)}"
        sys.stderr.write(f"error: {words[0]!r} is no command; {known}\n")
        sys.exit(2)
    else:
        with importing():
            from lightning_dws.dispatch import run_command  # imports torch, which takes seconds

        run_command(words)


def expand_recipe_settings(words: Sequence[str]) -> list[str]:
    """Let single settings on a command line be changes on top of the recipe that is chosen.

    A recipe's name has no settings that jsonargparse could change.

    Example:
        >>> expand_recipe_settings(["--recipe", "sharp", "--recipe.steps=20"])
        ['--recipe', 'sharp', '--recipe_changes.steps=20']
    """
    matches = [(word, _SETTING.fullmatch(word)) for word in words]
    return [f"{m[1]}_changes.{m[2]}" if m else word for word, m in matches]
