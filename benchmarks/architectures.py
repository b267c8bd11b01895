"""For which architectures the recipes hold: lowest, 5 % and median PSNR, and INRs fitted again.

    python benchmarks/architectures.py [--inrs 32] [--recipes fast,sharp,wide] [--output FILE.md]

Fits crops of photographs that scikit-learn and scikit-image ship (in grey, colour, colour with
luminance as a fourth channel, and two of its channels), Fashion-MNIST where Debian's package is
installed, and the embedded solids, with INRs of one to five hidden layers of 16 to 128 neurons.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from lightning_dws import INRArchitecture
from lightning_dws.inrs import FashionMNIST, Solids, fit_inrs
from lightning_dws.inrs.fitting.recipes import find_recipe
from lightning_dws.inrs.signals.base import pixel_coordinates

SIDE = 32  # pixels of a crop
WIDTHS = (16, 32, 64, 128)
DEPTHS = (1, 2, 3, 4, 5)  # hidden layers


def draw_crops(count: int) -> Tensor:
    """Give (count, SIDE^2, 3) crops in [0, 1], at random places of photographs, shrunk by three."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    photographs = [*load_sample_images().images, data.astronaut(), data.coffee(), data.chelsea()]
    generator = torch.Generator().manual_seed(0)
    crops = []
    for number in range(count):
        photograph = torch.from_numpy(photographs[number % len(photographs)].copy())[::3, ::3]
        places = (torch.tensor(photograph.shape[:2]) - SIDE) * torch.rand(2, generator=generator)
        top, left = places.long().tolist()
        crops.append(photograph[top : top + SIDE, left : left + SIDE].float() / 255)
    return torch.stack(crops).flatten(1, 2)


def make_signals(count: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Give points (N, d) or (B, N, d) and values (B, N, out) by name."""
    crops, pixels = draw_crops(count), pixel_coordinates(SIDE, SIDE)
    grey = crops.mean(dim=2, keepdim=True)
    signals = {
        "grey crops": (pixels, grey),
        "crops, 2 channels": (pixels, crops[..., :2]),
        "colour crops": (pixels, crops),
        "crops, 4 channels": (pixels, torch.cat([crops, grey], dim=2)),
    }
    if Path("/usr/share/datasets/fashion-mnist").is_dir():
        images = FashionMNIST()
        ids = images.first("train", count).object_id
        signals["Fashion-MNIST"] = (images.coordinates, images.values(ids))
    solids = Solids(num_processes=0)
    signals["solids"] = solids.sample(solids.first("test", count).object_id)
    return signals


def measure(points: Tensor, values: Tensor, hidden: tuple[int, ...], recipe: str) -> str:
    """Fit and give a row's figures."""
    architecture = INRArchitecture((points.shape[-1], *hidden, values.shape[-1]))
    ids = torch.arange(len(values))
    refitted: list[int] = []
    start = time.process_time()
    _, psnr = fit_inrs(
        values,
        points,
        architecture,
        recipe=find_recipe(recipe, {}, architecture),
        seed=0,
        object_id=ids,
        view=torch.zeros_like(ids),
        on_refit=refitted.append,
    )
    seconds = time.process_time() - start
    low, some, median = psnr.quantile(torch.tensor([0.0, 0.05, 0.5])).tolist()
    figures = f"{low:.1f} | {some:.1f} | {median:.1f} | {sum(refitted)}"
    return f"{figures} | {1e3 * seconds / len(values):.0f}"


def main() -> None:
    """Measure what the output does not hold yet, and write it after every row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inrs", type=int, default=32)
    parser.add_argument("--recipes", default="fast,sharp,wide,exact")
    parser.add_argument("--widths", default=",".join(map(str, WIDTHS)))
    parser.add_argument("--depths", default=",".join(map(str, DEPTHS)))
    parser.add_argument("--signals", default=None)
    parser.add_argument("--output", type=Path, default=Path("architectures.md"))
    arguments = parser.parse_args()
    head = "| signals | hidden | recipe | lowest dB | 5 % | median | refits | ms an INR |\n"
    if not arguments.output.exists():
        arguments.output.write_text(head + "| --- | --- | --- | --- | --- | --- | --- | --- |\n")
    signals = make_signals(arguments.inrs)
    for name in arguments.signals.split(",") if arguments.signals else signals:
        for depth in map(int, arguments.depths.split(",")):
            for width in map(int, arguments.widths.split(",")):
                for recipe in arguments.recipes.split(","):
                    row = f"| {name} | {depth} x {width} | {recipe} |"
                    if row in arguments.output.read_text():
                        continue
                    figures = measure(*signals[name], (width,) * depth, recipe)
                    print(row, figures, "|", flush=True)
                    with open(arguments.output, "a") as file:
                        file.write(f"{row} {figures} |\n")


if __name__ == "__main__":
    main()
