"""The course's public address: given once, it reaches every place, and a badge's notebook finds the course."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import address
import pytest
import run_notebooks
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).resolve().parent.parent

MINE, FORK = "https://github.com/somebody/their-course", "https://github.com/a.nother/fork_2"
COLAB = """
import sys
sys.modules["google.colab"] = __import__("types").ModuleType("google.colab")
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for _ in range(2):
    shell.run_cell(open(sys.argv[1]).read()).raise_error()
import os
print(os.getcwd(), shell.user_ns["fetched"])
"""


@pytest.fixture
def clone(tmp_path):
    """The files that hold the address."""
    for name in (
        "README.md",
        "pyproject.toml",
        *(f"notebooks/{p.name}" for p in run_notebooks.FOLDER.glob("[0-9]*.ipynb")),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def set_up_cells(root):
    return {run_notebooks.read(path).cells[2].source for path in (root / "notebooks").glob("*.ipynb")}


def texts(root):
    return {path: path.read_text(encoding="utf-8") for path in root.rglob("*") if path.is_file()}


def test_it_reaches_readme_and_every_notebook(clone):
    address.main([MINE + "/"], clone)
    assert address.stored(clone) == MINE
    readme = (clone / "README.md").read_text(encoding="utf-8")
    page = (
        "https://colab.research.google.com/github/somebody/their-course/blob/main/notebooks/03_corpus_inspection.ipynb"
    )
    assert readme.count("colab-badge.svg") == 9 and f"]({page})" in readme
    assert f"!git clone {MINE} baize\n" in readme
    (cell,) = set_up_cells(clone)
    assert MINE in cell
    ast.parse(TransformerManager().transform_cell(cell))


def test_a_second_run_changes_nothing_and_a_fork_leaves_no_trace_of_the_first(clone):
    address.main([MINE + ".git"], clone)
    once = texts(clone)
    address.main([], clone)
    assert texts(clone) == once
    address.main([FORK], clone)
    assert not [path for path, text in texts(clone).items() if "their-course" in text]


def test_outputs_stay(clone):
    before = [c.get("outputs") for p in sorted(clone.glob("notebooks/*")) for c in run_notebooks.read(p).cells]
    address.main([MINE], clone)
    assert [c.get("outputs") for p in sorted(clone.glob("notebooks/*")) for c in run_notebooks.read(p).cells] == before


@pytest.mark.parametrize(
    "wrong", ["github.com/a/b", "https://example.org/a/b", "https://github.com/a", "https://github.com/a/b c"]
)
def test_what_is_no_address_is_refused(clone, wrong):
    before = texts(clone)
    with pytest.raises(SystemExit, match="no address"):
        address.main([wrong], clone)
    assert texts(clone) == before


def test_without_an_address_it_says_how_to_give_one(clone):
    address.store(clone, MINE)
    file = clone / "pyproject.toml"
    file.write_text(file.read_text().replace(f'Repository = "{MINE}"', ""))
    with pytest.raises(SystemExit, match="make address ADDRESS="):
        address.main([], clone)


def test_a_notebook_that_a_badge_opened_alone_fetches_the_course(clone, tmp_path_factory):
    """The set-up cell as Colab runs it, in an empty folder, twice; the address is that of a local repository."""
    address.main([MINE], clone)
    (cell,) = set_up_cells(clone)
    folder = tmp_path_factory.mktemp("colab")
    origin, content = folder / "origin", folder / "content"
    (origin / "tools").mkdir(parents=True)
    (origin / "notebooks").mkdir()
    (origin / "tools/colab.py").write_text("fetched = globals().get('fetched', 0) + 1\n")
    (origin / "notebooks/page").touch()
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], cwd=origin, check=True)
    content.mkdir()
    (folder / "cell").write_text(cell.replace(MINE, str(origin)).replace("/content", str(content)))
    run = subprocess.run(
        [sys.executable, "-c", COLAB, folder / "cell"],
        cwd=content, env={**os.environ, "IPYTHONDIR": str(folder)}, capture_output=True, text=True,
    )  # fmt: skip
    where, times = run.stdout.split()[-2:]
    assert Path(where) == content / "baize/notebooks" and int(times) >= 1, run.stderr
