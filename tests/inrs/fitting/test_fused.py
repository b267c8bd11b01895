import math

import pytest
import torch

from lightning_dws.inrs.fitting import fused
from lightning_dws.inrs.fitting.fused import Fused, adam_, sine_and_cosine_


def test_sine_and_cosine_are_written_in_place() -> None:
    argument = torch.linspace(-9, 9, 35).view(5, 7)
    given, above = argument.clone(), torch.zeros(6, 7)
    sine_and_cosine_(given, above[:-1])
    assert torch.equal(above[:-1], argument.sin())
    assert torch.equal(given, argument.cos())
    assert not above[-1].any()


@pytest.mark.parametrize("function", [sine_and_cosine_, adam_])
def test_compiled_functions_do_the_same(
    function: Fused, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(fused, "can_compile_for", lambda tensors: True)
    compiled = Fused(function.function)
    for size in (64, 192):
        generator = torch.Generator().manual_seed(size)
        tensors = [torch.rand(size, generator=generator) for _ in range(5)]
        tensors += [torch.tensor([-1e-2, 1.4]), torch.tensor([0.9, 0.99])]
        if function is sine_and_cosine_:  # as in a chunk: the sine is part of a larger tensor
            tensors = [torch.rand(3, size), torch.rand(3, size + 16)[:, :size]]
        expected = [tensor.clone() for tensor in tensors]
        function.function(*expected)
        compiled(*tensors)
        for own, other in zip(tensors, expected, strict=True):
            torch.testing.assert_close(own, other)
    assert compiled._compiled is not None
    assert not [warning for warning in recwarn if "without torch.compile" in str(warning.message)]


def test_where_compilation_fails_the_plain_function_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = []

    def no_compiler(function: object, **options: object) -> object:
        def fail(*tensors: torch.Tensor) -> None:
            attempts.append(function)
            raise torch._dynamo.exc.TorchDynamoException("no compiler\nand a long story")

        return fail

    monkeypatch.setattr(fused, "can_compile_for", lambda tensors: True)
    monkeypatch.setattr(torch, "compile", no_compiler)
    plain = Fused(sine_and_cosine_.function)
    argument, sine = torch.full((3,), math.pi / 2), torch.zeros(3)
    with pytest.warns(UserWarning, match="fitting goes on without torch.compile: no compiler$"):
        plain(argument, sine)
    torch.testing.assert_close(sine, torch.ones(3))
    plain(torch.zeros(3), sine)
    assert not sine.any()
    assert len(attempts) == 1


def test_cpus_do_not_compile() -> None:
    assert not fused.can_compile_for((torch.zeros(2),))
