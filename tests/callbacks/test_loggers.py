"""Loggers that keep no folders of runs: what they are sent, and where the run's files are."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger, MLFlowLogger
from pytorch_lightning.loggers.logger import DummyExperiment

from lightning_dws.cli import main
from lightning_dws.lightning_cli import run_lightning

FIT = [
    *("fit", "--data.dataset.signals=tiny.Blobs", "--model.network=tiny.FlatMLP"),
    "--data.dataset.architecture.widths=[2,6,5,1]",
    '--data.dataset.recipe={"steps": 10, "learning_rate": 0.005}',
    *("--data.batch_size=8", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"),
    *("--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false"),
]
PICTURES = ["train/inrs", "val/confusion_matrix", "val/inrs", "test/confusion_matrix", "test/inrs"]


class Tracker(Logger):
    """As W&B's: a display name, an id, images by ``log_image``, no folder for a run."""

    def __init__(self, save_dir: str = ".", name: str | None = None, version: str | None = None):
        super().__init__()
        self.given = {"save_dir": save_dir, "name": name, "version": version}
        self.images, self.hyperparameters, self.metrics = {}, {}, {}

    name = property(lambda self: "project")
    version = property(lambda self: "3fa9")
    save_dir = property(lambda self: self.given["save_dir"])

    def log_hyperparams(self, params):
        self.hyperparameters |= params

    def log_metrics(self, metrics, step=None):
        self.metrics |= metrics

    def log_image(self, key, images, step=None):
        assert step is None  # W&B would leave out what is behind its own count
        self.images[key] = images


class Server(DummyExperiment):
    def __init__(self):
        self.images = {}

    def log_image(self, run_id, image, key=None, step=None):
        self.images[key] = (run_id, image.shape[2], step)


class OfflineMLFlow(MLFlowLogger):
    """MLflow's without a server and its package."""

    def __init__(
        self,
        run_name: str | None = None,
        tracking_uri: str | None = None,
        save_dir: str | None = "./mlruns",
        artifact_location: str | None = None,
    ):
        Logger.__init__(self)
        self.given = (run_name, tracking_uri, artifact_location)
        self.server = Server()

    experiment = property(lambda self: self.server)
    run_id = property(lambda self: "run 1")
    name = version = property(lambda self: "1")
    save_dir = property(lambda self: None)  # as with a server

    def log_hyperparams(self, params):
        """Send nothing."""

    log_metrics = after_save_checkpoint = finalize = lambda self, *args, **kwargs: None


@pytest.fixture
def words(tmp_path) -> list[str]:
    root = tmp_path / "runs"
    return [*FIT, f"--data.root={tmp_path / 'data'}", f"--trainer.default_root_dir={root}"]


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_logger_without_folders_is_sent_all_and_the_run_has_its_own(words, tmp_path):
    cli = run_lightning([*words, "--name=mine", "--trainer.logger=test_loggers.Tracker"])
    logger, folder = cli.trainer.logger, tmp_path / "runs" / "mine" / "version_0"
    assert logger.given == {
        "save_dir": str(tmp_path / "runs"),
        "name": "mine/version_0",
        "version": None,
    }
    assert list(logger.images) == PICTURES
    assert logger.hyperparameters["data.batch_size"] == 8
    assert {"val/accuracy", "train/loss_step", "test/accuracy"} <= logger.metrics.keys()
    pictures = {f"{name.replace('/', '_')}.png" for name in PICTURES}
    assert files_in(folder) >= {"config.yaml", "last.ckpt", "best-epoch=0.ckpt", *pictures}
    assert files_in(tmp_path / "runs") == files_in(folder)

    last = f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"
    main([*words, "--trainer.logger=test_loggers.Tracker", "--trainer.max_epochs=2", last])
    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]  # it was continued


def test_mlflow_gets_a_database_beside_the_runs_and_images(words, tmp_path):
    cli = run_lightning([*words, "--trainer.logger=test_loggers.OfflineMLFlow"])
    root = tmp_path / "runs"
    expected = ("run/version_0", f"sqlite:///{root / 'mlflow.db'}", str(root / "mlruns"))
    logger: pl.loggers.Logger = cli.trainer.logger
    assert logger.given == expected
    assert list(logger.server.images) == PICTURES
    assert logger.server.images["val/inrs"] == ("run 1", 3, cli.trainer.global_step)
    assert "config.yaml" in files_in(root / "run" / "version_0")


def test_a_server_of_ones_own_is_kept(words):
    own = "--trainer.logger.init_args.tracking_uri=http://localhost:5000"
    cli = run_lightning([*words, "--trainer.logger=test_loggers.OfflineMLFlow", own])
    assert cli.trainer.logger.given == ("run/version_0", "http://localhost:5000", None)
