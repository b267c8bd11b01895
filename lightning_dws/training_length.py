"""How long a training is that nobody gave a length."""

from jsonargparse import Namespace
from pytorch_lightning.callbacks import EarlyStopping, Timer

MAX_STEPS = 1000
MAX_EPOCHS = 200
_THAT_END = (Timer.__name__, EarlyStopping.__name__)  # of callbacks
VALIDATE_EVERY = 100  # steps: an epoch may be one step, or more than the training has


def bound_training(config: Namespace) -> str:
    """Let a training without a length end after ``MAX_STEPS`` or ``MAX_EPOCHS``.

    Lightning's own default is 1,000 epochs: of a folder of 60,000 images that is a week.

    Args:
        config: The options of ``fit``, in which the length is set where none is given, and with it
            how often to validate.

    Returns:
        The line that says so when the training begins; empty where a length is given.
    """
    trainer = config.trainer
    given = (
        trainer.max_epochs is not None
        or trainer.max_steps != -1
        or trainer.max_time is not None
        or trainer.min_epochs is not None
        or trainer.min_steps is not None
        or trainer.fast_dev_run
        or any(
            callback.class_path.rpartition(".")[2] in _THAT_END
            for callback in trainer.callbacks or ()
        )
    )
    if given:
        return ""
    trainer.max_steps, trainer.max_epochs = MAX_STEPS, MAX_EPOCHS
    if trainer.val_check_interval is None and trainer.check_val_every_n_epoch == 1:
        trainer.val_check_interval, trainer.check_val_every_n_epoch = VALIDATE_EVERY, None
    return (
        f"training        ends after {MAX_STEPS:,} steps or {MAX_EPOCHS} epochs, for nothing says "
        "how long it is to be (--trainer.max_epochs)\n"
    )
