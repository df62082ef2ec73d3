"""Every link between the project's pages and notebooks leads to a file, and to a heading where it names one."""

import functools
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import run_notebooks

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*(ROOT / name for name in ("README.md", "data/README.md", "benchmarks/README.md")), *ROOT.glob("docs/*.md")]
PAGES += sorted([*run_notebooks.FOLDER.glob("*.md"), *run_notebooks.FOLDER.glob("*.ipynb")])
LINK = re.compile(r"\[[^\]]*\]\(((?!https?:)[^)\s]*)\)")


@functools.cache
def texts(path):
    """What a page says; of a notebook, its markdown."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    return "\n".join(cell.source for cell in run_notebooks.read(path).cells if cell.cell_type == "markdown")


def anchors(path):
    """The names by which headings are linked to: as Jupyter makes them in a notebook, as GitHub does in a page."""
    found = re.findall(r"^#+ (.+)$", texts(path), re.M)
    if path.suffix == ".ipynb":
        return {heading.replace(" ", "-") for heading in found}
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in LINK.findall(texts(page)):
        file, _, anchor = unquote(link).partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{link}: there is no {file}"
        assert not anchor or anchor in anchors(target), f"{link}: {target.name} has no such heading"


def test_there_are_links_to_check():
    assert sum(len(LINK.findall(texts(page))) for page in PAGES) > 100
