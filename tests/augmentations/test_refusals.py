"""Each augmentation refuses what it is wrong for, and says what."""

import pytest
from augmentation_examples import ENCODED, IMAGE, RELU, SHAPE, generator, random_batch

from lightning_dws import INRArchitecture
from lightning_dws.augmentations import (
    Affine,
    Augmentation,
    Compose,
    Flip,
    GaussianNoise,
    Intensity,
    OneOf,
    QuantileDropout,
    RandomOrder,
    ReLUScaling,
    Rotation,
    Scaling,
    SirenBias,
    SirenNegation,
    Translation,
    WeightDropout,
)

AUDIO = INRArchitecture((1, 4, 1))


@pytest.mark.parametrize(
    ("augmentation", "architecture", "message"),
    [
        (ReLUScaling(), IMAGE, "ReLUScaling is for relu INRs alone .*got .*'sine'"),
        (SirenNegation(), RELU, "SirenNegation is for sine INRs alone .*got .*'relu'"),
        (SirenBias(), RELU, "SirenBias is for sine INRs alone .*got .*'relu'"),
        (Rotation(), AUDIO, "Rotation is for INRs with 2 or 3 inputs, got 1"),
        (Rotation(axis="z"), IMAGE, "Rotation has an axis .* in 3-D alone, got .* 2 inputs"),
        (Affine(), AUDIO, "Affine is for INRs with 2 or 3 inputs, got 1"),
        (Affine(axis="x"), IMAGE, "Affine has an axis .* in 3-D alone"),
        (Flip((2,)), IMAGE, r"Flip along axes \(2,\) is wrong for INRs with 2 inputs"),
        (Compose([Translation(), Flip((2,))]), IMAGE, "Flip along axes"),
        (
            Rotation(),
            ENCODED,
            "Rotation is not exact behind a Fourier encoding.*Translation and Flip",
        ),
        (Scaling(), ENCODED, "Scaling is not exact behind a Fourier encoding"),
        (Affine(), ENCODED, "Affine is not exact behind a Fourier encoding"),
        (Flip((2,)), ENCODED, r"Flip along axes \(2,\) is wrong for INRs with 2 inputs"),
        (OneOf([ReLUScaling()], p=0.0), IMAGE, "ReLUScaling is for relu"),
        (RandomOrder([Compose([ReLUScaling()])]), SHAPE, "ReLUScaling is for relu"),
    ],
)
def test_wrong_architecture_is_refused(
    augmentation: Augmentation, architecture: INRArchitecture, message: str
) -> None:
    batch = random_batch(architecture, 2)
    with pytest.raises(ValueError, match=message):
        augmentation(batch, generator())
    with pytest.raises(ValueError, match=message):
        augmentation(batch, params={})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianNoise(-1), r"noise_std_ratio must be finite and >= 0, got -1"),
        (lambda: GaussianNoise(float("inf")), "noise_std_ratio must be finite"),
        (lambda: WeightDropout(1.0), r"drop_probability must be in \[0, 1\), got 1.0"),
        (lambda: QuantileDropout(1.1), r"max_quantile must be in \[0, 1\], got 1.1"),
        (lambda: SirenNegation(2), r"negation_probability must be in \[0, 1\], got 2"),
        (lambda: SirenBias(2, 1), "min_shift must be at most max_shift, got 2 and 1"),
        (lambda: SirenBias(shift_probability=-1), "shift_probability must be"),
        (lambda: ReLUScaling(0.5), "max_factor must be finite and >= 1, got 0.5"),
        (lambda: Rotation(181), r"max_angle_degrees must be in \[0, 180\], got 181"),
        (lambda: Rotation(axis="w"), "axis must be one of .*got 'w'"),
        (lambda: Translation(float("nan")), "max_shift must be .*got nan"),
        (lambda: Scaling(1), r"max_change must be in \[0, 1\), got 1"),
        (lambda: Flip((0, 0)), r"axes must be different and not negative, got \(0, 0\)"),
        (lambda: Flip((-1,)), "axes must be different and not negative"),
        (lambda: Affine(max_shear=-1), "max_shear must be finite and >= 0, got -1"),
        (lambda: Affine(max_scale_change=1), r"max_scale_change must be in \[0, 1\), got 1"),
        (lambda: Intensity(1.5), r"max_contrast_change must be in \[0, 1\], got 1.5"),
        (lambda: Intensity(pivot=float("nan")), "pivot must be"),
    ],
)
def test_wrong_argument_is_named(make: type[Augmentation], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
