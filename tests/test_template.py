"""The template that every notebook follows, rule by rule, and that each rule can fail.

A rule takes a notebook and yields (cell number from 0, complaint with its remedy); the cell is None where the
notebook as a whole is at fault. test_notebooks.py holds the canonical form;
here is what an author writes.
"""

import ast
import re
from statistics import median

import pytest
import run_notebooks
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_notebooks import COMMITTED, SOMEBODYS_PATH

START = run_notebooks.read(COMMITTED[0])
SETUP, SETTINGS = (cell.source for cell in START.cells[2:4])
CLOSING = ["What we built", "What Baize did differently", "Where it breaks", "Next"]
SECRET = re.compile(r"\b(sk-[\w-]{16,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{12,})")
BASE64 = re.compile(r"base64,[A-Za-z0-9+/=\s]+")


def code_cells(notebook):
    """[(number of the cell, cell)] of the code cells."""
    return [(i, c) for i, c in enumerate(notebook.cells) if c.cell_type == "code"]


def headings(notebook):
    """[(number of the cell, level, text)] of all markdown headings."""
    found = []
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            found += [(i, len(marks), text) for marks, text in re.findall(r"^(#+) (.+)$", cell.source, re.M)]
    return found


def shown(cell):
    """All texts that a cell has or shows: its source, then its outputs without what pictures are made of."""
    texts = [cell.source]
    for output in cell.get("outputs", []):
        texts += [output.get("text", ""), output.get("evalue", "")]
        texts += [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
    return BASE64.sub("", "\n".join(texts))


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
    start = next((i for i, level, text in headings(notebook) if (level, text) == (2, "Your turn")), None)
    if start is None:
        yield None, "add the section `## Your turn` with three exercises"
        return
    parts, number = {}, 0
    for i, cell in enumerate(notebook.cells[start:], start):
        if cell.cell_type == "markdown":
            number = next((int(n) for n in re.findall(r"^\*\*Exercise (\d+) · .+?\*\*", cell.source, re.M)), 0)
        elif number:
            parts.setdefault(number, []).append((i, cell.source))
    if list(parts) != list(range(1, len(parts) + 1)) or len(parts) < 3:
        yield start, f"number three exercises or more `**Exercise 1 · title.** …`; found {list(parts)}"
    for number, cells in parts.items():
        source = "\n".join(source for _, source in cells)
        stubs = re.findall(r"^def (\w+)\(", source, re.M)
        checked = re.findall(r"^checks?\.\w+\((\w+)[,)].*;$", source, re.M)
        if not stubs or checked != stubs:
            yield cells[0][0], f"exercise {number} needs a stub `def name(…)` and its check `check.name(name);`"


def closing(notebook):
    last = [text for _, level, text in headings(notebook) if level == 2][-4:]
    if last != CLOSING:
        yield None, f"end with the sections {', '.join(CLOSING)}; it ends with {', '.join(last)}"


def lengths(notebook):
    sizes = [(i, len(c.source.splitlines())) for i, c in code_cells(notebook)]
    for i, size in sizes:
        if size > 25:
            yield i, f"{size} lines are too many to read at once: cut the cell in two, 25 is the limit"
    if median(size for _, size in sizes) > 8:
        yield None, "half of its code cells have more than 8 lines: make them shorter"


def counts(notebook):
    for number, (i, cell) in enumerate(code_cells(notebook), 1):
        if cell.execution_count != number:
            yield i, f"its execution count is {cell.execution_count}, not {number}: `make notebooks`"
            return


def alt_text(notebook):
    for i, cell in enumerate(notebook.cells):
        html = [o.get("data", {}).get("text/html", "") for o in cell.get("outputs", [])]
        for tag in re.findall(r"<img\b[^>]*>", "".join(html) + (cell.source if cell.cell_type == "markdown" else "")):
            if not re.search(r'\balt="[^"]*\w', tag):
                yield i, "a picture without alt text: show it with `plots.show(figure, alt=…)`"
        if any(kind.startswith("image/") for o in cell.get("outputs", []) for kind in o.get("data", {})):
            yield i, "a bare picture has no alt text: show it with `plots.show(figure, alt=…)`"
        if cell.cell_type == "markdown" and re.search(r"!\[\W*\]\(", cell.source):
            yield i, "a picture without alt text: write it between the brackets, `![here](…)`"


def secrets(notebook):
    for i, cell in enumerate(notebook.cells):
        if SECRET.search(shown(cell)):
            yield i, "this looks like a key: take it out, withdraw it at its provider, and read it from the environment"


def paths(notebook):
    for i, cell in enumerate(notebook.cells):
        if match := SOMEBODYS_PATH.search(shown(cell)):
            yield i, f"a path of somebody's machine ({match[0]}…): use common.runs() and show(path)"


def quiet(notebook):
    """No widget state, no error, no warning: neither on stderr nor printed."""
    if "widgets" in notebook.metadata:
        yield None, "widget state is stored: `python tools/run_notebooks.py --form FILE`"
    for i, cell in code_cells(notebook):
        for output in cell.outputs:
            if run_notebooks.WIDGET in output.get("data", {}):
                yield i, "a widget is stored: `python tools/run_notebooks.py --form FILE`"
            if output.output_type == "error" or output.get("name") == "stderr":
                yield i, "it stored an error or a warning: mend its cause, then `make notebooks`"
            if re.search(r"\b\w*Warning: ", output.get("text", "")):
                yield i, "it printed a warning: mend its cause, then `make notebooks`"


def magics(notebook):
    """The set-up cell's %pip is the only one: nbval passes over unknown magics and failing shells."""
    for i, cell in code_cells(notebook):
        if cell.source != SETUP and (not parsed(cell) or "get_ipython(" in cell.source):
            yield i, "a magic, a shell escape or no Python at all: write it in Python"


def parsed(cell):
    """The syntax tree of a cell, None where it is not plain Python."""
    try:
        return ast.parse(cell.source)
    except SyntaxError:
        return None


RULES = [opening, table, set_up, exercises, closing, lengths, counts, alt_text, secrets, paths, quiet, magics]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_notebook_follows_the_template(path):
    notebook = run_notebooks.read(path)
    complaints = [(i, said) for rule in RULES for i, said in rule(notebook)]
    assert not complaints, "\n" + "\n".join(
        f"{path.name}, {'as a whole' if i is None else f'cell {i}'}: {said}" for i, said in complaints
    )


def good():
    """The smallest notebook that follows the template."""
    rows = {"Objectives": "see · try · know", "Minutes": "laptop 5", "Needs": "nothing", "Writes": "nothing"}
    cells = [
        new_markdown_cell("# 09 · Small\n\nAt the end you have a small notebook."),
        new_markdown_cell("| | |\n|---|---|\n" + "\n".join(f"| **{k}** | {v} |" for k, v in rows.items())),
        new_code_cell(SETUP),
        new_code_cell(SETTINGS),
        new_code_cell("import torch\n\ntorch.zeros(2)"),
    ]
    for number in (1, 2, 3):
        intro = "## Your turn\n\n" if number == 1 else ""
        cells.append(new_markdown_cell(f"{intro}**Exercise {number} · try.** Do it."))
        cells.append(new_code_cell(f"def f{number}():\n    return 0\n\n\ncheck.f{number}(f{number});"))
    cells.append(new_markdown_cell("\n\n".join(f"## {text}\n\nSo." for text in CLOSING)))
    for number, cell in enumerate((c for c in cells if c.cell_type == "code"), 1):
        cell.execution_count = number
    return new_notebook(cells=cells)


CODE, PICTURE = 4, '<img src="data:image/png;base64,sk-{}">'.format("a" * 30)


def source(i, text):
    """Makes cell i say something else."""
    return lambda notebook: notebook.cells[i].update(source=text)


def replaced(i, old, new):
    """Changes a part of cell i."""
    return lambda notebook: notebook.cells[i].update(source=notebook.cells[i].source.replace(old, new))


def output(**keys):
    """Lets the code cell show something."""
    return lambda notebook: notebook.cells[CODE].outputs.append(new_output(**keys))


def html(text):
    return output(output_type="display_data", data={"text/html": text})


BAD = [
    (opening, source(0, "# 09 · Small"), "one sentence"),
    (opening, source(0, "Small\n\nYou have it."), "begin with"),
    (table, replaced(1, "**Needs**", "**Wants**"), "lacks the row `| **Needs**"),
    (table, replaced(1, "see · try", "see"), "three to five"),
    (table, replaced(1, "laptop 5", "a while"), "how many minutes"),
    (set_up, source(2, "%pip install torch"), "# Set-up: on Colab"),
    (set_up, source(3, "print('laptop')"), "from baize_nb import doctor"),
    (exercises, replaced(5, "## Your turn", "## Tasks"), "add the section"),
    (exercises, replaced(9, "Exercise 3", "Exercise 4"), "found [1, 2, 4]"),
    (exercises, lambda notebook: notebook.cells.__delitem__(slice(9, 11)), "three exercises or more"),
    (exercises, replaced(8, "check.f2(f2);", ""), "exercise 2 needs a stub"),
    (closing, replaced(11, "## Where it breaks", "## Limits"), "it ends with"),
    (lengths, source(CODE, "1\n" * 26), "26 lines"),
    (lengths, lambda notebook: [c.update(source="1\n" * 9) for _, c in code_cells(notebook)], "more than 8 lines"),
    (counts, lambda notebook: notebook.cells[CODE].update(execution_count=7), "is 7, not 3"),
    (alt_text, html(PICTURE), "without alt text"),
    (alt_text, html('<img alt="" src="x.png">'), "without alt text"),
    (alt_text, output(output_type="display_data", data={"image/png": "aGk="}), "bare picture"),
    (alt_text, replaced(5, "Do it.", "![](images/x.png)"), "between the brackets"),
    (secrets, source(CODE, "key = 'sk-" + "a1" * 12 + "'"), "looks like a key"),
    (secrets, output(output_type="stream", name="stdout", text="hf_" + "aB1" * 10), "looks like a key"),
    (paths, source(CODE, "open('/home/jo/seeds.csv')"), "/home/"),
    (paths, output(output_type="stream", name="stdout", text="/tmp/x"), "/tmp/"),
    (quiet, lambda notebook: notebook.metadata.update(widgets={"state": {}}), "widget state"),
    (quiet, output(output_type="display_data", data={run_notebooks.WIDGET: {"model_id": "a"}}), "a widget is stored"),
    (quiet, output(output_type="stream", name="stderr", text="oh"), "an error or a warning"),
    (quiet, output(output_type="error", ename="E", evalue="oh", traceback=[]), "an error or a warning"),
    (quiet, output(output_type="stream", name="stdout", text="x.py:1: FutureWarning: soon"), "printed a warning"),
    (magics, source(CODE, "%matplotlib inline"), "a magic"),
    (magics, source(CODE, "!ls"), "a shell escape"),
    (magics, source(CODE, "get_ipython().system('ls')"), "a shell escape"),
]


def test_the_smallest_good_notebook_passes_and_each_rule_has_one_that_breaks_it():
    assert [list(rule(good())) for rule in RULES] == [[]] * len(RULES)
    assert {rule for rule, *_ in BAD} == set(RULES)


@pytest.mark.parametrize(
    ("rule", "spoil", "said"), BAD, ids=[f"{rule.__name__}{i}" for i, (rule, *_) in enumerate(BAD)]
)
def test_each_rule_can_fail(rule, spoil, said):
    notebook = good()
    spoil(notebook)
    complaints = list(rule(notebook))
    assert len(complaints) == 1 and said in complaints[0][1]
    assert complaints[0][0] is None or 0 <= complaints[0][0] < len(notebook.cells)


def test_the_letters_of_a_picture_are_no_key():
    notebook = good()
    html(PICTURE)(notebook)
    assert list(secrets(notebook)) == []
