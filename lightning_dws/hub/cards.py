"""Cards: the ``README.md`` of a repository, whose first lines are metadata that the hub reads."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from lightning_dws.weight_space import Architecture, INRArchitecture

CARD_NAME = "README.md"
LIBRARY = "lightning_dws"
_TAGS = ("lightning_dws", "weight-space-learning")


def make_card(metadata: Mapping[str, Any], license_id: str | None, text: Sequence[str]) -> str:
    """Write a card.

    Args:
        metadata: By the hub's names; what is None is left out.
        license_id: The licence's name on the hub, such as ``mit``; where nobody has said it, the
            card says that.
        text: Its paragraphs, in Markdown.
    """
    known = {"license": license_id, **metadata}
    front = yaml.safe_dump({k: v for k, v in known.items() if v is not None}, sort_keys=False)
    stated = license_id or "not stated by who shared this; ask before you use it"
    return "\n\n".join([f"---\n{front}---", *text, f"Licence: {stated}."]) + "\n"


def make_table(rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table; the first row is its head."""
    head, *others = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, f"|{' --- |' * len(rows[0])}", *others])


def tags_of(architecture: Architecture | None) -> list[str]:
    """Give a card's tags, by what the weights are of; None where it is not known."""
    is_inr = isinstance(architecture, INRArchitecture)
    return [*_TAGS, "implicit-neural-representation"] if is_inr else list(_TAGS)


def describe_architecture(architecture: Architecture) -> str:
    """Write what kind of network rows of weights are."""
    text = architecture.summary
    if isinstance(architecture, INRArchitecture):
        text += f", {architecture.activation}"
        text += "" if architecture.encoding is None else f", behind {architecture.encoding}"
        text += f", w0 {architecture.w0:g}" if architecture.activation == "sine" else ""
        text += f", output offset {architecture.output_offset:g}"
    return text
