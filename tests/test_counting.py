"""Messages that count say it rightly of one thing, too."""

import re
from pathlib import Path

from lightning_dws.counting import counted

PACKAGE = Path(__file__).parents[1] / "lightning_dws"
THINGS = "INRs|networks|files|objects|images|arrays|meshes|cells|views|classes|shards|seeds|trials"
# a plain number before things of which there may be one; Python's own names are no messages
UNCOUNTED = re.compile(rf"\{{(?:len\([^{{}}]*\)|num_\w+|count)\}} (?:[a-z]+ )?(?:{THINGS})\b")


def test_one_thing_is_no_things():
    assert counted(1, "INR is", "INRs are") == "1 INR is"
    assert counted(0, "mesh", "meshes") == "0 meshes"


def test_no_message_counts_by_itself():
    found = {
        f"{path.relative_to(PACKAGE)}: {match[0]}"
        for path in PACKAGE.rglob("*.py")
        for match in UNCOUNTED.finditer(path.read_text())
    }
    assert not found, "lightning_dws.counting writes one thing and several"
