"""Run the page of ``inrs browse`` in headless Chromium, and compare what it computes with Python.

python tests/browser/check_page.py

It is no test of pytest's, which does not need a browser: continuous integration runs it by itself.
Where there is no Chromium it says so and ends with status 0.
"""

import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.augmentations.generic import tensor_std
from lightning_dws.augmentations.input_space import transform_input
from lightning_dws.figures import visible_channels
from lightning_dws.fourier_encoding import FourierEncoding
from lightning_dws.inrs import evaluate_inrs
from lightning_dws.inrs.signals.base import line_coordinates, pixel_coordinates
from lightning_dws.inrs.siren import initialise_inrs
from lightning_dws.inrs.store import StoreHeader
from lightning_dws.inrs.store.convention import ImageConvention
from lightning_dws.mixup import align, mix_up
from lightning_dws.page import PageContents, write_page
from lightning_dws.prediction.predicted_classes import PredictedClass

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr")
TOLERANCE = 1e-4
NUM_INRS = 12
SLICE_SHAPE = (5, 4)
HOSTILE = (
    "</script><script>document.title = 'run'</script>",
    "<img src=x onerror=\"document.title = 'run'\">",
    "@@DATA@@ &lt; \u2028 \udc80 $& é",
)
CASES = {
    "images": (INRArchitecture((2, 16, 12, 1), w0=8.0), (7, 9), ImageConvention()),
    "colours, row first": (
        INRArchitecture((2, 20, 20, 20, 3), w0=30.0, output_offset=0.0),
        (6, 5),
        ImageConvention("ij", (-1.0, 1.0)),
    ),
    "one hidden layer": (INRArchitecture((2, 32, 1), w0=5.0), (8, 8), ImageConvention()),
    "relu": (INRArchitecture((2, 16, 16, 1), activation="relu"), (4, 6), ImageConvention()),
    "encoded": (
        INRArchitecture(
            (10, 16, 1), "relu", encoding=FourierEncoding((0.5, 1.0), include_input=True)
        ),
        (4, 6),
        ImageConvention("ij"),
    ),
    "encoded lines": (
        INRArchitecture((6, 9, 1), encoding=FourierEncoding((1, 2, 4))),
        (40,),
        ImageConvention(),
    ),
    "lines": (INRArchitecture((1, 16, 16, 2), w0=10.0), (40,), ImageConvention()),
    "grey with alpha": (
        INRArchitecture((2, 16, 2)),
        (19, 17),
        ImageConvention(has_alpha=True),
    ),
    "colours with alpha": (
        INRArchitecture((2, 12, 12, 4), w0=8.0),
        (9, 33),
        ImageConvention("ij", (-1.0, 1.0), has_alpha=True),
    ),
    "fields of two channels": (INRArchitecture((2, 16, 2)), (7, 40), ImageConvention()),
    "volumes": (
        INRArchitecture((3, 16, 12, 1), w0=8.0),
        (3, 4, 5),
        ImageConvention(is_volume=True),
    ),
    "volumes of five channels": (
        INRArchitecture((3, 16, 5), "relu"),
        (6, 4, 5),
        ImageConvention(is_volume=True),
    ),
    "encoded volumes": (
        INRArchitecture((12, 9, 1), encoding=FourierEncoding((1, 2))),
        (5, 5, 5),
        ImageConvention(is_volume=True),
    ),
    "shapes": (INRArchitecture((3, 16, 12, 1), output_offset=0.0), (8, 8, 8), ImageConvention()),
}


def make_contents(name: str) -> PageContents:
    """Make INRs that nobody fitted, of classes that no page should show as they are."""
    architecture, grid_shape, convention = CASES[name]
    number = torch.arange(NUM_INRS)
    batch = initialise_inrs(architecture, seed=0, object_id=2**60 + number, view=number % 2)
    spread = 0.1 * initialise_inrs(architecture, seed=1, object_id=number, view=number).parameters
    biases = torch.cat([torch.arange(s.start, s.stop) for s in architecture.bias_slices])
    batch.parameters[:, biases] += spread[:, : len(biases)]  # which start as zeros
    batch = batch.replace(label=number % len(HOSTILE))
    header = StoreHeader(architecture, HOSTILE, "nothing", grid_shape, {}, 0, convention)
    psnr = torch.where(number == 3, torch.nan, 15.0 + number)
    predictions = {
        key: PredictedClass(HOSTILE[place % 2], 0.5)
        for place, key in enumerate(zip(batch.object_id.tolist(), batch.view.tolist(), strict=True))
    }
    return PageContents(f"{name} {HOSTILE[0]}", header, batch, psnr, predictions)


