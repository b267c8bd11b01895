"""Stores on the Hugging Face Hub: pushed as they are, and checked by their sums when pulled."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lightning_dws.errors import DataError
from lightning_dws.files import file_sha256
from lightning_dws.hub import (
    CARD_NAME,
    DATASET,
    HubRepository,
    describe_architecture,
    make_card,
    make_table,
    only_pickles,
    pull_folder,
    tags_of,
)
from lightning_dws.inrs.signals import SPLITS
from lightning_dws.inrs.store.index import StoreIndex, read_index
from lightning_dws.inrs.store.shards import INDEX_NAME, Shard, check_file, read_psnr

_SHARDS = "*.safetensors"
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))


def push_store(
    directory: Path,
    repo_id: str,
    *,
    license_id: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    message: str | None = None,
) -> str:
    """Push a store with a card, in one commit; shards of a store pushed before are replaced.

    Args:
        directory: The store's folder.
        repo_id: ``OWNER/NAME`` of a dataset's repository, made if it is missing.
        license_id: The licence's name on the hub, such as ``cc-by-4.0``. Default: the card says
            that none is stated.
        private: Whether a repository that is made is private. Default: as its owner has it.
        revision: A branch that exists. Default: the main one.
        token: Default: that of ``hf auth login``, or ``HF_TOKEN``.
        message: Of the commit.

    Returns:
        The repository's address.

    Raises:
        DataError: The store is not sound, or could not be pushed.
    """
    index = read_index(directory)
    for shard in index.shards:
        _check(directory, shard, index)
    names = [INDEX_NAME, *(shard.range.file_name for shard in index.shards)]
    card = _write_card(directory, index, repo_id, license_id)
    files: dict[str, bytes | Path] = {name: directory / name for name in names}
    return HubRepository(repo_id, DATASET, revision, token).push(
        files | {CARD_NAME: card.encode()},
        message or f"INRs of {index.header.signals}",
        private=private,
        replaced=_SHARDS,
    )


def pull_store(
    repo_id: str, folder: Path, *, revision: str | None = None, token: str | None = None
) -> None:
    """Pull a store into a new folder, which is complete or not there.

    Raises:
        DataError: It could not be pulled, is no store, or is damaged; a second attempt goes on from
            what is downloaded.
    """
    found, names = HubRepository(repo_id, DATASET, revision, token).resolve()
    check_is_store(repo_id, names)
    wanted = [CARD_NAME] if CARD_NAME in names else []
    pull_folder(folder, lambda partial: [*wanted, *_download(found, wanted, partial)])


def cache_store(repo_id: str, *, revision: str | None = None, token: str | None = None) -> Path:
    """Download a store into the hub's cache; give its folder there.

    Raises:
        DataError: See ``pull_store``.
    """
    found, names = HubRepository(repo_id, DATASET, revision, token).resolve()
    check_is_store(repo_id, names)
    folder = found.download([INDEX_NAME])
    _download(found, [])
    return folder


def check_is_store(repo_id: str, names: Sequence[str]) -> None:
    """Make sure that files of these names are a store.

    Raises:
        DataError: They are something else.
    """
    if INDEX_NAME in names:
        return
    found = ", ".join(sorted(names)[:4]) or "nothing"
    if pickles := only_pickles(names):
        found = f"pickled files ({pickles[0]}), which are never opened"
    raise DataError(f"{repo_id}: no store of INRs (there is no {INDEX_NAME}); found {found}")


def _download(found: HubRepository, others: list[str], folder: Path | None = None) -> list[str]:
    """Download a store, its index first, and check it; give the names of its files."""
    place = found.download([INDEX_NAME, *others], folder)
    index = read_index(place)
    names = [shard.range.file_name for shard in index.shards]
    found.download([INDEX_NAME, *names], folder)
    for shard in index.shards:
        try:
            _check(place, shard, index)
        except DataError:  # damaged here, or there
            found.download_again(shard.range.file_name, place)
            try:
                _check(place, shard, index)
            except DataError as error:
                raise DataError(f"{found.name}: damaged on the hub: {error}") from error
    return [INDEX_NAME, *names]


def _check(directory: Path, shard: Shard, index: StoreIndex) -> None:
    check_file(directory, shard, index.header)
    path = directory / shard.range.file_name
    if file_sha256(path) != shard.sha256:
        raise DataError(f"{path}: its SHA-256 is not the one in {INDEX_NAME}")


def _write_card(directory: Path, index: StoreIndex, repo_id: str, license_id: str | None) -> str:
    header, architecture = index.header, index.header.architecture
    num_inrs = sum(len(shard.range) for shard in index.shards)
    sizes = [name for most, name in _SIZES if num_inrs < most]
    noun = architecture.noun
    title = f"{noun[0].upper()}{noun[1:]} of {header.signals}"
    metadata: dict[str, Any] = {
        "pretty_name": title,
        "tags": tags_of(architecture),
        "size_categories": [sizes[0] if sizes else "n>1M"],
        "viewer": False,  # of tables; weights are none
    }
    rows = [("split", "objects", "views", "mean PSNR in dB")]
    for split in SPLITS:
        shards = [shard.range for shard in index.shards if shard.range.split == split]
        if shards:
            objects = sum(len(where) for where in shards if where.view == 0)
            psnr = torch.cat([read_psnr(directory, where) for where in shards])
            known = psnr[psnr.isfinite()]
            mean = f"{float(known.mean()):.1f}" if len(known) else "unknown"
            rows.append((split, str(objects), str(1 + max(w.view for w in shards)), mean))
    recipe = ", ".join(f"{k} {v}" for k, v in header.recipe.items() if v not in (None, 0))
    described = describe_architecture(architecture)
    grid = " x ".join(map(str, header.grid_shape))
    what = (
        "implicit neural representations (INRs): small networks, each of which computes one object"
    )
    text = [
        f"# {title}",
        f"{num_inrs} {what if grid else 'networks'}. A row of weights is one of them.",
        make_table(rows),
        f"- Architecture: {described}, {architecture.num_parameters} parameters\n"
        f"- Fitting: {recipe}, seed {header.seed}\n"
        f"- Grid: {grid or 'none'}\n"
        f"- Classes: {', '.join(header.classes) or 'none'}",
        "```python\nfrom lightning_dws.inrs import INRStore\n\n"
        f'store = INRStore.from_pretrained("{repo_id}")\n'
        f'inrs = store.split("{index.shards[0].range.split}")  # a WeightBatch\n```',
        "Safetensors shards and `dataset.json`, which lists them with their SHA-256; they are "
        "checked when they are read, and nothing is unpickled. Made with "
        "lightning_dws.",
    ]
    return make_card(metadata, license_id, text)
