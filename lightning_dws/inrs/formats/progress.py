"""The progress bar of imports and exports."""

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


class FileProgress:
    """Show files done, files per second and time left.

    Args:
        total: How many files there are.
        title: What is done to them.
        visible: False keeps quiet.
    """

    def __init__(self, total: int, title: str, visible: bool = True) -> None:
        self._bar = Progress(
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            disable=not visible or total == 0,
            speed_estimate_period=60,
        )
        self._task = self._bar.add_task("files", total=total, rate="")
        self._read = 0

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

    @property
    def files_per_second(self) -> float:
        """Of the files that were read or written; those found done do not count."""
        return self._read / max(self._bar.tasks[0].elapsed or 0.0, 1e-9)

    def advance(self, count: int, found_done: bool = False) -> None:
        """Count files."""
        self._read += 0 if found_done else count
        self._bar.advance(self._task, count)
        self._bar.update(self._task, rate=f"{self.files_per_second:.0f} files/s")
