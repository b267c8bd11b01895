import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from threading import Event, Thread

import pytest
from filelock import FileLock

import lightning_dws

HEAD = "from lightning_dws.compiled import compiled\n"
CALLEE = HEAD + "@compiled\ndef give(x):\n    return x + {}\n"
CALLER = HEAD + "from {} import {}\n@compiled\ndef {}(x):\n    return {}(x)\n"


def ask(names: list[str]) -> int:
    """Load the modules anew, as another process would, and call the last one's function."""
    for name in names:
        sys.modules.pop(name, None)
    found: int = import_module(names[-1]).ask(1)
    return found


def test_what_was_compiled_is_forgotten_when_a_file_changes_of_what_it_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["callee_of_a_kernel", "caller_of_it", "caller_of_the_caller"]
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{names[0]}.py").write_text(CALLEE.format(1))
    (tmp_path / f"{names[1]}.py").write_text(CALLER.format(names[0], "give", "hand_on", "give"))
    (tmp_path / f"{names[2]}.py").write_text(CALLER.format(names[1], "hand_on", "ask", "hand_on"))
    try:
        assert ask(names) == 2
        (tmp_path / f"{names[0]}.py").write_text(CALLEE.format(10))
        assert ask(names) == 11
    finally:
        for name in names:
            sys.modules.pop(name, None)


def test_a_process_waits_for_the_one_that_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "kernel_of_two.py").write_text(CALLEE.format(1))
    module = import_module("kernel_of_two")
    other = FileLock(Path(module.give._cache.cache_path) / "kernel_of_two.give.lock")
    ended = Event()

    def call() -> None:
        module.give(1)
        ended.set()

    thread = Thread(target=call)
    try:
        with other:
            thread.start()
            assert not ended.wait(1)
        assert ended.wait(60)
    finally:
        thread.join()
        sys.modules.pop("kernel_of_two")


FORKS = """
import multiprocessing, kernel_of_a_parent
child = multiprocessing.get_context("fork").Process(target=kernel_of_a_parent.give, args=(1,))
child.start()
child.join()
raise SystemExit(child.exitcode)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_a_forked_process_compiles_what_its_parent_imported(tmp_path: Path) -> None:
    (tmp_path / "kernel_of_a_parent.py").write_text(CALLEE.format(1))
    root = Path(lightning_dws.__file__).parent.parent
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    ran = subprocess.run(
        [sys.executable, "-c", FORKS], env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
