import json
import tempfile

from filelock import FileLock
from table_command import write_garbage_collection

from lightning_dws.table.processes import remove_folders_left_behind, start_process


def test_folders_of_killed_tables_are_removed_and_those_of_others_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, running, foreign = (
        tmp_path / name for name in ("lightning_dws-table-a", "lightning_dws-table-b", "pymp-c")
    )
    for folder in (killed, running, foreign):
        folder.mkdir()
        (folder / "lock").touch()
        (folder / "socket").touch()
    with FileLock(running / "lock"):
        remove_folders_left_behind()
        assert sorted(tmp_path.iterdir()) == [running, foreign]
    remove_folders_left_behind()
    assert list(tmp_path.iterdir()) == [foreign]


def test_a_process_looks_for_garbage_among_its_own_objects_alone(tmp_path):
    path = tmp_path / "found.json"
    start_process(write_garbage_collection, (path,), None).join(60)
    found = json.loads(path.read_text())
    assert found["enabled"]
    assert found["kept"] > 100_000
