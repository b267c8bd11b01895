"""Which task a command line means. It decides which options there are, so it is found first."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from lightning_dws.config_files import settings_of
from lightning_dws.errors import DataError
from lightning_dws.suggestions import closest
from lightning_dws.tasks.base import WeightSpaceTask
from lightning_dws.tasks.classification import ClassificationTask
from lightning_dws.tasks.contrastive import ContrastiveTask
from lightning_dws.tasks.editing import EditingTask
from lightning_dws.tasks.regression import RegressionTask

DEFAULT_TASK = ClassificationTask
TASKS: dict[str, type[WeightSpaceTask]] = {
    task.short_name: task
    for task in (ClassificationTask, RegressionTask, ContrastiveTask, EditingTask)
}
_OPTION, _CONFIGS = "--task", ("-c", "--config")


def find_task(words: Sequence[str]) -> type[WeightSpaceTask]:
    """Find the task of a command line: the last that its words or config files name.

    Args:
        words: The command line. A config may also be given as text.

    Raises:
        DataError: There is no such task, or a config file cannot be read.
    """
    names = list(_names(words))
    return named_task(names[-1]) if names else DEFAULT_TASK


def _names(words: Sequence[str]) -> Iterator[Any]:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        value = value if equals else following
        if not value or (not equals and value.startswith("-")):  # argparse says what is missing
            continue
        if option == _OPTION:
            yield value
        elif option in _CONFIGS:
            name = settings_of(value).get("task")
            if name is not None:
                yield name


def named_task(name: Any) -> type[WeightSpaceTask]:
    """Give the task of a name, or of the path of its class.

    Raises:
        DataError: There is none.
    """
    if name in TASKS:
        return TASKS[name]
    known = f"there are {', '.join(TASKS)}, and class paths of own ones"
    if not isinstance(name, str) or "." not in name:
        raise DataError(f"task: there is no {name!r}; {known}{closest(str(name), TASKS)}")
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise DataError(f"task: {name} cannot be imported ({error}); {known}") from error
    if not (isinstance(found, type) and issubclass(found, WeightSpaceTask)):
        raise DataError(f"task: {name} is no subclass of WeightSpaceTask; {known}")
    return found
