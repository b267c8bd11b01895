"""How loggers start: a CSV file keeps its rows, a logger without its server is one error."""

import csv

import pytest
from pytorch_lightning.loggers import CSVLogger, Logger

from lightning_dws.callbacks import start_loggers
from lightning_dws.errors import DataError


class WithoutKey(Logger):
    name = version = "1"

    @property
    def experiment(self):
        raise RuntimeError("No API key configured.\nUse login.")

    def log_hyperparams(self, params):
        """Send nothing."""

    log_metrics = log_hyperparams


def log(folder, **metrics: float) -> list[dict[str, str]]:
    """Log a row in a process of its own; give what the file holds then."""
    logger = CSVLogger(folder, name="run", version="version_0")
    start_loggers([logger])
    logger.log_metrics(metrics, step=1)
    logger.save()
    with open(folder / "run" / "version_0" / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_csv_logger_goes_on_behind_the_rows_that_are_there(tmp_path, recwarn):
    log(tmp_path, loss=3.0)
    log(tmp_path, loss=2.0)
    rows = log(tmp_path, accuracy=0.5)  # a column more
    assert [(row["loss"], row["accuracy"]) for row in rows] == [
        ("3.0", ""),
        ("2.0", ""),
        ("", "0.5"),
    ]
    assert [path.name for path in (tmp_path / "run" / "version_0").iterdir()] == ["metrics.csv"]
    assert not recwarn.list


def test_a_logger_that_cannot_start_is_one_error():
    with pytest.raises(DataError, match=r"WithoutKey cannot start \(No API key configured\.\)"):
        start_loggers([WithoutKey()])
