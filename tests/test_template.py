"""The template that every notebook follows, rule by rule, and that each rule can fail.

A rule takes a notebook and yields (cell number from 0, or None, complaint with its remedy). test_notebooks.py holds the
canonical form; here is what an author writes.
"""

import ast
import re

import pytest
import run_notebooks
from nbformat.v4 import new_output
from test_notebooks import COMMITTED

START = run_notebooks.read(COMMITTED[0])
SETUP, SETTINGS = (cell.source for cell in START.cells[2:4])
CLOSING = ["What we built", "What Baize did differently", "Where it breaks", "Next"]
SECRET = re.compile(r"\b(sk-[\w-]{16,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{12,})")
BASE64 = re.compile(r"base64,[A-Za-z0-9+/=\s]+")


def headings(notebook, wanted):
    """[(number of the cell, text)] of the markdown headings of a level."""
    cells = [(i, c.source) for i, c in enumerate(notebook.cells) if c.cell_type == "markdown"]
    return [(i, text) for i, said in cells for marks, text in re.findall(r"^(#+) (.+)$", said, re.M) if marks == wanted]


def opening(notebook):
    match = re.fullmatch(r"# (\d\d · )?.+\n\n(.+)", notebook.cells[0].source)
    if notebook.cells[0].cell_type != "markdown" or not match or len(re.findall(r"[.!?](?=\s|$)", match[2])) != 1:
        yield 0, "begin with `# NN · Title`, an empty line and one sentence: what you will have at the end"


def table(notebook):
    rows = dict(re.findall(r"^\| \*\*(\w+)\*\* \| (.+) \|$", notebook.cells[1].source, re.M))
    for name in ("Objectives", "Minutes", "Needs", "Writes"):
        if name not in rows:
            yield 1, f"the table lacks the row `| **{name}** | … |`"
    if "Objectives" in rows and not 3 <= len(rows["Objectives"].split(" · ")) <= 5:
        yield 1, "give three to five objectives, with ` · ` between them"
    if "Minutes" in rows and not re.search(r"\d", rows["Minutes"]):
        yield 1, "say how many minutes it takes"


def set_up(notebook):
    for i, right in ((2, SETUP), (3, SETTINGS)):
        if notebook.cells[i].cell_type != "code" or notebook.cells[i].source != right:
            yield i, f"copy this cell from notebook 00, letter by letter; it begins {right.splitlines()[0]!r}"


def exercises(notebook):
    """At least three, numbered, each with a stub and a call of its check. Notebook 00 has none."""
    if notebook.cells[0].source.startswith("# 00"):
        return
    start = next((i for i, text in headings(notebook, "##") if text == "Your turn"), None)
    if start is None:
        yield None, "add the section `## Your turn` with three exercises"
        return
    parts, number = {}, 0
    for cell in notebook.cells[start:]:
        if cell.cell_type == "markdown":
            number = next((int(n) for n in re.findall(r"^\*\*Exercise (\d+) · .+?\*\*", cell.source, re.M)), 0)
        elif number:
            parts[number] = f"{parts.get(number, '')}\n{cell.source}"
    if list(parts) != list(range(1, len(parts) + 1)) or len(parts) < 3:
        yield start, f"number three exercises or more `**Exercise 1 · title.** …`; found {list(parts)}"
    for number, said in parts.items():
        stubs = re.findall(r"^def (\w+)\(", said, re.M)
        if not stubs or re.findall(r"^checks?\.\w+\((\w+)[,)].*;$", said, re.M) != stubs:
            yield start, f"exercise {number} needs a stub `def name(…)` and its check `check.name(name);`"


def closing(notebook):
    last = [text for _, text in headings(notebook, "##")][-4:]
    if last != CLOSING:
        yield None, f"end with the sections {', '.join(CLOSING)}; it ends with {', '.join(last)}"


def alt_text(notebook):
    for i, cell in enumerate(notebook.cells):
        data = [o.get("data", {}) for o in cell.get("outputs", [])]
        html = "".join(d.get("text/html", "") for d in data) + cell.source * (cell.cell_type == "markdown")
        if any(not re.search(r'\balt="[^"]*\w', tag) for tag in re.findall(r"<img\b[^>]*>", html)):
            yield i, "a picture without alt text: show it with `plots.show(figure, alt=…)`"
        if any(kind.startswith("image/") for d in data for kind in d):
            yield i, "a bare picture has no alt text: show it with `plots.show(figure, alt=…)`"
        if cell.cell_type == "markdown" and re.search(r"!\[\W*\]\(", cell.source):
            yield i, "a picture without alt text: write it between the brackets, `![here](…)`"


def quiet(notebook):
    """Neither source nor output holds a key or a warning; of an output, what pictures are made of is not looked at."""
    for i, cell in enumerate(notebook.cells):
        shown = [o.get("text", "") + str(o.get("data", "")) for o in cell.get("outputs", [])]
        if SECRET.search(BASE64.sub("", "\n".join([cell.source, *shown]))):
            yield i, "this looks like a key: take it out, withdraw it at its provider, and read it from the environment"
        if re.search(r"\b\w*Warning: ", "".join(shown)):
            yield i, "it printed a warning: mend its cause, then `make notebooks`"


def magics(notebook):
    """The set-up cell's are the only ones: nbval passes over unknown magics and failing shells."""
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or cell.source == SETUP:
            continue
        try:
            ast.parse(cell.source)
        except SyntaxError:
            yield i, "a magic, a shell escape or no Python at all: write it in Python"


RULES = [opening, table, set_up, exercises, closing, alt_text, quiet, magics]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_notebook_follows_the_template(path):
    notebook = run_notebooks.read(path)
    complaints = [(i, said) for rule in RULES for i, said in rule(notebook)]
    assert not complaints, "\n".join(f"{path.name}, cell {i}: {said}" for i, said in complaints)


BAD = [  # (rule, what in notebook 01 is replaced, by what, or an output that is added there; the complaint)
    (opening, r"\n\nAt the end", "\nAt the end", "one sentence"),
    (table, "Needs", "Wants", "lacks the row `| **Needs**"),
    (table, r"(Minutes\*\* \|) .+ \|", r"\1 a while |", "how many minutes"),
    (set_up, "import sys", "%pip install torch", "# Set-up: on Colab"),
    (exercises, "## Your turn", "## Tasks", "add the section"),
    (exercises, r"check\.\w+\(.+;", "", "exercise 1 needs a stub"),
    (closing, "## Where it breaks", "## Limits", "it ends with"),
    (alt_text, "quora = ", {"text/html": '<img alt="" src="x.png">'}, "without alt text"),
    (alt_text, "quora = ", {"image/png": "aGk="}, "bare picture"),
    (quiet, "quora = ", {"text/plain": "hf_" + "aB1" * 10}, "looks like a key"),
    (quiet, "quora = ", {"text/plain": "x.py:1: FutureWarning: soon"}, "printed a warning"),
    (magics, "quora = ", "!ls ", "a shell escape"),
]


@pytest.mark.parametrize(("rule", "old", "new", "said"), BAD, ids=range(len(BAD)))
def test_each_rule_can_fail(rule, old, new, said):
    notebook = run_notebooks.read(COMMITTED[1])
    cell = next(cell for cell in notebook.cells if re.search(old, cell.source))
    if isinstance(new, dict):
        cell.outputs.append(new_output("display_data", new))
    else:
        cell.source = re.sub(old, new, cell.source, count=1)
    assert [said in complaint for _, complaint in rule(notebook)] == [True]
