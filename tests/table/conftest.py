import pytest
from table_command import TinyTable


@pytest.fixture
def table(tmp_path) -> TinyTable:
    return TinyTable(tmp_path)
