"""Progress bars of work on many INRs."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from lightning_dws.counting import counted


def _make_console() -> Console:
    """Write to standard output; to a notebook only the end of it, without asking for ipywidgets."""
    console = Console()
    return Console(force_jupyter=False, force_terminal=False) if console.is_jupyter else console


class WorkProgress:
    """Show how much is done, texts of the work's own, and the time left.

    Args:
        total: How much there is to do.
        title: What is done.
        texts: Names of the texts.
        visible: False keeps quiet.
    """

    def __init__(self, total: int, title: str, texts: tuple[str, ...], visible: bool) -> None:
        self._bar = Progress(
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            *(TextColumn(f"{{task.fields[{name}]}}") for name in texts),
            TimeRemainingColumn(),
            console=_make_console(),
            disable=not visible or total == 0,
            speed_estimate_period=60,
        )
        self._task = self._bar.add_task("work", total=total)
        self.show(0, **dict.fromkeys(texts, ""))

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
        self.on_end()

    def on_end(self) -> None:
        """Say what the bar cannot."""
        return

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._bar.tasks[0].elapsed or 0.0

    def show(self, count: int, **texts: str) -> None:
        """Count what was done, and replace the texts."""
        self._bar.advance(self._task, count)
        self._bar.update(self._task, **texts)  # type: ignore[arg-type]


class FittingProgress(WorkProgress):
    """Show INRs fitted, INRs per second, mean PSNR and time left; at the end, INRs fitted again.

    Args:
        total: How many INRs will be fitted.
        title: What they are fitted to.
        visible: False keeps quiet.
    """

    def __init__(self, total: int, title: str, visible: bool = True) -> None:
        super().__init__(total, f"fitting INRs to {title}", ("rate", "psnr"), visible)
        self._count = 0
        self._num_refitted = 0
        self._psnr_sum = 0.0

    def on_end(self) -> None:
        """Tell how many INRs were fitted again."""
        if self._num_refitted and not self._bar.disable:
            was = "was" if self._num_refitted == 1 else "were"
            self._bar.console.print(
                f"{self._num_refitted} of {counted(self._count, 'INR')} failed at the recipe's "
                f"learning rate and {was} fitted again at a lower one",
                highlight=False,
                soft_wrap=True,
            )

    def count_refitted(self, count: int) -> None:
        """Count INRs that failed and were fitted again."""
        self._num_refitted += count

    def advance(self, count: int, psnr: Tensor) -> None:
        """Count finished INRs, with their PSNRs (count,) in dB."""
        self._count += count
        self._psnr_sum += float(psnr.sum())
        rate = f"{self._count / self.elapsed:.0f} INRs/s" if self.elapsed else ""
        self.show(count, rate=rate, psnr=f"{self._psnr_sum / self._count:.1f} dB")


class FileProgress(WorkProgress):
    """Show files done, files per second and time left.

    Args:
        total: How many files there are.
        title: What is done to them.
        visible: False keeps quiet.
    """

    def __init__(self, total: int, title: str, visible: bool = True) -> None:
        super().__init__(total, title, ("rate",), visible)
        self._read = 0

    @property
    def files_per_second(self) -> float:
        """Of the files that were read or written; those found done do not count."""
        return self._read / max(self.elapsed, 1e-9)

    def advance(self, count: int, found_done: bool = False) -> None:
        """Count files."""
        self._read += 0 if found_done else count
        self.show(count, rate=f"{self.files_per_second:.0f} files/s")
