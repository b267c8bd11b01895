#!/usr/bin/env bash
# Numba's cache on disk can link a cached function to another one's helper, silently.
#
# Guess, written down before it was run: one factory makes two compiled helpers that differ in a
# captured value, and each is called by a function of its own with cache=True. Numba's page on
# caching says that what a closure captures is part of the cache's key, and each helper is in the
# file of its caller; so whoever loads both callers gets what each computed when it was compiled.
#
# Seen with numba 0.68.1, llvmlite 0.50.0 on Python 3.11: after "first" was compiled in one process
# and "second" in another, a third process that calls both from the cache gets the helper of
# whichever it calls first in BOTH: 9 and 9, or 90 and 90, for 9 and 90. There is no error
# or warning; alone each is right, and so are both once one process has compiled the two. A helper's
# symbol is its qualified name, the types of its arguments and a number that counts what a process
# has compiled, so that two helpers of one factory get one name in two processes. It needs a helper
# that LLVM does not inline. A __qualname__ of its own for each helper, set before njit sees it,
# helps. (https://github.com/numba/numba/issues/10486 has it for forked processes, where it ends in
# errors of compilation.)
#
# Kernels specialised by a factory (for a number of channels, an activation, an operation) are common
# in code for weights and graphs, and tests pass: they compile all in one process.
#
# The script fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numba==0.68.1 numpy==2.4.6
cd "$folder"
cat > helpers.py <<'PYTHON'
import math

from numba import njit


def make(scale, name=None):
    def weighted_sum(values):
        total = 0.0
        for x in values:
            for shift in range(3):
                total += scale * (math.sin(x + shift) ** 2 + math.cos(x + shift) ** 2)
                total += 0.0 * math.exp(-x * x) * math.tanh(x) * math.atan2(x, 1.0 + shift)
        return total

    weighted_sum.__qualname__ = name or weighted_sum.__qualname__
    return njit(weighted_sum)


ones, tens = make(1.0), make(10.0)
named_ones, named_tens = make(1.0, "ones"), make(10.0, "tens")
PYTHON
cat > first.py <<'PYTHON'
from helpers import named_ones, ones
from numba import njit


@njit(cache=True)
def first(values):
    return ones(values) + ones(values[1:])


@njit(cache=True)
def named_first(values):
    return named_ones(values) + named_ones(values[1:])
PYTHON
sed 's/ones/tens/g; s/first/second/g' first.py > second.py
export NUMBA_CACHE_DIR="$folder/cache"
run() {
  "$folder/venv/bin/python" -c "
import numpy as np
from first import first, named_first
from second import named_second, second
values = np.full(2, 0.5)
print(*(round(float(function(values)), 9) for function in ($1,)))"
}
expect() {
  found=$(run "$1")
  echo "$1: $found"
  [ "$found" = "$2" ] || { echo "the behaviour has changed: expected $2"; exit 1; }
}
"$folder/venv/bin/python" -c "import numba; print('numba', numba.__version__)"
echo "compiled, each in a process of its own"
expect first 9.0
expect second 90.0
expect named_first 9.0
expect named_second 90.0
echo "from the cache"
expect first 9.0
expect second 90.0
expect "first, second" "9.0 9.0"
expect "second, first" "90.0 90.0"
expect "named_first, named_second" "9.0 90.0"
rm -rf "$NUMBA_CACHE_DIR"
echo "compiled by one process, and then from the cache"
expect "first, second" "9.0 90.0"
expect "first, second" "9.0 90.0"
echo "as stated: of two helpers of one factory, the first that is called stands in for both"
