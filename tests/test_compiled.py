import sys
from importlib import import_module
from pathlib import Path
from threading import Event, Thread

import pytest
from filelock import FileLock

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
