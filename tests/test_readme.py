"""The README holds: its Python runs, its commands are understood, its links lead somewhere."""

import re
from pathlib import Path

import pytest

from lightning_dws.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"python main\.py (fit|test|predict)((?: [^`\n]+)?)", README)))


def test_its_python_runs():
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["psnr"].shape == (16,)
    assert names["images"].shape == (16, 64, 1)
    assert names["logits"].shape == (16, 10)


@pytest.mark.parametrize(("command", "options"), COMMANDS, ids=lambda part: part.strip())
def test_its_commands_are_understood(command, options, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    words = [word for word in options.split() if word not in ("--help", "PATH", "--ckpt_path")]
    with pytest.raises(SystemExit) as stop:
        main([command, *words, "--print_config" if words else "--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out


def test_its_tables_are_understood(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    commands = set(re.findall(r"python main\.py (table [^`\n]+)", README))
    assert commands
    for command in commands:
        main([*command.split(), "--dry_run", "--results_root", "none"])
        assert "left" in capsys.readouterr().out


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target
