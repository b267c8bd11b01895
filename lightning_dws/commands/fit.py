"""The command ``inrs fit``: on one device, on many through Lightning Fabric, or as a part."""

import os
import sys
from datetime import timedelta
from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from lightning_dws.devices import find_device
from lightning_dws.inrs.preparation import INRDatasetSpec, Wanted
from lightning_dws.inrs.preparation.plan import Part, make_plan
from lightning_dws.inrs.preparation.prepare import Fitter
from lightning_dws.inrs.store import INRStore
from lightning_dws.inrs.store.shards import INDEX_NAME
from lightning_dws.inrs.store.verification import describe_low
from lightning_dws.parse_errors import ArgumentParser

_SPLITS = {f"num_{split}_objects": split for split in ("train", "val", "test")}
_LONGEST_FIT = timedelta(days=30)  # that a process which is ready waits for the others


def fit_parser() -> ArgumentParser:
    """Make the parser of ``inrs fit``."""
    parser = ArgumentParser(description="Fit a dataset of INRs; what is fitted already is kept.")
    parser.add_argument("--config", action="config", help="a file such as conf/inrs/digits.yaml")
    parser.add_class_arguments(INRDatasetSpec)
    parser.add_argument("--root", type=str, default="data", help="folder under which stores live")
    parser.add_argument("--store", type=str | None, default=None, help="the store's own name")
    parser.add_argument(
        "--views", type=PositiveInt, default=1, help="neural views per training object"
    )
    for name, split in _SPLITS.items():
        parser.add_argument(
            f"--{name}", type=PositiveInt | None, default=None, help=f"only so many {split} objects"
        )
    parser.add_argument(
        "--device", type=str, default="auto", help="where to fit: cpu, cuda, cuda:1, auto"
    )
    parser.add_argument(
        "--devices", type=PositiveInt, default=1, help="processes of this host, each on a device"
    )
    parser.add_argument(
        "--num_nodes", type=PositiveInt, default=1, help="hosts, under SLURM or 'fabric run'"
    )
    parser.add_argument(
        "--part",
        type=str | None,
        default=None,
        help="K/N: fit the K-th of N disjoint parts; the last one to finish publishes the store",
    )
    parser.add_argument(
        "--chunk_size",
        type=PositiveInt | None,
        default=None,
        help="INRs at once, per thread or GPU, which bounds the memory (default: by their size)",
    )
    return parser


def run_fit(options: Namespace) -> None:
    """Fit what is asked for and print the store's folder.

    Args:
        options: Of ``fit_parser``, instantiated.

    Raises:
        DataError: See ``prepare_store``.
        ValueError: An option that is wrong.
    """
    spec = INRDatasetSpec(
        options.signals, options.architecture, options.recipe, options.seed, options.recipe_changes
    )
    directory = Path(options.root) / (options.store or spec.store_name)
    wanted = Wanted(
        {split: options[name] for name, split in _SPLITS.items()}, {"train": options.views}
    )
    part = Part.parse(options.part) if options.part else None
    if options.devices > 1 or options.num_nodes > 1 or _is_launched():
        _fit_with_fabric(directory, spec, wanted, part or Part(1, 1), options)
        return
    device = find_device(options.device, "device")
    plan = make_plan(directory, spec, wanted)
    fitter = Fitter(plan, device=device, chunk_size=options.chunk_size)
    if part is not None:
        fitter.fit_part(part)
    if part is None or plan.is_finished():
        fitter.finish_store()
    _report(directory, part)


def _fit_with_fabric(
    directory: Path, spec: INRDatasetSpec, wanted: Wanted, part: Part, options: Namespace
) -> None:
    """Share the work among processes; the first one publishes the store."""
    accelerator = {"cuda": "gpu"}.get(options.device, options.device)
    if accelerator not in ("auto", "cpu", "gpu"):
        raise ValueError(f"device must be cpu, cuda or auto with several, got {options.device!r}")
    fabric = Fabric(
        accelerator=accelerator,
        devices=options.devices,
        num_nodes=options.num_nodes,
        strategy=DDPStrategy(timeout=_LONGEST_FIT),
    )
    fabric.launch()
    first = fabric.global_rank == 0
    plan = make_plan(directory, spec, wanted, show_progress=first)
    fitter = Fitter(plan, device=fabric.device, chunk_size=options.chunk_size, show_progress=first)
    fitter.fit_part(part.share(fabric.global_rank, fabric.world_size))
    fabric.barrier()
    if first:
        if plan.is_finished():
            fitter.finish_store()
        _report(directory, part)
    fabric.barrier()


def _report(directory: Path, part: Part | None) -> None:
    if part is not None and not (directory / INDEX_NAME).is_file():
        sys.stderr.write(f"part {part} is finished; the last part publishes the store\n")
    if (directory / INDEX_NAME).is_file():
        for line in describe_low(INRStore(directory)):
            sys.stderr.write(f"{line}\n")
    sys.stdout.write(f"{directory}\n")


def _is_launched() -> bool:
    """Whether ``fabric run`` or SLURM has started several of this process."""
    tasks = os.environ.get("SLURM_NTASKS", "1")
    in_job = tasks.isdigit() and int(tasks) > 1 and "SLURM_PROCID" in os.environ
    return in_job or os.environ.get("LT_CLI_USED") == "1"
