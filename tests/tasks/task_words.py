"""The words of short runs, and what they leave."""

import torch

FIT = [
    "--data.dataset.signals=tiny.Blobs",
    "--data.dataset.architecture.widths=[2,6,5,1]",
    '--data.dataset.recipe={"steps": 10, "learning_rate": 0.005}',
    *("--data.batch_size=4", "--data.views=2", "--trainer.max_epochs=3"),
    *("--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1"),
    *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
]
NETWORK = ["--model.network=tiny.FlatMLP"]
NOISE = ['--data.augmentations=[{"class_path": "tiny.AddNoise", "init_args": {"p": 0.7}}]']
EVERY_STEP = [
    *("--checkpoint.monitor=null", "--checkpoint.save_top_k=-1", "--test_after_fit=false"),
    *("--checkpoint.every_n_train_steps=1", "--checkpoint.filename={step}"),
]


def places(tmp_path):
    return [f"--data.root={tmp_path / 'data'}", f"--trainer.default_root_dir={tmp_path / 'runs'}"]


def checkpoints(tmp_path, version=0):
    return tmp_path / "runs" / "run" / f"version_{version}" / "checkpoints"


def same(a, b) -> bool:
    """Whether two checkpoints hold the same weights and moments, bit for bit."""
    first, second = (torch.load(path, weights_only=True) for path in (a, b))
    return str(first["optimizer_states"]) == str(second["optimizer_states"]) and all(
        torch.equal(value, second["state_dict"][name])
        for name, value in first["state_dict"].items()
    )
