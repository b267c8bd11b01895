"""Imports of the package run one way: down its layers, and in no circle.

An import counts wherever it stands: in a function or for type checkers alone, too.
"""

import ast
import re
from collections import Counter
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "lightning_dws"
FOLDER = Path(__file__).parents[1] / PACKAGE

# From the ground up; rooms of one line do not know each other.
LAYERS = (
    "errors counting compiled devices fourier_encoding parallel randomness sine_kernel program "
    "help_texts",
    "help_texts inr_modules suggestions startup",
    "parse_errors",
    "weight_space",
    "inrs.siren",
    "models augmentations",
    "files figures config_files process_pool progress",
    "hub plain_checkpoints",
    "checkpoints option_checks",
    "runs",
    "inrs.signals inrs.fitting",
    "inrs.store inrs.shapes inrs.sounds",
    "inrs.preparation inrs.formats inrs.pictures",
    "inrs",
    "zoo",
    "mixup",
    "canonical",
    "data callbacks",
    "tasks",
    "resuming saved_settings run_messages training_length plugins distributed",
    "prediction",
    "page",
    "lightning_cli",
    "commands table",
    "sweep",
    "dispatch",
    "cli",
)
LAYER_OF = {room: number for number, layer in enumerate(LAYERS) for room in layer.split()}

# A room's door, what its others derive from, and how what it has is drawn.
SAME_FOR_EACH = {"__init__.py", "base.py", "pictures.py"}

Graph = dict[str, set[str]]


def read_sources() -> dict[str, str]:
    """Give the text of every module by its name in the package: ``inrs.store`` is its door."""
    sources = {}
    for path in FOLDER.rglob("*.py"):
        parts = path.relative_to(FOLDER).with_suffix("").parts
        sources[".".join(part for part in parts if part != "__init__")] = path.read_text()
    return sources


def read_imports(sources: Mapping[str, str]) -> Graph:
    """Give what each module imports of the package."""
    return {name: _imports_of(text, sources) - {name} for name, text in sources.items()}


def _imports_of(text: str, known: Mapping[str, str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # what is imported from a folder is one of its modules, or is in its door
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            inside = [(name if _inside(name) in known else node.module or "") for name in names]
        elif isinstance(node, ast.Import):
            inside = [alias.name for alias in node.names]
        else:
            continue
        found |= {_inside(name) for name in inside if name.split(".")[0] == PACKAGE}
    return found


def _inside(name: str) -> str:
    return name.removeprefix(PACKAGE).removeprefix(".")


def room_of(module: str) -> str:
    """Give the room that a module is in, or is."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (room := ".".join(parts[:length])) in LAYER_OF:
            return room
    raise AssertionError(f"{module or PACKAGE} is in no layer of this test: give it one")


def find_circle(graph: Graph) -> list[str]:
    """Give modules that import each other, the first again at the end; none if there are none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def find_upward(graph: Graph) -> list[str]:
    """Give the imports between rooms that do not run down."""
    return [
        f"{module} -> {imported}"
        for module, all_imported in graph.items()
        for imported in all_imported
        if module  # the package's own door is above all
        if room_of(module) != room_of(imported)
        if LAYER_OF[room_of(module)] <= LAYER_OF[room_of(imported)]
    ]


def test_imports_run_down_and_in_no_circle():
    graph = read_imports(read_sources())
    assert find_circle(graph) == []
    assert find_upward(graph) == []


@pytest.mark.parametrize(
    "back",
    [
        "import lightning_dws.a",
        "from lightning_dws import a",
        "from lightning_dws.a import something",
        "def later():\n    from lightning_dws.a import something",
        "if TYPE_CHECKING:\n    from lightning_dws.a import Something",
    ],
)
def test_a_circle_is_found_wherever_the_import_stands(back):
    sources = {"": "", "a": "from lightning_dws.b import c", "b": "", "b.c": back}
    assert find_circle(read_imports(sources | {"b.c": ""})) == []
    assert set(find_circle(read_imports(sources))) == {"a", "b.c"}


@pytest.mark.parametrize(
    ("module", "line", "found"),
    [
        ("weight_space", "from lightning_dws.models import DWSNet", "weight_space -> models"),
        ("models.dwsnet", "from lightning_dws.inrs import INRStore", "models.dwsnet -> inrs"),
        ("augmentations.base", "import lightning_dws.files", "augmentations.base -> files"),
        ("data.sampler", "from lightning_dws import callbacks", "data.sampler -> callbacks"),
    ],
)
def test_an_import_of_this_package_that_runs_up_is_found(module, line, found):
    sources = read_sources()
    assert find_upward(read_imports(sources | {module: f"{sources[module]}\n{line}\n"})) == [found]


def test_a_circle_put_into_this_package_is_found():
    sources = read_sources()
    line = "def later():\n    from lightning_dws.cli import main\n"
    graph = read_imports(sources | {"table.worker": f"{sources['table.worker']}\n{line}"})
    assert {"cli", "table.worker"} <= set(find_circle(graph))


def test_the_map_of_contributing_shows_every_room_in_its_layer():
    text = (FOLDER.parent / "CONTRIBUTING.md").read_text()
    [shown] = re.findall(r"## The map\n.*?```\n(.*?)```", text, re.DOTALL)
    rooms = [room for line in shown.splitlines() for room in re.split("  |: ", line)[0].split(", ")]
    assert sorted(rooms) == sorted(LAYER_OF)
    assert rooms == sorted(rooms, key=LAYER_OF.__getitem__)


def test_a_name_means_one_thing():
    names = Counter(path.name for path in FOLDER.rglob("*.py"))
    assert {name for name, count in names.items() if count > 1} <= SAME_FOR_EACH


def test_rooms_have_few_entries():
    entries = {path.name for path in (FOLDER / "inrs").iterdir()} - {"__init__.py", "__pycache__"}
    assert len(entries) <= 10


def test_files_are_short():
    lengths = {
        str(path.relative_to(FOLDER)): len(path.read_text().splitlines())
        for path in FOLDER.rglob("*.py")
    }
    assert not {name for name, length in lengths.items() if length > 350}
