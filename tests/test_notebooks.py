"""The notebooks run: every cell of them, on less data, as Python.

In this process and without Jupyter, whose forty packages would be needed for nothing else.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

DOCS = Path(__file__).parents[1] / "docs"
SHORTER = {
    "classify_images": {
        "places[:100]": "places[:12]",
        "places[100:120]": "places[12:20]",
        "Recipe(steps=200": "Recipe(steps=20",
        "max_epochs=20": "max_epochs=1",
        "new[::20]": "new[::8]",
    },
    "mixup_and_alignment": {"Recipe(steps=200": "Recipe(steps=100"},
}


def read_cells(name: str) -> list[dict]:
    return json.loads((DOCS / f"{name}.ipynb").read_text())["cells"]


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")  # nobody looks
@pytest.mark.parametrize("name", SHORTER)
def test_every_cell_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.mkdtemp", lambda: str(tmp_path))
    plt.switch_backend("Agg")
    code = ["".join(cell["source"]) for cell in read_cells(name) if cell["cell_type"] == "code"]
    text = "\n\n".join(code)
    for long, short in SHORTER[name].items():
        assert long in text
        text = text.replace(long, short)
    with plt.rc_context():
        exec(compile(text, f"{name}.ipynb", "exec"), {"__name__": "__main__"})
    assert plt.get_fignums()
    plt.close("all")


@pytest.mark.parametrize("name", SHORTER)
def test_what_is_shown_was_run(name):
    """All cells one after another, without errors and without this machine's paths."""
    cells = [cell for cell in read_cells(name) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert "/site-packages/" not in json.dumps(outputs)
