import os
import subprocess
import sys

import pytest

from lightning_dws.process_pool import Died, map_in_processes


def square_or_die(item: int) -> int:
    if item in (3, 7):
        os._exit(1)
    return item * item


def test_in_this_process():
    assert list(map_in_processes(abs, [-1, 2], 0)) == [(-1, 1), (2, 2)]


@pytest.mark.parametrize("num_processes", [1, 2])
def test_an_item_that_kills_its_process_harms_no_other(num_processes):
    found = dict(map_in_processes(square_or_die, range(12), num_processes))
    assert sorted(found) == list(range(12))
    for item, result in found.items():
        if item in (3, 7):
            assert isinstance(result, Died)
        else:
            assert result == item * item


def test_processes_that_cannot_start_are_one_error(tmp_path):
    script = (
        "from lightning_dws.process_pool import map_in_processes\n"
        "if __name__ == '__main__':\n"
        "    print(list(map_in_processes(abs, [1], 1)))\n"
    )
    piped = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True)
    assert piped.returncode == 1
    assert "DataError: processes that sample shapes cannot be started" in piped.stderr
    (tmp_path / "script.py").write_text(script)
    filed = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True)
    assert filed.stdout == "[(1, 1)]\n"


def test_an_error_is_raised_here():
    with pytest.raises(TypeError):
        list(map_in_processes(len, [1], 1))
