"""The glossary: every link leads to a section, and the word is used there."""

import functools
import re
from urllib.parse import unquote

import pytest
import run_notebooks

TEXT = (run_notebooks.FOLDER / "GLOSSARY.md").read_text(encoding="utf-8")
ENTRY = re.compile(r"^- \*\*(.+?)\*\*: (.+) \(\[(\d\d) · (.+)\]\((\S+\.ipynb)#(\S+)\)\)$")
ENTRIES = [ENTRY.match(line) for line in TEXT.splitlines() if line.startswith("-")]


@functools.cache
def sections(file):
    """{heading: all that stands under it, code included} of a notebook."""
    found, heading = {}, ""
    for cell in run_notebooks.read(run_notebooks.FOLDER / file).cells:
        pieces = re.split(r"^#+ (.+)$", cell.source, flags=re.M) if cell.cell_type == "markdown" else [cell.source]
        found[heading] = found.get(heading, "") + pieces[0] + "\n"
        for heading, text in zip(pieces[1::2], pieces[2::2], strict=True):
            found[heading] = found.get(heading, "") + text + "\n"
    return found


def test_every_entry_has_the_form_and_stands_once():
    assert len(ENTRIES) > 30 and all(ENTRIES)
    terms = [entry[1] for entry in ENTRIES]
    assert len(set(terms)) == len(terms)
    assert all(len(re.findall(r"[.!?](?=\s|$)", entry[2])) <= 2 for entry in ENTRIES), "two sentences are enough"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry[1])
def test_the_link_leads_to_a_section_that_uses_the_word(entry):
    term, _, number, heading, file, anchor = entry.groups()
    assert file.startswith(number) and unquote(anchor) == heading.replace(" ", "-")
    text = sections(file).get(heading)
    assert text is not None, f"{file} has no section {heading!r}"
    text = text.replace("*", "")
    assert re.search(re.escape(term).replace("\\-", "[-_]"), text, re.I), f"{heading!r} does not say {term!r}"


def test_notebook_00_names_it():
    assert any(
        "(GLOSSARY.md)" in c.source for c in run_notebooks.read(run_notebooks.FOLDER / "00_start_here.ipynb").cells
    )
