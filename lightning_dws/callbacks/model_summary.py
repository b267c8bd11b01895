"""Lightning's summary of the modules, without figures that were not measured."""

from typing import Any

from pytorch_lightning.callbacks import ModelSummary
from rich import get_console
from rich.table import Table

_COLUMNS = {"Name": "left", "Type": "left", "Params": "right"}


class ParameterSummary(ModelSummary):
    """Print modules, their types and numbers of parameters.

    Lightning counts floating point operations with an example input, which tasks here have none
    of, and prints 0.
    """

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        total_training_modes: dict[str, int],
        total_flops: int,
        **summarize_kwargs: Any,
    ) -> None:
        """Print a table of the modules and the number of all parameters."""
        columns = dict(summary_data)
        table = Table()
        for name, side in _COLUMNS.items():
            table.add_column(name, justify="right" if side == "right" else "left")
        for row in zip(*(columns[name] for name in _COLUMNS), strict=True):
            table.add_row(*row)
        console = get_console()
        console.print(table)
        frozen = total_parameters - trainable_parameters
        tail = f", {frozen:,} of them frozen" if frozen else ""
        console.print(f"{total_parameters:,} parameters{tail}", highlight=False)
