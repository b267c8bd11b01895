import json
from pathlib import Path

import pytest
import torch
from cnns import architecture_of
from safetensors import safe_open
from symmetry import make_batch, permute_hidden, relative

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.augmentations import Rotation, SirenBias, SirenNegation, Translation
from lightning_dws.errors import DataError
from lightning_dws.fourier_encoding import FourierEncoding
from lightning_dws.inrs import evaluate_inrs
from lightning_dws.models import ProbeGen
from lightning_dws.models.probe_outputs import probe_outputs

SMALL = {"num_probes": 7, "latent_dim": 4, "hidden_dim": 8, "num_layers": 3}


def make_model(architecture, dtype=torch.float64, **options):
    torch.manual_seed(0)
    return ProbeGen(architecture, 5, **SMALL | options).to(dtype).eval()


@pytest.mark.parametrize("name", ["siren3", "vanilla_colour"])
def test_gives_the_published_models_numbers(name):
    """What jonkahana/ProbeGen (e3b8e14) gave on random INRs, weight for weight."""
    path = Path(__file__).parents[1] / "golden" / f"probegen_{name}.safetensors"
    with safe_open(path, "pt") as file:
        options = {k: json.loads(v) for k, v in file.metadata().items()}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    architecture = INRArchitecture(options.pop("widths"))
    parameters, logits = options.pop("parameters"), tensors.pop("output/logits")
    model = ProbeGen(architecture, logits.shape[1], **options).double()
    assert sum(p.numel() for p in model.parameters()) == parameters
    layers = range(architecture.num_layers)
    batch = WeightBatch.from_layers(
        architecture,
        [tensors.pop(f"input/weights/{layer}") for layer in layers],
        [tensors.pop(f"input/biases/{layer}") for layer in layers],
    )
    model.latent.data = tensors.pop("state/input")
    linears = {f"tokens_generator.{n}": linear for n, linear in enumerate(model.generator)}
    classifier = [m for m in model.hidden.modules() if isinstance(m, torch.nn.Linear)]
    linears |= {f"points_mixer.{2 * n}": m for n, m in enumerate([*classifier, model.head])}
    for name, linear in linears.items():
        linear.load_state_dict({k: tensors.pop(f"state/{name}.{k}") for k in ("weight", "bias")})
    assert not tensors, sorted(tensors)
    assert relative(model(batch), logits) < 1e-10
    single = model.float()(batch.to(torch.float32))
    assert relative(single.double(), logits) < 1e-4


@pytest.mark.parametrize(("num_probes", "expected"), [(128, 303_980), (64, 285_548)])
def test_has_the_published_number_of_parameters(num_probes, expected):
    """Counted from jonkahana/ProbeGen in the configurations of its scripts fmnist_inr__ProbeGen.

    Latent codes, two linear maps to a probe, and six linear maps from outputs to logits.
    """
    model = ProbeGen(INRArchitecture((2, 32, 32, 1)), 10, num_probes=num_probes)
    codes = num_probes * 32
    generator = (32 * 32 + 32) + (32 * 2 + 2)
    classifier = (num_probes * 256 + 256) + 4 * (256 * 256 + 256) + (256 * 10 + 10)
    assert codes + generator + classifier == expected
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("generator_layers", [0, 1, 2, 4])
def test_the_generator_is_linear(generator_layers):
    model = make_model(INRArchitecture((3, 5, 4, 1)), generator_layers=generator_layers)
    probes, latent = model.probes(), model.latent.data.clone()
    assert probes.shape == (7, 3)
    assert latent.shape == (7, 4 if generator_layers else 3)
    with torch.no_grad():
        model.latent.copy_(latent.mean(0).expand_as(latent))
    torch.testing.assert_close(model.probes(), probes.mean(0).expand_as(probes))


@pytest.mark.parametrize("widths", [(2, 6, 6, 1), (2, 5, 3), (3, 8, 6, 4, 2)], ids=str)
def test_whatever_leaves_the_function_alone_leaves_the_logits(widths):
    batch = make_batch(widths)
    batch = batch.replace(parameters=0.1 * batch.parameters)
    model = make_model(batch.architecture)
    logits = model(batch)
    assert relative(logits[1:], logits[:-1]) > 1e-3
    generator = torch.Generator().manual_seed(0)
    augmented = [kind()(batch, generator) for kind in (SirenNegation, SirenBias)]
    for same in (permute_hidden(batch), *augmented):
        assert not torch.equal(same.parameters, batch.parameters)
        assert relative(model(same), logits) < 1e-9
    for layer in range(len(widths) - 2):
        assert relative(model(permute_hidden(batch, skip=layer)), logits) > 1e-6
    for other in (kind()(batch, generator) for kind in (Rotation, Translation)):
        assert relative(model(other), logits) > 1e-6


