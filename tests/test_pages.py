"""Pages and notebooks: what they link to and what they name is there, terms are explained, plans add up."""

import functools
import importlib
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import run_notebooks

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = run_notebooks.FOLDER
PAGES = [*(ROOT / name for name in ("README.md", "data/README.md", "benchmarks/README.md")), *ROOT.glob("docs/*.md")]
PAGES += sorted([*NOTEBOOKS.glob("*.md"), *NOTEBOOKS.glob("*.ipynb")])
LINK = re.compile(r"\[[^\]]*\]\(((?!https?:)[^)\s]*)\)")
GUIDE = (NOTEBOOKS / "INSTRUCTORS.md").read_text(encoding="utf-8")
ENTRY = re.compile(r"^- \*\*(.+?)\*\*: (.+) \(\[(\d\d) · (.+)\]\((\S+\.ipynb)#(\S+)\)\)$")
ENTRIES = [
    ENTRY.match(line) or line
    for line in (NOTEBOOKS / "GLOSSARY.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("-")
]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@functools.cache
def text_of(path):
    """What a page says; of a notebook, its markdown."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    return "\n".join(cell.source for cell in run_notebooks.read(path).cells if cell.cell_type == "markdown")


def anchors(path):
    """The names by which headings are linked to: as Jupyter makes them in a notebook, as GitHub does in a page."""
    found = re.findall(r"^#+ (.+)$", text_of(path), re.M)
    if path.suffix == ".ipynb":
        return {heading.replace(" ", "-") for heading in found}
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@every_page
def test_links_lead_to_a_file_and_to_a_heading_of_it(page):
    for link in LINK.findall(text_of(page)):
        file, _, anchor = unquote(link).partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{link}: there is no {file}"
        assert not anchor or anchor in anchors(target), f"{link}: {target.name} has no such heading"


@every_page
def test_files_commands_and_functions_that_it_names_exist(page):
    text = text_of(page)
    targets = " ".join(re.findall(r"^([a-z -]+):", (ROOT / "Makefile").read_text(), re.M)).split()
    named = re.findall(r"(?:^    |`)(?:[A-Z_]+=\S+ )*make ([a-z-]+)", text, re.M)
    assert set(named) <= set(targets)
    for file in re.findall(r"(?:^|[ `(])((?:benchmarks|tools|docs|tests|data|baize_nb)/[\w/.-]+\.\w+)", text):
        assert (ROOT / file).is_file(), file
    for module, names in re.findall(r"(?<![\w./])(\w+)\.([A-Za-z_][\w.]*)[`(]", text):
        if not (ROOT / "baize_nb" / module).is_dir() and not (ROOT / "baize_nb" / f"{module}.py").is_file():
            continue
        found = importlib.import_module(f"baize_nb.{module}")
        for name in names.rstrip(".").split("."):
            found = getattr(found, name, None)
            assert found is not None or f"{module}.{names}".endswith((".py", ".json", ".jsonl")), f"{module}.{names}"


@functools.cache
def sections(file):
    """{heading: all that stands under it, code included} of a notebook."""
    found, heading = {}, ""
    for cell in run_notebooks.read(NOTEBOOKS / file).cells:
        pieces = re.split(r"^#+ (.+)$", cell.source, flags=re.M) if cell.cell_type == "markdown" else [cell.source]
        found[heading] = found.get(heading, "") + pieces[0] + "\n"
        for heading, text in zip(pieces[1::2], pieces[2::2], strict=True):
            found[heading] = found.get(heading, "") + text + "\n"
    return found


def test_every_entry_of_the_glossary_leads_to_a_section_that_uses_the_word():
    assert len({entry[1] for entry in ENTRIES}) == len(ENTRIES) > 30
    for term, said, number, heading, file, anchor in (entry.groups() for entry in ENTRIES):
        assert len(re.findall(r"[.!?](?=\s|$)", said)) <= 2, f"{term}: two sentences are enough"
        assert file.startswith(number) and unquote(anchor) == heading.replace(" ", "-")
        text = sections(file).get(heading, "").replace("*", "")
        assert re.search(re.escape(term).replace("\\-", "[-_]"), text, re.I), f"{heading!r} does not say {term!r}"
    assert "(GLOSSARY.md)" in text_of(NOTEBOOKS / "00_start_here.ipynb")


def section(title):
    """The text of the instructors' guide under a heading of level 2."""
    return re.search(rf"^## {title}.*?\n(.+?)(?=^## |\Z)", GUIDE, re.M | re.S)[1]


def test_plans_add_up_and_name_sections_that_exist():
    clock = 0
    for hours, minutes, long in re.findall(r"^\| (\d):(\d\d) \| (\d+) \|", section("Half a day"), re.M):
        assert clock == 60 * int(hours) + int(minutes), f"{hours}:{minutes} is not when the row before ends"
        clock += int(long)
    assert clock == 240
    rows = re.findall(r"^\| (\d) \| (\d+) \|", section("Two days"), re.M)
    assert [sum(int(long) for day, long in rows if day == number) for number in "12"] == [360, 360]
    assert sum(map(int, re.findall(r"^\| (\d+) \|", section("A third day"), re.M))) == 360
    headings = [heading for path in NOTEBOOKS.glob("0*.ipynb") for heading in sections(path.name)]
    named = re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", section("Half a day") + section("A third day"))
    assert len(named) > 30
    assert [name for name in named if not any(heading.startswith(name) for heading in headings)] == []
