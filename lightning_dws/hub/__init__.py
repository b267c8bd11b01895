"""The Hugging Face Hub: folders of files that are pushed and pulled, and their cards."""

from lightning_dws.hub.cards import (
    CARD_NAME,
    LIBRARY,
    describe_architecture,
    make_card,
    make_table,
    tags_of,
)
from lightning_dws.hub.repositories import (
    DATASET,
    MODEL,
    HubRepository,
    MissingRepositoryError,
    only_pickles,
    pull_folder,
)

__all__ = [
    "CARD_NAME",
    "DATASET",
    "LIBRARY",
    "MODEL",
    "HubRepository",
    "MissingRepositoryError",
    "describe_architecture",
    "make_card",
    "make_table",
    "only_pickles",
    "pull_folder",
    "tags_of",
]
