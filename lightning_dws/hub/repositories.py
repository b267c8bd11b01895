"""Repositories on the Hugging Face Hub, through its own client; all that goes wrong in one line."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lightning_dws.errors import DataError
from lightning_dws.files import make_directory
from lightning_dws.program import __version__

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MODEL, DATASET = "model", "dataset"
PICKLED = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle", ".joblib")
_MISSING = "huggingface_hub is not installed: pip install 'lightning-dws[hub]'"

_LONGEST = 300  # characters of what the client says

Content = bytes | Path

_KEPT = "; what was downloaded is kept, the same command goes on"


class MissingRepositoryError(DataError):
    """There is no repository of a name, or it may not be seen."""


@dataclass(frozen=True)
class HubRepository:
    """A repository, as a user names it.

    Attributes:
        name: ``OWNER/NAME``.
        kind: ``model`` or ``dataset``.
        revision: A branch, a tag or a commit. Default: the main branch.
        token: Default: the one that ``hf auth login`` keeps, or ``HF_TOKEN``.
    """

    name: str
    kind: str
    revision: str | None = None
    token: str | None = None

    def push(
        self, files: Mapping[str, Content], message: str, *, private: bool | None, replaced: str
    ) -> str:
        """Put files into the repository in one commit, and make it if it is missing.

        Args:
            files: Their content, or the file that has it, by name.
            message: Of the commit.
            private: Whether a repository that is made is private. Default: as its owner has it.
            replaced: Files that are there and match this pattern are deleted, unless pushed.

        Returns:
            The repository's address.

        Raises:
            DataError: It could not be pushed.
        """
        with self._naming_errors() as api:
            from huggingface_hub import CommitOperationAdd, CommitOperationDelete, get_token

            if not (self.token or get_token()):
                raise DataError("no token for the hub: run 'hf auth login', or set HF_TOKEN")
            url = api.create_repo(self.name, repo_type=self.kind, private=private, exist_ok=True)
            present = api.list_repo_files(self.name, repo_type=self.kind, revision=self.revision)
            stale = [name for name in present if fnmatch(name, replaced) and name not in files]
            added = [CommitOperationAdd(name, content) for name, content in files.items()]
            api.create_commit(
                self.name,
                [*added, *(CommitOperationDelete(name) for name in stale)],
                commit_message=message,
                repo_type=self.kind,
                revision=self.revision,
            )
            return str(url)

    def resolve(self) -> tuple["HubRepository", list[str]]:
        """Find the commit that is meant; give it as a repository, and the names of its files.

        Raises:
            DataError: There is no such repository or revision, or it may not be read.
        """
        with self._naming_errors() as api:
            find = api.dataset_info if self.kind == DATASET else api.model_info
            info = find(self.name, revision=self.revision)
            names = [file.rfilename for file in info.siblings or []]
            return replace(self, revision=str(info.sha)), names

    def download(self, names: Sequence[str], folder: Path | None = None) -> Path:
        """Download files, but for those that are there already.

        Args:
            names: The files.
            folder: Where they go. Default: a folder of the hub's cache.

        Returns:
            The folder that has them.

        Raises:
            DataError: They could not be downloaded; what is there is kept for the next time.
        """
        with self._naming_errors(_KEPT):
            from huggingface_hub import snapshot_download

            found = snapshot_download(
                self.name,
                repo_type=self.kind,
                revision=self.revision,
                token=self.token,
                local_dir=folder,
                allow_patterns=list(names),
            )
        for name in names:
            if not (Path(found) / name).is_file():
                raise DataError(f"{self.name}: has no {name}")
        return Path(found)

    def download_again(self, name: str, folder: Path) -> None:
        """Download a file whose content is not what it should be once more.

        Args:
            name: The file.
            folder: That ``download`` gave.

        Raises:
            DataError: It could not be downloaded.
        """
        path = folder / name
        with self._naming_errors(_KEPT):
            from huggingface_hub import hf_hub_download

            if path.is_symlink():  # the hub's cache keeps contents elsewhere
                path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            hf_hub_download(
                self.name,
                name,
                repo_type=self.kind,
                revision=self.revision,
                token=self.token,
                local_dir=None if _is_cache(folder) else folder,
                force_download=True,
            )

    @contextmanager
    def _naming_errors(self, unreached: str = "") -> Iterator["HfApi"]:
        """Give the hub's client, and turn what it raises into one line.

        Args:
            unreached: What to say more where the hub cannot be reached.

        Raises:
            DataError: It raised something.
        """
        try:
            from huggingface_hub import HfApi, errors
        except ImportError as error:
            raise DataError(_MISSING) from error
        where = f"{self.name} ({self.kind})"
        api = HfApi(token=self.token, library_name="lightning_dws", library_version=__version__)
        try:
            yield api
        except DataError:
            raise
        except errors.OfflineModeIsEnabled as error:
            raise DataError(f"{where}: not here, and HF_HUB_OFFLINE forbids to look") from error
        except errors.GatedRepoError as error:
            raise DataError(
                f"{where}: gated; ask for access on its page, then log in ('hf auth login')"
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise MissingRepositoryError(
                f"{where}: there is no such repository, or it is private and the token does not "
                "open it ('hf auth login')"
            ) from error
        except errors.RevisionNotFoundError as error:
            raise DataError(f"{where}: has no revision {self.revision!r}") from error
        except errors.HFValidationError as error:
            raise DataError(
                f"{self.name!r}: not a repository's name, such as OWNER/NAME"
            ) from error
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            if status in (401, 403):
                raise DataError(f"{where}: the token may not do that ({status})") from error
            said = error.server_message or _shorten(error)
            raise DataError(f"{where}: the hub answers {status} ({said})") from error
        except (errors.HTTPError, errors.LocalEntryNotFoundError) as error:  # type: ignore[attr-defined]
            raise DataError(
                f"{where}: the hub cannot be reached ({_shorten(error)}){unreached}"
            ) from error
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(f"{where}: {_shorten(error)}") from error


def pull_folder(folder: Path, fill: Callable[[Path], Sequence[str]]) -> None:
    """Fill a new folder so that it is complete or not there; what is half done is gone on with.

    Args:
        folder: The folder.
        fill: Downloads into a folder what is checked, and gives the names of its files.

    Raises:
        DataError: The folder is there and not empty, or what ``fill`` raises.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: exists already; give another folder, or delete it")
    partial = make_directory(folder.parent / f".{folder.name}.partial")
    names = set(fill(partial))
    for path in partial.iterdir():
        if path.name not in names:  # what the client notes, and files of an earlier attempt
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    try:
        partial.rename(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made ({error.strerror})") from error


def only_pickles(names: Sequence[str]) -> list[str]:
    """Give the files that hold a pickle, which is never opened."""
    return [name for name in names if PurePosixPath(name).suffix.lower() in PICKLED]


def _is_cache(folder: Path) -> bool:
    return folder.parent.name == "snapshots"


def _shorten(error: BaseException) -> str:
    """Give what an error, and what caused it, say: in one line, not too long."""
    causes = [error] if error.__cause__ is None else [error, error.__cause__]
    texts = [" ".join(str(one).split()) or type(one).__name__ for one in causes]
    return ": ".join(dict.fromkeys(text.rstrip(".") for text in texts))[:_LONGEST]
