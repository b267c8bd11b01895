import pytest
import torch
from cnns import CNNS, cnn_batch
from golden_nfn import NFN_FILES, GoldenNFN
from symmetry import make_batch, permute_hidden, relative

from lightning_dws import INRArchitecture, WeightBatch
from lightning_dws.models import NFN
from lightning_dws.models.nfn_layer import NFNLayer, fold_tensors

ARCHITECTURES = [(2, 6, 6, 1), (1, 1, 1), (2, 5, 1), (3, 8, 6, 4, 2)]
INVARIANT = {"layer": "NP", "io_bands": 0, "pool": "NP"}  # to inputs and outputs permuted, too
KINDS = [{"layer": "NP"}, {"layer": "HNP", "io_bands": 0}, INVARIANT]


def make_model(architecture, dtype=torch.float64, **options):
    torch.manual_seed(0)
    options = {"hidden_dim": 4, "num_layers": 2, "fourier_features": 3, "head_dim": 8} | options
    return NFN(architecture, 5, **options).to(dtype).eval()


def permute(batch, group, skip=None):
    """Permute the neurons of a group (None: inputs and outputs), but for one tensor's axis."""
    permuted = []
    for spec, tensor in zip(batch.architecture.tensors, batch.tensors, strict=True):
        for axis, name in enumerate(spec.axes[:2]):
            if name == group and (spec.name, axis) != skip:
                tensor = tensor.roll(1, 1 + axis)
        permuted.append(tensor)
    return WeightBatch.from_tensors(batch.architecture, permuted)


@pytest.mark.parametrize("name", NFN_FILES)
def test_gives_the_published_models_numbers(name):
    golden = GoldenNFN(name)
    model = golden.nfn()
    features = model.equivariant_features(golden.batch)
    for found, wanted in zip(features, golden.by_layer("output/equivariant"), strict=True):
        assert relative(found, wanted) < 1e-10
    assert relative(model(golden.batch), golden.logits) < 1e-10
    single = model.float()(golden.batch.to(torch.float32))
    assert relative(single.double(), golden.logits) < 1e-4
    if model.layer == "NP":
        assert sum(p.numel() for p in model.parameters()) == golden.options["parameters"]


def test_golden_files_are_there():
    assert len(NFN_FILES) == 7


@pytest.mark.parametrize(
    ("symmetry", "channels", "published", "unlike"),
    [
        ("NP", 263, (8_357_888, 16_262_144, 16_262_144), 0),
        ("HNP", 256, (12_852_736, 25_697_792, 25_697_792), 23),
    ],
)
def test_has_the_published_number_of_parameters(symmetry, channels, published, unlike):
    """Counted from nfn 0.1.2, in the configurations inv_ff_io_mnist and inv_ff_mnist, 512 channels.

    HNP there has 24 matrices twice over, of means of what it takes whole as well, and lacks one,
    from the last hidden bias to the last weight.
    """
    tensors = fold_tensors(INRArchitecture((2, 32, 32, 1)).tensors, symmetry)
    for in_features, expected in zip((channels, 512, 512), published, strict=True):
        with torch.device("meta"):
            layer = NFNLayer(tensors, in_features, 512)
        found = sum(p.numel() for p in layer.parameters())
        assert found == expected - unlike * in_features * 512


@pytest.mark.parametrize("widths", ARCHITECTURES, ids=str)
@pytest.mark.parametrize("options", KINDS, ids=["NP", "HNP", "NP throughout"])
def test_hidden_permutations_do_not_matter(widths, options):
    model, batch = make_model(INRArchitecture(widths), **options), make_batch(widths)
    logits = model(batch)
    assert logits.shape == (4, 5)
    assert relative(logits[1:], logits[:-1]) > 1e-4  # the input does matter
    assert relative(model(permute_hidden(batch)), logits) < 1e-9
    for layer in range(len(widths) - 2):
        if min(widths[1:-1]) > 1:
            assert relative(model(permute_hidden(batch, skip=layer)), logits) > 1e-6


@pytest.mark.parametrize("options", KINDS, ids=["NP", "HNP", "NP throughout"])
@pytest.mark.parametrize("kind", ["INRs", "CNNs"])
def test_inputs_and_outputs_are_interchangeable_only_where_wished(kind, options):
    batch = make_batch((3, 5, 4, 3)) if kind == "INRs" else cnn_batch("small_kernels")
    model = make_model(batch.architecture, **options)
    logits, permuted = model(batch), model(permute(batch, None))
    if options == INVARIANT:
        assert relative(permuted, logits) < 1e-9
    else:
        assert relative(permuted, logits) > 1e-6


