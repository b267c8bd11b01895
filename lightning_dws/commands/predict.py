"""The command ``predict --data``: what a trained network says of anything."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import PositiveFloat

from lightning_dws.config_files import values_of
from lightning_dws.errors import DataError
from lightning_dws.parse_errors import ArgumentParser
from lightning_dws.plain_checkpoints import WEIGHTS_NAME
from lightning_dws.prediction import Predictions, load_checkpoint
from lightning_dws.prediction.prediction_table import write_predictions
from lightning_dws.program import program
from lightning_dws.runs import DEFAULT_ROOT, find_checkpoint

_CONFIG_SUFFIXES = (".yaml", ".yml")


def has_data(words: Sequence[str]) -> bool:
    """Whether a command line of ``predict`` is that of data to predict, and not of settings.

    That of a checkpoint that was pulled is: it has no data of its own.
    """
    given = values_of(("--data",), words)
    if not given and not values_of(("-c", "--config"), words):
        paths = values_of(("--ckpt_path",), words)
        return any((Path(path) / WEIGHTS_NAME).is_file() for path in paths)
    return bool(given) and not any(
        value.endswith(_CONFIG_SUFFIXES) or value.lstrip().startswith("{") for value in given
    )


def predict_parser() -> ArgumentParser:
    """Make the parser of ``predict --data``."""
    parser = ArgumentParser(
        prog=f"{program()} predict",
        description="Classify anything with a trained network: its checkpoint says how INRs are "
        "fitted to images, arrays, meshes or sounds as to those that it was trained on. INRs that "
        "were fitted once are kept and found again.",
    )
    parser.add_argument(
        "--ckpt_path",
        type=str,
        required=True,
        help="a checkpoint, the folder of a run (its best one), or 'best' or 'last' of the run "
        "that is trained last",
    )
    parser.add_argument(
        "--data",
        type=str,
        required=True,
        help="a folder or a file of images, arrays, meshes, sounds or state dicts; a store of "
        "INRs; or 'train', 'val' or 'test' of the store that the network was trained on",
    )
    parser.add_argument(
        "--output",
        type=str | None,
        default=None,
        help="the CSV file (default: predictions_NAME.csv here, NAME that of the data)",
    )
    parser.add_argument(
        "--labels",
        type=str | None,
        default=None,
        help="a CSV with a line FILE,CLASS for each file of --data, to compare with (default: "
        "folders that are called as classes are)",
    )
    parser.add_argument(
        "--root",
        type=str | None,
        default=None,
        help="folder under which stores live, fitted INRs in its folder inrs (default: that of "
        "the network's run if it is here, else data)",
    )
    parser.add_argument(
        "--runs",
        type=str,
        default=DEFAULT_ROOT,
        help="folder of the runs that 'best' and 'last' are looked for in",
    )
    parser.add_argument(
        "--device", type=str, default="auto", help="where to compute: cpu, cuda, cuda:1, auto"
    )
    parser.add_argument(
        "--w0",
        type=PositiveFloat,
        nargs="+",
        default=None,
        help="frequency of state dicts' sines, or one for each hidden layer (siren-pytorch's are "
        "30 1; default: that of the INRs trained on)",
    )
    return parser


def run_predict(words: Sequence[str]) -> None:
    """Write predictions, and say where they are.

    Args:
        words: Behind ``predict``.

    Raises:
        DataError: Nothing could be predicted; the message says why.
    """
    parser = predict_parser()
    options = parser.parse_args(list(words))
    try:
        predictions = _predict(options)
    except DataError:
        raise
    except ValueError as error:
        parser.error(str(error))
    path = Path(options.output or f"predictions_{_short_name(options.data)}.csv")
    write_predictions(path, predictions)
    sys.stdout.write("\n".join([*_summarise(predictions), f"predictions     {path}"]) + "\n")


def _predict(options: Namespace) -> Predictions:
    path = find_checkpoint(options.ckpt_path, Path(options.runs))
    classifier = load_checkpoint(path, device=options.device)
    sys.stdout.write(f"checkpoint      {classifier.path}\n")
    return classifier.predict(
        options.data, root=options.root, w0=options.w0, labels=options.labels, show_progress=True
    )


def _short_name(data: str) -> str:
    name = Path(data).resolve().name if Path(data).exists() else data
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[:80] or "data"


def _summarise(predictions: Predictions) -> list[str]:
    lines = [f"{predictions.inrs.architecture.noun:<16}{len(predictions)}"]
    if predictions.psnr is not None and predictions.psnr.isfinite().any():
        lines[0] += f", {predictions.psnr.nanmean():.1f} dB"
    accuracy = predictions.accuracy
    if accuracy is not None:
        known = sum(label is not None for label in predictions.labels)
        lines.append(f"accuracy        {100 * accuracy:.1f} % of {known} whose class is known")
    return lines
