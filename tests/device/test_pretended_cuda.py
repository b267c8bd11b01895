"""Every case on a CUDA device that is not there; see ``pretend``."""

import pytest
import torch
from cases import CASES
from pretend import PretendTensor, pretended_cuda

from lightning_dws.mixup import matching_triton
from lightning_dws.mixup.matching_kernel import match_on_cpu
from lightning_dws.models import batch_norm, dense_edges, in_chunks, set_attention

CPU = torch.device("cpu")
# Compiled kernels, threads, and pieces that fit in a cache: on a GPU nothing of that is taken.
WAYS_OF_THE_CPU = (
    batch_norm._BatchNorm,
    dense_edges._AddEnds,
    dense_edges._AggregateMessages,
    in_chunks._InChunks,
    set_attention._Attend,
)


def _refuse(*_):
    raise AssertionError("a CPU's way is taken for a GPU")


@pytest.fixture
def trace(monkeypatch):
    """The pretended device; Triton's kernels, which take addresses, are the CPU's there."""

    def match(a, b, *options):
        assert isinstance(a.parameters, PretendTensor)
        assert isinstance(b.parameters, PretendTensor)
        a, b = (x.replace(parameters=x.parameters.inner) for x in (a, b))
        return tuple(map(PretendTensor, match_on_cpu(a, b, *options)))

    monkeypatch.setattr(matching_triton, "match_on_gpu", match)
    monkeypatch.setattr("lightning_dws.inrs.fitting.fused.can_compile_for", lambda _: False)
    with pretended_cuda(monkeypatch) as trace:
        yield trace


@pytest.mark.filterwarnings("ignore:The usage of .scatter:UserWarning")  # torch-geometric's advice
@pytest.mark.parametrize("name", CASES)
def test_runs_on_the_device_and_finds_what_the_cpu_finds(name, trace, monkeypatch):
    case = CASES[name]
    expected = case.prepare(CPU)()
    for way in WAYS_OF_THE_CPU:
        monkeypatch.setattr(way, "forward", _refuse)
    step = case.prepare(torch.device("cuda"))
    trace.waits.clear()
    results = step()
    waits = list(trace.waits)
    assert len(results) == len(expected)
    for found, wanted in zip(results, expected, strict=True):
        assert isinstance(found, PretendTensor), "a result is on the CPU"
        torch.testing.assert_close(
            found.inner.detach(), wanted.detach(), rtol=case.tolerance, atol=case.tolerance
        )
    unexpected = [w for w in waits if not any(place in w for place in case.may_wait)]
    assert not unexpected, f"these make the CPU wait for the device: {unexpected}"


def test_a_tensor_of_the_cpu_among_those_of_the_device_is_an_error(trace):
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        torch.ones(3, device="cuda") + torch.ones(3)
    assert (torch.ones(3, device="cuda") + torch.tensor(1.0)).device.type == "cuda"  # as on CUDA
    with pytest.raises(TypeError, match="can't convert cuda:0"):
        torch.ones(3, device="cuda").numpy()


def test_who_waits_for_the_device_is_noted(trace):
    x = torch.arange(4.0, device="cuda")
    assert not trace.waits
    assert x[x > 1].inner.tolist() == [2.0, 3.0]
    assert float(x.sum()) == 6
    assert x.cpu().tolist() == [0.0, 1.0, 2.0, 3.0]
    assert sorted(trace.waits) == [
        "outside: _local_scalar_dense",
        "outside: copy to the CPU",
        "outside: index by a mask",
    ]
