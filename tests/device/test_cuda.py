"""Every case, and what only a GPU can show, on a GPU of CUDA."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from cases import CASES, NETWORKS, NUM_CLASSES, SINE, make_batch
from golden import DWSNET_FILES, Golden
from golden_gnn import GNN_FILES, published_gnn
from golden_transformer import TRANSFORMER_FILES, golden_transformer
from symmetry import relative
from tiny import tiny_spec

from lightning_dws import INRArchitecture
from lightning_dws.data import INRDataModule
from lightning_dws.errors import DataError
from lightning_dws.mixup import MixUp, align, squared_distance
from lightning_dws.models import DWSNet
from lightning_dws.tasks import ClassificationTask
from lightning_dws.tasks.compiling import GraphedNetwork

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        "The usage of .scatter:UserWarning",  # torch-geometric's advice
        "Synchronization debug mode is a prototype:UserWarning",
        ".torch.jit.script_method. is deprecated:DeprecationWarning",  # Triton's compiler in torch
        "Attempting to run cuBLAS, but there was no current CUDA context:UserWarning",
    )
]


@pytest.mark.parametrize("name", CASES)
def test_finds_what_the_cpu_finds_without_a_wait(name):
    case = CASES[name]
    case.prepare(CUDA)()  # what is done once
    step = case.prepare(CUDA)
    torch.cuda.synchronize()
    try:
        if not case.may_wait:
            torch.cuda.set_sync_debug_mode("error")
        results = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for found, wanted in zip(results, case.prepare(CPU)(), strict=True):
        assert found.is_cuda
        torch.testing.assert_close(
            found.detach().cpu(), wanted.detach(), rtol=case.tolerance, atol=case.tolerance
        )


@pytest.mark.parametrize("name", DWSNET_FILES + GNN_FILES + TRANSFORMER_FILES)
def test_gives_the_published_models_numbers(name):
    golden = Golden(name)
    make = {"dw": golden.dwsnet, "ng_p": published_gnn, "ng_t": golden_transformer}
    kind = next(start for start in make if name.startswith(start))
    model = (make[kind]() if kind == "dw" else make[kind](golden)).to(CUDA)
    assert relative(model(golden.batch.to(CUDA)).cpu(), golden.logits) < 1e-10


@pytest.mark.parametrize("symmetry", ["permutation", "signed_permutation"])
@pytest.mark.parametrize("widths", [(2, 32, 32, 1), (3, 64, 100, 33, 1), (2, 7, 1)])
def test_aligns_as_the_cpu_does(widths, symmetry):
    architecture = INRArchitecture(widths)
    a, b = (make_batch(CPU, architecture, 40, seed) for seed in (0, 1))
    found, wanted = align(a.to(CUDA), b.to(CUDA), symmetry), align(a, b, symmetry)
    distances = (squared_distance(a, x.aligned.to("cpu")) for x in (found, wanted))
    torch.testing.assert_close(*distances)
    same = sum(
        torch.equal(x.cpu(), y)
        for x, y in zip(found.permutations, wanted.permutations, strict=True)
    )
    assert same == len(architecture.hidden_widths)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_recorded_network_trains_as_it_does_unrecorded(name, precision):
    trained = []
    for graphed in (False, True):
        torch.manual_seed(0)
        network = NETWORKS[name](SINE).to(CUDA)
        network.standardize.keep_identity()
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
        call = GraphedNetwork(network, adds_gradients=True) if graphed else network
        for step in range(4):
            torch.manual_seed(step)
            batch = make_batch(CUDA, size=6 if step != 2 else 4, seed=step)
            with torch.autocast("cuda", precision, enabled=precision != torch.float32):
                logits = call(batch)
            F.cross_entropy(logits.float(), batch.label).backward()
            if step % 2 == 1:  # the gradients of two batches
                optimizer.step()
                optimizer.zero_grad()
        trained.append(
            torch.cat([x.detach().flatten().float() for x in network.state_dict().values()])
        )
    torch.testing.assert_close(
        *trained, rtol=1e-3, atol=1e-3 if precision is torch.float32 else 1e-2
    )


class Looks(torch.nn.Module):
    """A network that must know its numbers."""

    def forward(self, batch):
        logits = batch.parameters[:, :NUM_CLASSES] * self.factor
        return -logits if bool(logits.sum() > 0) else logits

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(1))


def test_a_network_that_waits_is_named():
    network = GraphedNetwork(Looks().to(CUDA), adds_gradients=False)
    with pytest.raises(DataError, match="Looks cannot be recorded as a CUDA graph"):
        network(make_batch(CUDA))


@pytest.mark.parametrize("compile_mode", [False, "cuda-graph"])
@pytest.mark.parametrize("alignment", ["none", "signed_permutation"])
def test_fits_evaluates_and_is_restored(tmp_path, compile_mode, alignment):
    data = INRDataModule(tiny_spec(), root=str(tmp_path / "data"), batch_size=8)
    torch.manual_seed(0)
    network = DWSNet(data.architecture, 3, 8, 1, dropout=0.1)
    task = ClassificationTask(network, 3, compile=compile_mode)
    trainer = pl.Trainer(
        accelerator="gpu",
        devices=1,
        max_epochs=2,
        default_root_dir=tmp_path,
        callbacks=[MixUp(alignment=alignment)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(task, data)
    [found] = trainer.test(task, data, verbose=False)
    assert 0 <= found["test/accuracy"] <= 1
    path = trainer.checkpoint_callback.best_model_path
    restored = ClassificationTask.load_from_checkpoint(
        path, network=DWSNet(data.architecture, 3, 8, 1)
    )
    for name, value in restored.network.state_dict().items():
        assert torch.equal(value, task.network.state_dict()[name].cpu())
