"""Tests on a GPU run where there is one, with ``TESTS_ON_GPU=1 pytest tests/device``."""

import torch

collect_ignore = [] if torch.cuda.is_available() else ["test_cuda.py"]