def run_page(browser: str, contents: PageContents, folder: Path) -> dict[str, Any]:
    """Open the page with ``#check``, and give what it says."""
    page = folder / "page.html"
    write_page(page, contents)
    words = (
        *OPTIONS,
        f"--user-data-dir={folder / 'profile'}",
        "--dump-dom",
        f"{page.as_uri()}#check",
    )
    done = subprocess.run([browser, *words], capture_output=True, text=True, timeout=120)
    found = re.search(r'<pre [^>]*id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    if found is None:
        raise AssertionError(f"the page did not come to its end:\n{done.stderr[-3000:]}")
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None
    assert html.unescape(title[1]) == contents.title
    return dict(json.loads(html.unescape(found[1])))


def compare(contents: PageContents, found: dict[str, Any]) -> None:
    """Compare what the page computed with what Python computes of the same weights."""
    header, first = contents.header, contents.inrs[:3]
    num_inputs = header.architecture.in_features
    shape = header.grid_shape if num_inputs < 3 else SLICE_SHAPE
    points = points_of(header)
    expect("values", found["values"]["plain"], evaluate(first, points))
    if "visible" in found:
        image = evaluate(first[:1], points).view(*shape, -1)
        convention = header.convention
        seen = visible_channels(convention.to_visible(convention.to_unit_range(image)))
        wanted = found["visible"]
        assert [wanted[name] for name in ("height", "width", "channels")] == list(seen.shape)
        expect("visible", wanted["values"], seen.flatten())

    cos, sin = torch.tensor(torch.pi / 6).cos(), torch.tensor(torch.pi / 6).sin()
    matrix = torch.eye(num_inputs)
    if num_inputs > 1:
        matrix[:2, :2] = torch.stack([cos, -sin, sin, cos]).view(2, 2)
    shift = torch.tensor([0.1, -0.2, 0.3])[:num_inputs]
    matrices = None if header.architecture.encoding else matrix.expand(3, -1, -1)
    moved = transform_input(first, matrices, shift.expand(3, -1))
    expect("moved weights", found["weights"]["moved"], moved.parameters)
    expect("moved values", found["values"]["moved"], evaluate(moved, points))

    noise = torch.tensor(found["noise"])
    assert abs(float(noise.mean())) < 0.3
    assert 0.8 < float(noise.std()) < 1.2
    noisy = first.parameters + 0.3 * tensor_std(contents.inrs) * noise
    expect("noisy weights", found["weights"]["noisy"], noisy)

    names = ["permuted"] + ["negated"] * (header.architecture.activation == "sine")
    for name in names:
        expect(f"{name} values", found["values"][name], found["values"]["plain"])
        assert not torch.allclose(torch.tensor(found["weights"][name]), first.parameters)
    compare_alignment(contents, found["pairs"], points)
    compare_use(contents, found["use"])


def points_of(header: StoreHeader) -> Tensor:
    """Give the points where the page evaluates INRs: of volumes and shapes a slice across x."""
    shape = header.grid_shape
    if len(shape) == 1:
        return line_coordinates(*shape)
    if len(shape) == 2:
        return header.convention.coordinates(*shape)
    column, row = pixel_coordinates(*SLICE_SHAPE).unbind(1)
    x = torch.full_like(row, 0.25)
    if header.convention.is_volume:  # as they are drawn elsewhere
        return torch.stack([x, row, column], dim=1)
    return torch.stack([x, column, -row], dim=1)


def compare_alignment(contents: PageContents, pairs: list[dict[str, Any]], points: Tensor) -> None:
    """Compare permutations, signs and distances, and the pictures of mixtures."""
    is_sine = contents.header.architecture.activation == "sine"
    assert len(pairs) == (9 if is_sine else 6)
    for pair in pairs:
        own, partner = (contents.inrs[pair[name]] for name in ("own", "partner"))
        if pair["symmetry"] != "none":
            aligned = align(own, partner, pair["symmetry"])
            assert pair["permutations"] == [p[0].tolist() for p in aligned.permutations], pair
            assert pair["signs"] == [s[0].tolist() for s in aligned.signs], pair
            partner = aligned.aligned
        distance = (own.parameters.double() - partner.parameters.double()).square().sum()
        expect("squared distance", pair["squaredDistance"] / float(distance), 1.0)
        mixed = mix_up(own, partner, torch.tensor([0.3]), 1, "hard")
        expect("mixed values", [pair["mixed"]], evaluate(mixed, points))


def compare_use(contents: PageContents, use: dict[str, Any]) -> None:
    """Compare what clicks showed with what they should show."""
    label, classes = contents.inrs.label, contents.header.classes
    assert use["names"] == [_as_text(classes[number]) for number in label.tolist()]
    assert use["elements"] == 2  # the data and the code: no name became an element
    assert use["all"] == len(label)
    assert list(use["byClass"].values()) == torch.bincount(label).tolist()
    limit, shown = use["psnr"]["limit"], use["psnr"]["shown"]
    assert 0 < shown == int((contents.psnr >= limit).sum())
    assert contents.predictions is not None
    predicted = [one.name for one in contents.predictions.values()]
    right = sum(classes[a] == b for a, b in zip(label.tolist(), predicted, strict=True))
    assert (use["right"], use["wrong"]) == (right, len(label) - right)
    assert use["chosen"] == [1, 0]
    assert use["mixed"] == {"symmetry": "none", "share": 1}
    is_line = contents.header.architecture.in_features == 1
    has_no_rotation = is_line or contents.header.architecture.encoding is not None
    assert use["preview"] == ("translation" if has_no_rotation else "rotation")


def _as_text(name: str) -> str:
    return name.encode(errors="replace").decode()


def evaluate(inrs: WeightBatch, points: Tensor) -> Tensor:
    return evaluate_inrs(inrs.to(torch.float64), points.double()).flatten(1)


def expect(what: str, found: Any, wanted: Any) -> None:
    """Fail, naming what differs and by how much, unless the numbers are close."""
    first, second = torch.as_tensor(found).double(), torch.as_tensor(wanted).double()
    assert first.shape == second.shape, f"{what}: {first.shape}, expected {second.shape}"
    difference = float((first - second).abs().max())
    assert difference < TOLERANCE, f"{what} differ by {difference:g}"


def main() -> None:
    """Check all cases; an error, and status 1, at the first number that differs."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        sys.stdout.write("the page was not checked: there is no Chromium\n")
        return
    for name in CASES:
        contents = make_contents(name)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            compare(contents, run_page(browser, contents, Path(folder)))
        sys.stdout.write(f"the page computes what Python does: {name}\n")


if __name__ == "__main__":
    main()
