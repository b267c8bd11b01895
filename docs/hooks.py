"""Hooks of mkdocs: files of the repository that pages link to are part of the site."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PATTERNS = ("results/*/report.md", "results/*/results.csv", "results/*/figures/*", "CITATION.cff")
# Pages that are files of the repository, and where links to others lead.
COPIES = {"measured.md": "benchmarks/RESULTS.md", "changelog.md": "CHANGELOG.md"}
PLACES = {"CONTRIBUTING.md": "own_code.md", **{path: page for page, path in COPIES.items()}}
_OUTSIDE = re.compile(r"\]\((?:\.\./)+([^)#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reports and their figures, at the places that they have in the repository."""
    for path in sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern)):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in the copies, and let links that leave ``docs`` lead to places in the site."""
    if page.file.src_uri in COPIES:
        markdown = (ROOT / COPIES[page.file.src_uri]).read_text()
    return _OUTSIDE.sub(lambda link: f"]({_place(link[1])}", markdown)


def _place(path: str) -> str:
    return PLACES.get(path, path.removeprefix("docs/"))
