"""Pictures of what augmentations and MixUp do to what INRs encode."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from lightning_dws.figures import draw_image, new_figure, share_heights
from lightning_dws.inrs.pictures import fine_grid, render_images
from lightning_dws.inrs.store.convention import DEFAULT, ImageConvention
from lightning_dws.mixup.alignment import align
from lightning_dws.mixup.mixup import mix_up
from lightning_dws.weight_space import WeightBatch, require_inrs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Augment = Callable[[WeightBatch], WeightBatch]

_STEPS = 9


def draw_augmentations(
    batch: WeightBatch,
    augmentations: Mapping[str, Augment],
    grid_shape: tuple[int, ...],
    convention: ImageConvention = DEFAULT,
) -> "Figure":
    """Draw INRs (rows) as they are and after each augmentation (columns).

    Args:
        batch: 1-D, 2-D or 3-D INRs.
        augmentations: What to apply to the whole batch, by the column's title.
        grid_shape: (height, width) of the images that the INRs encode; (points,) of lines.
        convention: How the images were given to the INRs.
    """
    columns = {"INR": batch} | {name: augment(batch) for name, augment in augmentations.items()}
    figure, axes = new_figure(len(batch), len(columns))
    for column, (name, augmented) in enumerate(columns.items()):
        axes[0][column].set_title(name.replace("_", "\n"), fontsize=8)
        images = render_images(augmented, fine_grid(grid_shape), convention)
        for row, image in enumerate(images):
            draw_image(axes[row][column], image)
    for row in axes:
        share_heights(row)
    return figure


def draw_mixup_walk(
    first: WeightBatch,
    second: WeightBatch,
    grid_shape: tuple[int, ...],
    convention: ImageConvention = DEFAULT,
) -> "Figure":
    """Draw the way from one INR to another in weight space, by kind of alignment.

    Args:
        first: One INR.
        second: Another one of the same architecture.
        grid_shape: (height, width) of the images that the INRs encode; (points,) of lines.
        convention: How the images were given to the INRs.
    """
    ends = {"no alignment": second, "permutation": align(first, second, "permutation").aligned}
    if require_inrs(first.architecture, "a picture").activation == "sine":
        ends["signed\npermutation"] = align(first, second, "signed_permutation").aligned
    shares = torch.linspace(0, 1, _STEPS)
    figure, axes = new_figure(len(ends), _STEPS)
    for row, (name, end) in enumerate(ends.items()):
        axes[row][0].set_ylabel(name, fontsize=8)
        start = first[torch.zeros(_STEPS, dtype=torch.int64)]
        stop = end[torch.zeros(_STEPS, dtype=torch.int64)]
        mixed = mix_up(stop, start, shares.to(first.device), 1, "hard")
        images = render_images(mixed, fine_grid(grid_shape), convention)
        for column, image in enumerate(images):
            draw_image(axes[row][column], image)
    share_heights(axes.flat)
    for axis, share in zip(axes[0], shares.tolist(), strict=True):
        axis.set_title(f"{share:.3g}", fontsize=8)
    return figure
