import pytest
from table_command import TinyTable

from lightning_dws.table import command


@pytest.fixture
def table(tmp_path) -> TinyTable:
    return TinyTable(tmp_path)


@pytest.fixture(autouse=True)
def rows_are_not_tried(request, monkeypatch) -> None:
    """Spare a process that tries the rows of each table, but where that is what is tested."""
    if request.module.__name__ != "test_row_checks":
        monkeypatch.setattr(command, "find_refused", lambda *cells: {})
