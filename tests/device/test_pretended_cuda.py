"""Every case on a CUDA device that is not there; see ``pretend``."""

import pytest
import torch
from cases import CASES
from pretend import PretendTensor, pretended_cuda

from lightning_dws.mixup import matching_triton
from lightning_dws.mixup.matching_kernel import match_on_cpu

CPU = torch.device("cpu")


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
def test_runs_on_the_device_and_finds_what_the_cpu_finds(name, trace):
    case = CASES[name]
    step = case.prepare(torch.device("cuda"))
    trace.waits.clear()
    results = step()
    waits = list(trace.waits)
    expected = case.prepare(CPU)()
    assert len(results) == len(expected)
    for found, wanted in zip(results, expected, strict=True):
        assert isinstance(found, PretendTensor), "a result is on the CPU"
        torch.testing.assert_close(
            found.inner.detach(), wanted.detach(), rtol=case.tolerance, atol=case.tolerance
        )
    unexpected = [w for w in waits if not any(place in w for place in case.may_wait)]
    assert not unexpected, f"these make the CPU wait for the device: {unexpected}"
