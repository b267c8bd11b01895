"""Samples of shapes on disk: drawn once, by several processes, what cannot be used noted."""

import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from lightning_dws.errors import DataError
from lightning_dws.files import check_regular, make_directory, write_atomically
from lightning_dws.inrs.shapes.meshes import Mesh
from lightning_dws.inrs.shapes.samples import (
    Sampling,
    ShapeSample,
    read_sample,
    sample_shape,
    write_sample,
)
from lightning_dws.process_pool import Died, map_in_processes
from lightning_dws.progress import WorkProgress

_WAITING_SECONDS = 3600.0  # for another process to sample one shape
_BUSY = "busy"
_DEATH = "the process that sampled it died (out of memory?)"  # not noted: it may go well next time


@dataclass(frozen=True)
class SampleCache:
    """The samples of a dataset's shapes, one file a shape, in a folder of their own.

    Any number of processes, on hosts that share the folder, may fill it at once: each takes what no
    other is at work on. A shape without a usable mesh leaves a note with the reason instead.

    Attributes:
        folder: Made when it is first written to; its name should tell datasets apart.
        load_mesh: Gives an object's mesh, cleaned; raises ``DataError`` with the reason where there
            is none. Picklable.
        sampling: Where shapes are sampled.
    """

    folder: Path
    load_mesh: Callable[[int], Mesh]
    sampling: Sampling

    def examine(
        self, object_ids: Sequence[int], title: str, num_processes: int, show_progress: bool
    ) -> dict[int, str | None]:
        """Sample what is not sampled yet; give the reason why an object cannot be used, or None.

        Raises:
            DataError: The folder cannot be written.
        """
        known = self._known()
        missing = [index for index in object_ids if index not in known]
        if missing:
            make_directory(self.folder)
        fill = _Fill(self)
        with WorkProgress(
            len(missing), f"sampling shapes of {title}", ("rate", "skipped"), show_progress
        ) as progress:
            count, num_skipped, busy = 0, 0, []
            for index, found in map_in_processes(fill, missing, num_processes):
                reason = _DEATH if isinstance(found, Died) else found
                if reason == _BUSY:
                    busy.append(index)
                    continue
                known[index] = reason
                count, num_skipped = count + 1, num_skipped + (reason is not None)
                rate = f"{count / progress.elapsed:.1f} shapes/s" if progress.elapsed else ""
                progress.show(1, rate=rate, skipped=f"{num_skipped} skipped")
            # other runs had those; they are done, or the process that was at it is dead
            for index, found in map_in_processes(_Fill(self, wait=True), busy, num_processes):
                known[index] = _DEATH if isinstance(found, Died) else found
                progress.show(1)
        return {index: known[index] for index in object_ids}

    def fill(self, object_id: int, wait: bool = False) -> str | None:
        """Sample one object, unless it is done; give the reason why it cannot be used, or None.

        Another process that is at it already is waited for, or makes the result ``"busy"``.
        """
        path = self._path(object_id)
        lock = FileLock(path.with_suffix(".lock"))
        try:
            lock.acquire(timeout=_WAITING_SECONDS if wait else 0)
        except Timeout as error:
            if wait:
                raise DataError(f"{lock.lock_file}: held for an hour by another process") from error
            return _BUSY
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written ({error.strerror})") from error
        try:
            if path.is_file():
                return None
            if path.with_suffix(".skipped").is_file():
                return self._reason(object_id)
            return self._sample(object_id)
        finally:
            with suppress(OSError):
                os.unlink(lock.lock_file)
            lock.release()

    def read(self, object_id: int) -> ShapeSample:
        """Read an object's sample; a lost or damaged one is drawn again.

        Raises:
            DataError: The object cannot be used, or can no longer.
        """
        path = self._path(object_id)
        try:
            return read_sample(path, self.sampling, self.sampling.fingerprint)
        except DataError:
            with suppress(OSError):
                path.unlink()
        make_directory(self.folder)
        reason = self.fill(object_id, wait=True)
        if reason is not None:
            raise DataError(f"object_id {object_id}: {reason}")
        return read_sample(path, self.sampling, self.sampling.fingerprint)

    def _sample(self, object_id: int) -> str | None:
        try:
            sample = sample_shape(self.load_mesh(object_id), self.sampling, object_id)
        except DataError as error:
            return self._note(object_id, str(error))
        except MemoryError:
            return "too large for the memory"
        except Exception as error:  # whatever a mesh may do to the libraries
            return self._note(object_id, f"cannot be sampled ({type(error).__name__}: {error})")
        write_sample(self._path(object_id), sample, self.sampling.fingerprint)
        return None

    def _note(self, object_id: int, reason: str) -> str:
        reason = " ".join(reason.split())
        write_atomically(self._path(object_id).with_suffix(".skipped"), reason.encode())
        return reason

    def _reason(self, object_id: int) -> str:
        path = self._path(object_id).with_suffix(".skipped")
        check_regular(path)
        try:
            return path.read_text(errors="replace")
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error

    def _path(self, object_id: int) -> Path:
        return self.folder / f"{object_id:07d}.safetensors"

    def _known(self) -> dict[int, str | None]:
        """List what is done: the reason why an object cannot be used, or None."""
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        found: dict[int, str | None] = {}
        for name in names:
            match = re.fullmatch(r"(\d+)\.(safetensors|skipped)", name)
            if match and match[2] == "safetensors":
                found[int(match[1])] = None
            elif match:
                found.setdefault(int(match[1]), self._reason(int(match[1])))
        return found


@dataclass(frozen=True)
class _Fill:
    cache: SampleCache
    wait: bool = False

    def __call__(self, object_id: int) -> str | None:
        return self.cache.fill(object_id, self.wait)
