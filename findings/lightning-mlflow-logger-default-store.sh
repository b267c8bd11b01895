#!/usr/bin/env bash
# Lightning's MLFlowLogger with its own defaults cannot log anything to today's MLflow.
#
# Guess, written down before it was run: MLFlowLogger() without a tracking URI writes below ./mlruns,
# which is what its signature says (save_dir="./mlruns"), as it did for years; a database or a server
# is for those who ask for it.
#
# Seen with pytorch-lightning 2.6.6 and mlflow-skinny 3.17.2 on Python 3.11: MLFlowLogger() raises
# MlflowException before anything is logged, since MLflow refuses folders (a "file:" URI, which is what
# the default becomes) unless an environment variable allows them. With tracking_uri="sqlite:///..." it
# is made and logs, if sqlalchemy and alembic are there, which mlflow-skinny does not bring.
#
# The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 pytorch-lightning==2.6.6 \
  mlflow-skinny==3.17.2 sqlalchemy==2.1.9 alembic==1.20.1 --extra-index-url https://download.pytorch.org/whl/cpu
cd "$folder"
env -u MLFLOW_ALLOW_FILE_STORE -u MLFLOW_TRACKING_URI "$folder/venv/bin/python" - <<'PYTHON'
import mlflow
import pytorch_lightning as pl
from mlflow.exceptions import MlflowException
from pytorch_lightning.loggers import MLFlowLogger

print("pytorch-lightning", pl.__version__, "mlflow", mlflow.__version__)
try:
    MLFlowLogger()
except MlflowException as error:
    message = str(error)
else:
    raise SystemExit("the behaviour has changed: MLFlowLogger() is made")
print("MLFlowLogger():", message[:90])
assert "maintenance mode" in message, "the behaviour has changed"
database = MLFlowLogger(tracking_uri="sqlite:///mlflow.db", artifact_location="artifacts")
database.log_metrics({"loss": 1.0}, step=0)
[kept] = database.experiment.get_metric_history(database.run_id, "loss")
assert kept.value == 1.0
print("as stated: the default store is refused, a database is taken")
PYTHON
