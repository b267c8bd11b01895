"""Random numbers that depend on what they are for, never on what was drawn before.

Two sources. ``make_generator`` gives a ``torch.Generator`` for one purpose at one
moment, (seed, rank, counter, stream): ranks differ, a resumed run repeats exactly, and
only the counter needs saving. ``hashed_uniform`` gives numbers that depend on their row's
keys alone, on every device: the initialisation of an INR, whatever batch it is fitted in.
"""

import hashlib

import torch
from torch import Tensor

_GOLDEN_GAMMA = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
_MIX_2 = -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB


def stream_seed(*key: int | str) -> int:
    """Hash a key of integers and names to a seed in [0, 2^63).

    Example:
        >>> stream_seed(0, "mixup") == stream_seed(0, "mixup")
        True
        >>> stream_seed(0, "mixup") == stream_seed(1, "mixup")
        False
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def make_generator(
    seed: int, *, rank: int, counter: int, stream: str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Make the generator of one stream of random numbers at one moment of a run.

    Args:
        seed: The run's seed.
        rank: The process's global rank.
        counter: How many batches this stream has seen before.
        stream: What the numbers are for, e.g. ``"augmentation"``.
        device: Where the numbers are drawn.
    """
    generator = torch.Generator(device=device)
    generator.manual_seed(stream_seed(seed, rank, counter, stream))
    return generator


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed torch's own generators, of the CPU and of one device, for layers that draw from them.

    As ``torch.manual_seed``, which goes through all kinds of devices, and formats the whole call
    stack where one is not there: a hundred times as slow.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Shift int64 right logically (torch's own shift keeps the sign)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """Finalise SplitMix64 (Steele et al., 2014) on int64, which wraps as uint64 would."""
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def hashed_uniform(seed: int, keys: tuple[Tensor, ...], count: int) -> Tensor:
    """Draw ``count`` uniform numbers per row that depend on (seed, the row's keys) alone.

    Args:
        seed: Any integer.
        keys: int64 tensors of shape (B,), e.g. object and view.
        count: Numbers per row.

    Returns:
        (B, count) float32 in [0, 1), multiples of 2^-24, the same bits on every device.
    """
    state = torch.full_like(keys[0], stream_seed(seed))
    for key in keys:
        state = _mix(state + _GOLDEN_GAMMA + key)
    steps = torch.arange(1, count + 1, device=state.device) * _GOLDEN_GAMMA
    bits = _mix(state[:, None] + steps)
    return _shift_right(bits, 40).to(torch.float32) * 2.0**-24
