"""The README and the pages hold: Python runs, commands are understood, links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from saved import save_network

from lightning_dws.cli import main
from lightning_dws.table import command as table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {path: path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
TEXT = "\n".join(PAGES.values())
COMMANDS = sorted(set(re.findall(r"python main\.py (fit|test|predict)((?: [^`\n]+)?)", TEXT)))


def python_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGES[ROOT / page], re.DOTALL)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_python_of_the_readme_runs():
    [code] = python_of("README.md")
    names: dict[str, object] = {}
    exec(code, names)
    assert names["psnr"].shape == (16,)
    assert names["logits"].shape == (8, 10)


def test_python_of_the_page_of_networks_runs(tmp_path, monkeypatch):
    """Its blocks one after another, in one session, as a reader's."""
    monkeypatch.chdir(tmp_path)
    save_network(tmp_path / "runs" / "quickstart" / "version_0" / "checkpoints" / "best.ckpt")
    names: dict[str, object] = {}
    for code in python_of("docs/own_networks.md"):
        exec(code, names)
    assert names["psnr"].shape == (16,)
    assert names["logits"].shape == (16, 10)
    assert len(names["predictions"]) == 16


def test_python_of_the_page_of_cnns_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code in python_of("docs/own_cnns.md"):
        exec(code, names)
    assert names["logits"].shape == (40, 2)
    torch.testing.assert_close(names["same"], names["outputs"], rtol=1e-4, atol=1e-5)
    found = [f"| `{s.name}` | {s.shape} | `{s.axes}` |" for s in names["architecture"].tensors]
    page = PAGES[ROOT / "docs/own_cnns.md"].replace('"', "'")
    assert all(row in page for row in found)
    assert names["residual"].groups == {"stream": 8, "inner": 16}


@pytest.mark.parametrize(("command", "options"), COMMANDS, ids=lambda part: part.strip())
def test_commands_are_understood(command, options, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    given = options.replace("my_package.MyNetwork", "tiny.FlatMLP").split()
    words = [word for word in given if word not in ("--help", "PATH", "last", "--ckpt_path")]
    prints_config = words and "--data" not in words
    with pytest.raises(SystemExit) as stop:
        main([command, *words, "--print_config" if prints_config else "--help"])
    assert stop.value.code == 0
    assert capsys.readouterr().out


def test_tables_are_understood(monkeypatch, capsys):
    monkeypatch.setattr(table, "find_refused", lambda *cells: {})  # a second for each row
    monkeypatch.chdir(ROOT)
    commands = set(re.findall(r"python main\.py (table [^`\n]+)", TEXT))
    assert commands
    for command in commands:
        main([*command.split(), "--dry_run", "--results_root", "none"])
        assert "left" in capsys.readouterr().out


def test_links_lead_somewhere():
    for page, text in PAGES.items():
        for target in re.findall(r"\]\((?!http)([^)#]+)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded = re.compile(r'<(?:script|link|img)[^>]*(?:src|href)="(https?://[^"]*)"')
    for page in tmp_path.rglob("*.html"):
        outside = [url for url in loaded.findall(page.read_text()) if "rel=" not in url]
        assert not outside, page
    assert "align" in (tmp_path / "api" / "mixup" / "index.html").read_text()
