"""The option that names what a store's INRs were fitted to."""

from lightning_dws.inrs.signals import SignalDataset
from lightning_dws.parse_errors import ArgumentParser


def add_signals(parser: ArgumentParser) -> None:
    """Add the option that names the signals, where they are not known by their name."""
    parser.add_argument(
        "--signals",
        type=SignalDataset | None,
        default=None,
        help="what the INRs were fitted to, where that is not known by its name",
    )
