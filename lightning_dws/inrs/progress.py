"""The progress bar of fitting."""

from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Tensor


class FittingProgress:
    """Show INRs fitted, INRs per second, mean PSNR and time left.

    Args:
        total: How many INRs will be fitted.
        title: What they are fitted to.
        visible: False keeps quiet.
    """

    def __init__(self, total: int, title: str, visible: bool = True) -> None:
        self._bar = Progress(
            TextColumn(f"fitting INRs to {title}"),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[psnr]}"),
            TimeRemainingColumn(),
            disable=not visible or total == 0,
            speed_estimate_period=60,
        )
        self._task = self._bar.add_task("fit", total=total, rate="", psnr="")
        self._count = 0
        self._psnr_sum = 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def advance(self, count: int, psnr: Tensor) -> None:
        """Count finished INRs, with their PSNRs (count,) in dB."""
        self._count += count
        self._psnr_sum += float(psnr.sum())
        self._bar.advance(self._task, count)
        elapsed = self._bar.tasks[0].elapsed or 0.0
        self._bar.update(
            self._task,
            rate=f"{self._count / elapsed:.0f} INRs/s" if elapsed else "",
            psnr=f"{self._psnr_sum / self._count:.1f} dB",
        )
