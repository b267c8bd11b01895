"""The progress bar of imports and exports."""

from lightning_dws.inrs.progress import WorkProgress


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
