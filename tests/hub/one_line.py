import pytest

from lightning_dws.cli import main


def fails_in_one_line(words, capsys) -> str:
    """Run a command that fails as it should; give what it says."""
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error