@pytest.mark.parametrize("size", [1, 70])  # 70 are several chunks
@pytest.mark.parametrize("widths", [(2, 32, 32, 1), (3, 8, 6, 4, 2), (1, 5, 1)], ids=str)
def test_outputs_and_gradients_are_those_of_the_inrs(widths, size):
    batch = make_batch(widths, size, torch.float32)
    batch = batch.replace(parameters=0.1 * batch.parameters)
    torch.manual_seed(0)
    probes = (2 * torch.rand(600, widths[0]) - 1).requires_grad_()
    found, expected = probe_outputs(batch, probes), evaluate_inrs(batch, probes)
    assert relative(found, expected) < 1e-4
    loss = torch.linspace(-1, 1, expected[0].numel()).view_as(expected[0])
    gradients = [torch.autograd.grad((x * loss).sum(), probes)[0] for x in (found, expected)]
    assert relative(*gradients) < 1e-3
    with torch.no_grad():
        torch.testing.assert_close(probe_outputs(batch, probes), found)


def test_coordinates_that_are_encoded_are_probed():
    encoding = FourierEncoding((0.5, 1.0))
    batch = make_batch((8, 6, 1), dtype=torch.float32)
    architecture = INRArchitecture((8, 6, 1), encoding=encoding)
    batch = WeightBatch.from_parameters(architecture, 0.1 * batch.parameters)
    model = make_model(architecture, torch.float32)
    probes = model.probes()
    assert probes.shape == (7, 2)
    assert torch.equal(probe_outputs(batch, probes), evaluate_inrs(batch, probes))


def test_inrs_get_their_own_gradients_where_they_are_wanted():
    batch = make_batch((2, 6, 5, 1), dtype=torch.float32)
    rows = batch.parameters.requires_grad_()
    model = make_model(batch.architecture, torch.float32)
    model(batch.replace(parameters=rows)).sum().backward()
    assert (rows.grad != 0).any(dim=1).all()
    assert model.latent.grad.isfinite().all()


@pytest.mark.parametrize("activation", ["sine", "relu"])
def test_gradients(activation):
    batch = make_batch((2, 3, 3, 1), size=2)
    architecture = INRArchitecture((2, 3, 3, 1), activation, w0=3.0)
    batch = WeightBatch.from_parameters(architecture, batch.parameters)
    model = make_model(architecture)
    names = [name for name, _ in model.named_parameters()]

    def logits(*values):
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), (batch,))

    values = [parameter.detach().requires_grad_() for parameter in model.parameters()]
    assert torch.autograd.gradcheck(logits, values, fast_mode=True)


def test_an_inr_does_not_depend_on_its_batch():
    batch = make_batch((2, 6, 6, 1), 7)
    model = make_model(batch.architecture)
    alone = torch.cat([model(inr) for inr in batch])
    torch.testing.assert_close(alone, model(batch), rtol=1e-12, atol=1e-12)


def test_embed_is_what_the_head_takes():
    batch = make_batch((3, 8, 6, 4, 2))
    model = make_model(batch.architecture)
    features = model.embed(batch)
    assert features.shape == (4, model.head.in_features)
    torch.testing.assert_close(model.head(features), model(batch))


def test_trains_in_float32_and_bfloat16_with_one_inr():
    batch = make_batch((2, 6, 6, 1), size=1, dtype=torch.float32)
    model = make_model(batch.architecture, torch.float32, dropout=0.1).train()
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = model(batch)
        torch.nn.functional.cross_entropy(logits.float(), batch.label).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_probes": 0}, "num_probes must be at least 1, got 0"),
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"generator_layers": -1}, "generator_layers must not be negative, got -1"),
        ({"num_layers": 1}, "num_layers must be at least 2, got 1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_model(INRArchitecture((2, 4, 4, 1)), **options)


def test_other_networks_than_inrs_are_refused():
    with pytest.raises(DataError, match=r"ProbeGen: for INRs alone, got networks of 3 tensors"):
        ProbeGen(architecture_of("no_bias"), 5)


def test_a_batch_of_another_architecture_is_refused():
    with pytest.raises(ValueError, match=r"widths \(2, 6, 6, 1\), got \(2, 5, 1\)"):
        make_model(INRArchitecture((2, 6, 6, 1)))(make_batch((2, 5, 1)))
