"""Slides, the wheelhouse for a room without a network, and the course's public address."""

import functools
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import address
import pytest
import run_notebooks
import slides
import talk
import torch_build
import wheelhouse

ROOT = Path(__file__).resolve().parent.parent

# --- slides

LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)|<link\b[^>]*\bhref="([^"]+)|url\(["']?([^)"']+)"""
)


@pytest.mark.parametrize("name", ["00_start_here", "04_lora_finetuning"])  # links to all the others; formulas
def test_slides_are_as_many_as_headings_and_load_nothing_from_a_network(name):
    path = slides.NOTEBOOKS / f"{name}.ipynb"
    page, cells = slides.html(path), run_notebooks.read(path).cells
    sources = [c.source for c in cells if c.cell_type == "markdown"]
    headings = re.findall(r"^##? .+$", "\n".join(sources), re.MULTILINE)
    assert len(re.findall(r"<section[^>]*>\s*<section", page)) == len(headings) > 8
    loaded = {next(filter(None, found)) for found in LOADED.findall(page)}
    beside = {address for address in loaded if not address.startswith(("data:", "#"))}
    assert beside == {f"reveal.js/dist/{file}" for file in ("reveal.js", "reveal.css", "theme/white.css")}
    formula = re.search(r'<img alt="W\' = W [^"]*"\s+src="data:image/png;base64,', page)  # its source is the alt text
    assert bool(formula) == name.startswith("04")


# --- the wheelhouse


def wheel(folder, name, version, needs=()):
    """The smallest wheel: one module that holds its version."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {f"{name}.py": f"version = {version!r}\n", f"{info}/METADATA": metadata}
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in files)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)


def test_a_wheelhouse_obeys_the_constraints_prefers_what_lies_there_and_needs_no_index(tmp_path, monkeypatch, capfd):
    """A folder stands for the index. What was put into the wheelhouse by hand, such as PyTorch's CPU build, wins."""
    shelf, folder, constraints = tmp_path / "shelf", tmp_path / "wheelhouse", tmp_path / "constraints.txt"
    shelf.mkdir(), folder.mkdir()
    wheel(shelf, "tinylib", "1.0"), wheel(shelf, "tinylib", "2.0"), wheel(folder, "tinylib", "1.0+cpu")
    wheel(shelf, "tinycourse", "1.0", ["tinylib"]), wheel(shelf, "tinymodel", "0.1", ["a-package-that-nobody-has"])
    constraints.write_text("tinylib==1.0\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    assert wheelhouse.build(folder, ["tinycourse"], constraints, ["tinymodel==0.1"]) == 0
    names = sorted(path.name.split("-py3")[0] for path in folder.glob("*.whl"))
    assert names == ["tinycourse-1.0", "tinylib-1.0+cpu", "tinymodel-0.1"]
    assert wheelhouse.build(folder, ["nosuch"], constraints, ["tinymodel"]) != 0
    assert "nosuch" in capfd.readouterr().err
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tmp_path / "room"), "tinycourse"]
    assert subprocess.run(command).returncode == 0
    assert (tmp_path / "room" / "tinylib.py").read_text() == "version = '1.0+cpu'\n"


# --- which PyTorch


@pytest.mark.parametrize(
    ("system", "wanted", "driver", "cpu", "said"),
    [
        ("linux", "", "No devices were found", True, "no NVIDIA GPU is seen here"),
        ("linux", "", "GPU 0: NVIDIA T4 (UUID: x)", False, "one is seen here"),
        ("linux", "cuda", "", False, "as TORCH says"),
        ("linux", "cpu", "GPU 0: NVIDIA T4 (UUID: x)", True, "as TORCH says"),
        ("darwin", "", "", False, "the only one for this system"),
        ("win32", "cpu", "", False, "the only one for this system"),
    ],
)
def test_the_cpu_build_is_for_linux_without_a_gpu(tmp_path, monkeypatch, system, wanted, driver, cpu, said):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setenv("PATH", str(tmp_path))
    if driver:
        (tmp_path / "nvidia-smi").write_text(f"#!{sys.executable}\nprint({driver!r})\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    chosen, sentence = torch_build.choose(wanted)
    assert chosen == cpu and said in sentence


def test_a_pytorch_that_is_there_stays(capsys):
    assert torch_build.main() == 0 and not capsys.readouterr().out


# --- talking in a terminal


def test_talk_uses_the_shipped_model_before_there_is_another(tmp_path, monkeypatch):
    said = iter(["What is gout?", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(said))
    monkeypatch.setattr(talk, "ChatSession", functools.partial(talk.ChatSession, max_new_tokens=8))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), write_through=True))
    monkeypatch.setenv("BAIZE_RUNS", str(tmp_path))
    assert talk.main() == 0
    told = sys.stdout.buffer.getvalue().decode()
    assert "using the shipped data/adapter" in told and re.search(r"Baize: \w.{5,}\n", told)


