"""How good the INRs of a store are, for those who look at it."""

from collections.abc import Iterator

from lightning_dws.inrs.store.store import INRStore

_FAR_BELOW = 10.0  # dB under the median
_GOOD = 25.0  # dB; enough, however good the others are
_LITTLE = 12.0  # dB; many images have as much as one colour


def describe_low(store: INRStore) -> Iterator[str]:
    """Give a line for every split with INRs far below the others, such as diverged ones."""
    for split in store.splits:
        psnr = store.psnr(split)
        psnr = psnr[psnr.isfinite()]
        if len(psnr) == 0:
            continue
        lowest, median = float(psnr.min()), float(psnr.median())
        least = max(min(median - _FAR_BELOW, _GOOD), _LITTLE)
        count = int((psnr < least).sum())
        if count:
            yield (
                f"{count} of {len(psnr)} INRs in split {split!r} have less than {least:.1f} dB, "
                f"far below a good fit; median {median:.1f} dB, lowest {lowest:.1f} dB"
            )
