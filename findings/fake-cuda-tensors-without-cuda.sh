#!/usr/bin/env bash
# PyTorch's fake tensors on "cuda" cannot be indexed by None, or trained, where PyTorch has no CUDA.
#
# Guess, written down before it was run: FakeTensorMode carries a device without having one, so a
# build of PyTorch for the CPU alone can trace a whole training step on fake "cuda" tensors, which is
# what one wants it for in continuous integration.
#
# Seen with torch 2.13.0+cpu on Python 3.11: fake tensors are made on "cuda", added and multiplied
# there, and unsqueezed. `x[:, None]`, which is the same as `x.unsqueeze(1)`, raises "PyTorch is not
# linked with support for cuda devices", since indexing in Python asks for a guard of the device that
# only CUDA builds have. Training on them ended the process with the same message, by an exception of
# C++ that nobody caught; this script leaves that out. Fake tensors on "meta" can be indexed.
#
# The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6 \
  --extra-index-url https://download.pytorch.org/whl/cpu
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch._subclasses import FakeTensorMode

print("torch", torch.__version__)
assert torch.version.cuda is None, "this is about builds without CUDA"
with FakeTensorMode():
    x = torch.empty(3, 2, device="cuda")
    total = x + 2 * x
    print("made and added on", total.device)
    assert total.device.type == "cuda"
    assert x.unsqueeze(1).shape == (3, 1, 2)
    try:
        x[:, None]
    except RuntimeError as error:
        message = str(error)
    else:
        raise SystemExit("the behaviour has changed: x[:, None] works")
    print("x[:, None]:", message)
    assert "not linked with support for cuda" in message, "the behaviour has changed"
    assert torch.empty(3, 2, device="meta")[:, None].shape == (3, 1, 2)
print("as stated: the same view works by one name and not by the other")
PYTHON