# --- make


def make(*arguments):
    if not shutil.which("make"):
        pytest.skip("needs make")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE"))}
    command = ["make", "-s", *arguments]
    run = subprocess.run(command, cwd=ROOT, env=env | {"HOST": "0.0.0.0"}, capture_output=True, text=True)
    return run.stdout


def test_make_lists_ten_targets_at_most_and_all_others_under_more():
    listed = [re.findall(r"^make ([\w-]+)", make(target), re.MULTILINE) for target in ("help", "more")]
    assert make() == make("help") and len(listed[0]) <= 10
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert {*listed[0], *listed[1], "help"} == set(targets)


def test_make_takes_a_wheelhouse_and_asks_no_index_and_a_shells_own_host_opens_nothing(tmp_path):
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"include {ROOT}/Makefile\nshow:\n\t@echo $$PIP_NO_INDEX $$PIP_FIND_LINKS\n")
    shown = [make("-f", str(makefile), "show", *more).split() for more in ([], ["WHEELHOUSE=wheels"])]
    assert shown == [[], ["1", str(ROOT / "wheels")]]
    assert "--host '127.0.0.1'" in make("-n", "teacher")
    assert "--host '0.0.0.0'" in make("-n", "teacher", "HOST=0.0.0.0")


# --- the address

MINE, FORK = "https://github.com/somebody/their-course", "https://github.com/a.nother/fork_2"
COLAB = """
import os, sys
sys.modules["google.colab"] = __import__("types").ModuleType("google.colab")
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for _ in range(2):
    shell.run_cell(open(sys.argv[1]).read()).raise_error()
print(os.getcwd())
"""


@pytest.fixture
def clone(tmp_path):
    """The files that hold the address."""
    for name in ("notebooks", "docs"):
        (tmp_path / name).mkdir()
    pages = (ROOT / "README.md", ROOT / "docs" / "colab.md", ROOT / "pyproject.toml")
    for path in (*pages, *(ROOT / "notebooks").glob("[0-9]*.ipynb")):
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    return tmp_path


def texts(root):
    return {path: path.read_text(encoding="utf-8") for path in root.rglob("*") if path.is_file()}


def outputs(root):
    return [c.get("outputs") for p in sorted(root.glob("notebooks/*.ipynb")) for c in run_notebooks.read(p).cells]


def test_the_address_reaches_readme_and_every_notebook_and_a_fork_leaves_no_trace_of_it(clone):
    before = texts(clone)
    for wrong in ("github.com/a/b", "https://example.org/a/b", "https://github.com/a", "https://github.com/a/b c"):
        with pytest.raises(SystemExit, match="no address"):
            address.main([wrong], clone)
    assert texts(clone) == before
    printed = outputs(clone)
    address.main([MINE + ".git"], clone)
    assert address.stored(clone) == MINE
    readme = (clone / "README.md").read_text(encoding="utf-8")
    page = MINE.replace("github.com", "colab.research.google.com/github") + "/blob/main/notebooks/03_corpus"
    assert readme.count("colab-badge.svg") == 9 and f"]({page}_inspection.ipynb)" in readme
    assert f"git clone {MINE} /content/baize\n" in (clone / "docs" / "colab.md").read_text(encoding="utf-8")
    once = texts(clone)
    address.main([], clone)
    assert texts(clone) == once
    address.main([FORK + "/"], clone)
    assert not [path for path, text in texts(clone).items() if "their-course" in text]
    assert outputs(clone) == printed


def test_a_notebook_that_a_badge_opened_alone_fetches_the_course(clone, tmp_path_factory):
    """The set-up cell as Colab runs it, in an empty folder, twice; the address is that of a local repository."""
    address.main([MINE], clone)
    (cell,) = {run_notebooks.read(path).cells[2].source for path in clone.glob("notebooks/*.ipynb")}
    folder = tmp_path_factory.mktemp("colab")
    origin, content = folder / "origin", folder / "content"
    for name in ("tools/colab.py", "notebooks/page"):
        (origin / name).parent.mkdir(parents=True)
        (origin / name).touch()
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], cwd=origin, check=True)
    content.mkdir()
    (folder / "cell").write_text(cell.replace(MINE, str(origin)).replace("/content", str(content)))
    command, env = [sys.executable, "-c", COLAB, folder / "cell"], {**os.environ, "IPYTHONDIR": str(folder)}
    run = subprocess.run(command, cwd=content, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert Path(run.stdout.split()[-1]) == content / "baize/notebooks"
