"""Trained networks on the Hugging Face Hub: safetensors and JSON, with a card; never a pickle."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lightning_dws.checkpoints import CHECKPOINT_KEY, load_checkpoint
from lightning_dws.errors import DataError
from lightning_dws.hub import (
    CARD_NAME,
    LIBRARY,
    MODEL,
    HubRepository,
    describe_architecture,
    make_card,
    only_pickles,
    pull_folder,
    tags_of,
)
from lightning_dws.plain_checkpoints import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    find_score,
    make_plain,
    read_plain,
)
from lightning_dws.tasks import DEFAULT_TASK, WeightSpaceTask, named_task
from lightning_dws.tasks.task_notes import name_of_task
from lightning_dws.weight_space import Architecture, INRArchitecture, read_architecture

_FILES = (CONFIG_NAME, WEIGHTS_NAME)


def push_checkpoint(
    path: Path,
    repo_id: str,
    *,
    license_id: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    message: str | None = None,
) -> str:
    """Push a checkpoint as safetensors and JSON, with a card, in one commit.

    Args:
        path: A checkpoint.
        repo_id: ``OWNER/NAME`` of a model's repository, made if it is missing.
        license_id: The licence's name on the hub, such as ``mit``. Default: the card says that none
            is stated.
        private: Whether a repository that is made is private. Default: as its owner has it.
        revision: A branch that exists. Default: the main one.
        token: Default: that of ``hf auth login``, or ``HF_TOKEN``.
        message: Of the commit.

    Returns:
        The repository's address.

    Raises:
        DataError: It is no checkpoint, or could not be pushed.
    """
    checkpoint = load_checkpoint(path)
    try:
        plain = make_plain(checkpoint)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    card = _write_card(checkpoint, repo_id, license_id)
    return HubRepository(repo_id, MODEL, revision, token).push(
        {
            CONFIG_NAME: plain.config_text.encode(),
            WEIGHTS_NAME: plain.weights,
            CARD_NAME: card.encode(),
        },
        message or "A network trained on weights",
        private=private,
        replaced=WEIGHTS_NAME,
    )


def pull_checkpoint(
    repo_id: str, folder: Path, *, revision: str | None = None, token: str | None = None
) -> None:
    """Pull a checkpoint into a new folder, which is complete or not there.

    Raises:
        DataError: It could not be pulled, is no checkpoint without a pickle, or is damaged.
    """
    found, names = HubRepository(repo_id, MODEL, revision, token).resolve()
    check_is_checkpoint(repo_id, names)
    wanted = [*_FILES, *([CARD_NAME] if CARD_NAME in names else [])]

    def fill(partial: Path) -> Sequence[str]:
        found.download(wanted, partial)
        _check(found, partial)
        return wanted

    pull_folder(folder, fill)


def cache_checkpoint(
    repo_id: str, *, revision: str | None = None, token: str | None = None
) -> Path:
    """Download a checkpoint into the hub's cache; give its file there.

    Raises:
        DataError: See ``pull_checkpoint``.
    """
    found, names = HubRepository(repo_id, MODEL, revision, token).resolve()
    check_is_checkpoint(repo_id, names)
    folder = found.download(_FILES)
    _check(found, folder)
    return folder / WEIGHTS_NAME


def load_pretrained(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    network: nn.Module | None = None,
) -> WeightSpaceTask:
    """Load a trained task of any kind from the hub, on the CPU in evaluation mode.

    Raises:
        DataError: See ``pull_checkpoint``, and ``WeightSpaceTask.from_checkpoint``.
    """
    path = cache_checkpoint(repo_id, revision=revision, token=token)
    name = name_of_task(load_checkpoint(path)[CHECKPOINT_KEY])
    return named_task(name or DEFAULT_TASK.task_name()).from_checkpoint(path, network)


def check_is_checkpoint(repo_id: str, names: Sequence[str]) -> None:
    """Make sure that files of these names are a checkpoint without a pickle.

    Raises:
        DataError: They are something else.
    """
    missing = [name for name in _FILES if name not in names]
    if not missing:
        return
    found = ", ".join(sorted(names)[:4]) or "nothing"
    if pickles := only_pickles(names):
        found = f"pickled files ({pickles[0]}), which are never opened"
    raise DataError(
        f"{repo_id}: no checkpoint of lightning_dws (there is no {' and no '.join(missing)}); "
        f"found {found}"
    )


def _check(found: HubRepository, folder: Path) -> None:
    """Read a checkpoint; what is damaged is downloaded once more."""
    try:
        read_plain(folder / WEIGHTS_NAME)
    except DataError:
        for name in _FILES:
            found.download_again(name, folder)
        try:
            read_plain(folder / WEIGHTS_NAME)
        except DataError as error:
            raise DataError(f"{found.name}: cannot be used: {error}") from error


def _write_card(checkpoint: Mapping[str, Any], repo_id: str, license_id: str | None) -> str:
    note = checkpoint[CHECKPOINT_KEY]
    name = repo_id.rpartition("/")[2]
    network = note.get("network") or {}
    kind = str(network.get("class_path", "a network")).rpartition(".")[2]
    arguments = {k: v for k, v in network.get("init_args", {}).items() if k != "architecture"}
    header = (note.get("inrs") or {}).get("header") or {}
    task = name_of_task(note) or "classification"
    score = find_score(checkpoint)
    facts = [f"- Network: {kind} ({', '.join(f'{k} {v}' for k, v in arguments.items())})"]
    facts.append(f"- Parameters: {sum(t.numel() for t in checkpoint['state_dict'].values())}")
    if score:
        facts.append(f"- {score['name']}: {_format(score)}, at step {score['step']}")
    architecture = read_architecture(header["architecture"]) if header else None
    if architecture is not None:
        facts += _describe_inrs(header, architecture)
    metadata: dict[str, Any] = {
        "library_name": LIBRARY,
        "tags": tags_of(architecture),
        "model-index": _index(name, task, score, header, architecture) if score else None,
    }
    classifies = task == "classification"
    fits = isinstance(architecture, INRArchitecture)
    use = (
        f'network = TrainedClassifier.from_pretrained("{repo_id}")\n'
        'print(network.predict("FOLDER").class_names)  # of images, networks, or a store'
        if classifies
        else f'task = load_pretrained("{repo_id}")\n# task(batch) takes a WeightBatch'
    )
    door = "TrainedClassifier" if classifies else "load_pretrained"
    text = [
        f"# {name}",
        f"{kind}, trained on the weights of {_what(architecture)}: {task}. It standardises them "
        f"itself{', and says how INRs are fitted to new data' if fits else ''}.",
        "\n".join(facts),
        f"```python\nfrom lightning_dws.prediction import {door}\n\n{use}\n```",
        "Safetensors and `config.json`, checked by their SHA-256; nothing is unpickled. Made with "
        "lightning_dws.",
    ]
    return make_card(metadata, license_id, text)


def _what(architecture: Architecture | None) -> str:
    if isinstance(architecture, INRArchitecture):
        return "implicit neural representations (INRs)"
    return "networks" if architecture is None else architecture.summary


def _describe_inrs(header: Mapping[str, Any], architecture: Architecture) -> list[str]:
    recipe = ", ".join(f"{k} {v}" for k, v in header["recipe"].items() if v not in (None, 0))
    described = describe_architecture(architecture)
    return [
        f"- Trained on: {architecture.noun} of {header['signals']}, {described}",
        f"- Their fitting: {recipe}, seed {header['seed']}",
        f"- Classes: {', '.join(header['classes']) or 'none'}",
    ]


def _format(score: Mapping[str, Any]) -> str:
    share = str(score["name"]).endswith("accuracy")
    return f"{100 * score['value']:.2f} %" if share else f"{score['value']:.4g}"


def _index(
    name: str,
    task: str,
    score: Mapping[str, Any],
    header: Mapping[str, Any],
    architecture: Architecture | None,
) -> list[dict[str, Any]]:
    """Give the score as the hub reads it."""
    noun = "networks" if architecture is None else architecture.noun
    signals = str(header.get("signals", "unknown signals"))
    result = {
        "task": {"type": "other", "name": task},
        "dataset": {"type": "inrs", "name": f"{noun} of {signals}", "split": "validation"},
        "metrics": [
            {
                "type": str(score["name"]).rpartition("/")[2],
                "name": str(score["name"]),
                "value": round(score["value"], 6),
            }
        ],
    }
    return [{"name": name, "results": [result]}]
