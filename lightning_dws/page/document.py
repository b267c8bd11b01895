"""The page's file: one HTML document that loads nothing and runs nothing but its own code."""

import base64
import hashlib
import html
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from lightning_dws.errors import DataError
from lightning_dws.files import make_directory, write_atomically
from lightning_dws.page.contents import PageContents

# In this order one script: the first three compute and draw, the others are the page.
_COMPUTING = ("inr.js", "alignment.js", "drawing.js")
_PAGE = ("state.js", "slices.js", "rendering.js", "grid.js", "bench.js", "page.js", "check.js")


def write_page(path: Path, contents: PageContents) -> int:
    """Write the page, and give its size in bytes.

    Raises:
        DataError: The file cannot be written.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a folder, expected the name of a file")
    document = make_document(contents).encode(errors="replace")  # names may be no text
    make_directory(path.parent)
    write_atomically(path, document)
    return len(document)


def make_document(contents: PageContents) -> str:
    """Put template, style, code and data together.

    Its policy allows the one style and the one script whose hashes it names, and nothing else: no
    text of a store can become code, and nothing is loaded from anywhere.
    """
    style = _read("page.css")
    script = "\n".join(_read(name) for name in (*_COMPUTING, *_PAGE))
    policy = (
        f"default-src 'none'; script-src '{_sha256(script)}'; style-src '{_sha256(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    pieces = {
        "POLICY": policy,
        "TITLE": html.escape(contents.title),
        "STYLE": style,
        "DATA": _json_in_html(contents.to_dict()),
        "SCRIPT": script,
    }
    parts = _read("page.html").split("@@")  # names are between marks
    return "".join(pieces[part] if odd % 2 else part for odd, part in enumerate(parts))


def _read(name: str) -> str:
    """Read a file of the package, in ASCII: its hash is that of the bytes that are written."""
    return files(__package__).joinpath(name).read_text(encoding="ascii")


def _sha256(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _json_in_html(plain: dict[str, Any]) -> str:
    """Write JSON that no HTML parser takes for markup: it contains no ``<``, ``>`` or ``&``."""
    text = json.dumps(plain, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