@pytest.mark.parametrize("options", KINDS, ids=["NP", "HNP", "NP throughout"])
@pytest.mark.parametrize("name", CNNS)
def test_cnns_are_read(name, options):
    batch = cnn_batch(name)
    architecture = batch.architecture
    model = make_model(architecture, **options)
    logits = model(batch)
    for group in architecture.groups:
        assert relative(model(permute(batch, group)), logits) < 1e-9
        for spec in architecture.tensors:
            for axis, name in enumerate(spec.axes[:2]):
                if name == group:
                    broken = permute(batch, group, skip=(spec.name, axis))
                    assert relative(model(broken), logits) > 1e-7, spec.name
    for index, (spec, tensor) in enumerate(zip(architecture.tensors, batch.tensors, strict=True)):
        if max(spec.shape[2:], default=1) > 1:  # positions of a kernel, or behind a flatten
            moved = [*batch.tensors]
            moved[index] = tensor.roll(1, -1)
            changed = model(WeightBatch.from_tensors(architecture, moved))
            assert relative(changed, logits) > 1e-7, spec.name


def test_embed_is_what_the_head_takes():
    model, batch = make_model(INRArchitecture((3, 8, 6, 4, 2))), make_batch((3, 8, 6, 4, 2))
    features = model.embed(batch)
    assert features.shape == (4, model.head[0].in_features)
    torch.testing.assert_close(model.head(features), model(batch))


@pytest.mark.parametrize("layer", ["NP", "HNP"])
def test_an_inr_does_not_depend_on_its_batch(layer):
    model, batch = make_model(INRArchitecture((2, 6, 6, 1)), layer=layer), make_batch((2, 6, 6, 1))
    alone = torch.cat([model(batch[index : index + 1]) for index in range(4)])
    torch.testing.assert_close(alone, model(batch), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("layer", ["NP", "HNP"])
def test_gradients(layer):
    model = make_model(INRArchitecture((2, 3, 2, 1)), layer=layer, hidden_dim=2)
    batch = make_batch((2, 3, 2, 1), size=2)
    names = [name for name, _ in model.named_parameters()]

    def logits(rows, *values):
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(model, parameters, (batch.replace(parameters=rows),))

    rows = batch.parameters.requires_grad_()
    values = [parameter.detach().requires_grad_() for parameter in model.parameters()]
    assert torch.autograd.gradcheck(logits, (rows, *values), fast_mode=True)


@pytest.mark.parametrize("layer", ["NP", "HNP"])
@pytest.mark.parametrize("kind", ["INR", "residual CNN"])
def test_trains_in_float32_and_bfloat16_with_one_network(kind, layer):
    batch = make_batch((2, 6, 6, 1), size=1, dtype=torch.float32)
    if kind != "INR":
        batch = cnn_batch("residual", 1, torch.float32)
    model = make_model(batch.architecture, torch.float32, layer=layer).train()
    model.standardize.fit(batch.parameters)
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            logits = model(batch)
        torch.nn.functional.cross_entropy(logits.float(), batch.label).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_drops_whole_channels_of_weights_and_entries_of_biases():
    model = make_model(INRArchitecture((2, 6, 6, 1)), feature_dropout=0.5).train()
    weight, bias = model.tensors[2], model.tensors[3]
    dropped = model._drop(weight, torch.ones(7, 4, 6, 6))
    assert set(dropped.flatten().tolist()) == {0.0, 2.0}
    assert torch.equal(dropped, dropped[..., :1, :1].expand_as(dropped))
    dropped = model._drop(bias, torch.ones(7, 4, 6))
    assert 0 < (dropped[..., 0] != dropped[..., 1]).sum() < 28
    assert torch.equal(model.eval()._drop(bias, dropped.clone()), dropped)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"head_dim": 0}, "head_dim must be at least 1, got 0"),
        ({"layer": "PT"}, "layer must be one of .*, got 'PT'"),
        ({"pool": "max"}, "pool must be one of .*, got 'max'"),
        ({"fourier_features": -1}, "fourier_features must not be negative, got -1"),
        ({"fourier_scale": 0.0}, "fourier_scale must be positive and finite, got 0.0"),
        ({"io_bands": -1}, "io_bands must not be negative, got -1"),
        ({"dropout": 1.0}, r"^dropout must be in \[0, 1\), got 1.0"),
        ({"feature_dropout": -0.1}, r"feature_dropout must be in \[0, 1\), got -0.1"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_model(INRArchitecture((2, 4, 4, 1)), **options)


def test_a_batch_of_another_architecture_is_refused():
    with pytest.raises(ValueError, match=r"widths \(2, 6, 6, 1\), got \(2, 5, 1\)"):
        make_model(INRArchitecture((2, 6, 6, 1)))(make_batch((2, 5, 1)))
