"""Stores elsewhere: ``s3://bucket/folder``, ``hf://datasets/OWNER/NAME``, any that fsspec reads.

They are read through a copy in the user's cache. Its shards are used only if their sums are those
of the index, which is fetched every time; what is missing or damaged is fetched again.
"""

import hashlib
from pathlib import Path
from typing import Any

from lightning_dws.errors import DataError
from lightning_dws.files import file_sha256, make_directory, replacing, write_atomically
from lightning_dws.inrs.signals.downloads import cache_folder
from lightning_dws.inrs.store.index import read_index
from lightning_dws.inrs.store.locks import locked
from lightning_dws.inrs.store.shards import INDEX_NAME, Shard

_PIECE = 1 << 20  # bytes that are read at once
_NAME_LENGTH = 20  # of a copy's folder


def is_address(place: Any) -> bool:
    """Whether a store is named by an address, not by its folder.

    Example:
        >>> is_address("s3://bucket/digits"), is_address("data/digits")
        (True, False)
    """
    return isinstance(place, str) and "://" in place


def local_folder(place: str | Path) -> Path:
    """Give the folder of a store; of one elsewhere, that of its copy, complete and checked.

    Raises:
        DataError: There is no store, it cannot be reached, or it is damaged there.
    """
    if not is_address(place):
        return Path(place)
    address = str(place)
    system, root = _open(address)
    name = hashlib.sha256(address.encode()).hexdigest()[:_NAME_LENGTH]
    folder = make_directory(cache_folder("stores") / name)
    with locked(folder) as writable:
        if not writable:
            raise DataError(f"{folder}: cannot be written, and {address} is read through it")
        index = _read(address, system, f"{root}/{INDEX_NAME}")
        write_atomically(folder / INDEX_NAME, index)
        shards = read_index(folder).shards
        for shard in shards:
            if not _is_whole(folder, shard):
                _fetch(address, system, root, folder, shard)
        listed = {shard.range.file_name for shard in shards}
        for path in folder.glob("*.safetensors"):
            if path.name not in listed:
                path.unlink()
    return folder


def _open(address: str) -> tuple[Any, str]:
    """Open the file system of an address, and give the path in it."""
    import fsspec
    from fsspec.registry import known_implementations

    protocol = address.partition("://")[0]
    try:
        system, root = fsspec.core.url_to_fs(address)
    except ImportError as error:
        package = known_implementations.get(protocol, {}).get("class", "").partition(".")[0]
        if package in ("", "fsspec"):
            raise DataError(f"{address}: {_say(error)}") from error
        raise DataError(f"{address}: {package} is not installed: pip install {package}") from error
    except ValueError as error:
        raise DataError(f"{address}: {_say(error)}") from error
    except Exception as error:  # of file systems of others, which have no type in common
        raise DataError(f"{address}: cannot be reached ({_say(error)})") from error
    return system, str(root).rstrip("/")


def _read(address: str, system: Any, path: str) -> bytes:
    try:
        return bytes(system.cat_file(path))
    except FileNotFoundError as error:
        raise DataError(f"{address}: no INR store (there is no {INDEX_NAME})") from error
    except Exception as error:  # of file systems of others, which have no type in common
        raise DataError(f"{address}: cannot be read ({_say(error)})") from error


def _is_whole(folder: Path, shard: Shard) -> bool:
    path = folder / shard.range.file_name
    return path.is_file() and file_sha256(path) == shard.sha256


def _fetch(address: str, system: Any, root: str, folder: Path, shard: Shard) -> None:
    name = shard.range.file_name
    digest = hashlib.sha256()
    with replacing(folder / name) as file:
        try:
            with system.open(f"{root}/{name}", "rb") as source:
                while piece := source.read(_PIECE):
                    digest.update(piece)
                    file.write(piece)
        except FileNotFoundError as error:
            raise DataError(f"{address}: the shard {name} is missing") from error
        except Exception as error:  # of file systems of others, which have no type in common
            raise DataError(f"{address}: {name} cannot be read ({_say(error)})") from error
        if digest.hexdigest() != shard.sha256:
            raise DataError(
                f"{address}: {name} is damaged there: its SHA-256 is not the one in {INDEX_NAME}"
            )


def _say(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
