"""Slides, the wheelhouse for a room without a network, and the course's public address."""

import ast
import functools
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import address
import pytest
import run_notebooks
import slides
import talk
import torch_build
import wheelhouse
from endpoints import answering
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from baize_nb import models

ROOT = Path(__file__).resolve().parent.parent

# --- slides

LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)|<link\b[^>]*\bhref="([^"]+)|url\(["']?([^)"']+)"""
)


def test_headings_begin_slides_and_long_stretches_get_screens_of_their_own():
    cells = [
        new_markdown_cell("# Title\n\nText."),
        new_code_cell("# Set-up: on Colab"),
        new_markdown_cell("Before.\n\n## One\n\n```\n# no heading\n```\n\n### Below\n\nx"),
        new_code_cell("1"),
        new_code_cell("2"),
        new_markdown_cell("More."),
    ]
    made = slides.into_slides(new_notebook(cells=cells)).cells
    assert [(cell.metadata["slideshow"]["slide_type"], cell.source) for cell in made] == [
        ("slide", "# Title\n\nText."),
        ("subslide", "Before."),
        ("slide", "## One\n\n```\n# no heading\n```"),
        ("subslide", "### Below\n\nx"),
        ("-", "1"),
        ("subslide", "2"),
        ("subslide", "More."),
    ]
    assert all("slideshow" not in cell.metadata for cell in cells), "the notebook itself is left alone"


def test_links_hold_from_the_folder_of_the_slides():
    text = "[next](01_seeds.ipynb) [it](solutions/01.py) [web](https://x.org/a) ![alt](images/x.png)"
    assert slides.offline(text) == (
        "[next](01_seeds.slides.html) [it](../notebooks/solutions/01.py) [web](https://x.org/a) ![alt](images/x.png)"
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
    assert "import mermaid" not in page and "require(" not in page and "$$" not in page
    formula = re.search(r'<img alt="W\' = W [^"]*"\s+src="data:image/png;base64,', page)  # its source is the alt text
    assert bool(formula) == name.startswith("04")


def test_reveal_js_is_taken_out_of_its_package_once(tmp_path, monkeypatch):
    wheel = tmp_path / "sphinx_revealjs-3.2.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("LICENSE", "dist/reveal.js", "dist/theme/white.css", "dist/theme/night.css"):
            archive.writestr(slides.INSIDE + name, name)
        archive.writestr("sphinx_revealjs/conf.py", "other things")
    asked = []

    def pip(command, **_):
        asked.append(command[-1])
        Path(command[-2], wheel.name).write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(slides.subprocess, "run", pip)
    for _ in range(2):
        slides.reveal_js(tmp_path / "reveal.js")
    assert asked == [slides.REVEAL]
    found = sorted(path.relative_to(tmp_path / "reveal.js").as_posix() for path in tmp_path.glob("reveal.js/**/*.*s"))
    assert found == ["dist/reveal.js", "dist/theme/white.css"] and (tmp_path / "reveal.js" / "LICENSE").is_file()
    monkeypatch.setattr(slides.subprocess, "run", lambda command: subprocess.CompletedProcess(command, 1))
    with pytest.raises(SystemExit, match="WHEELHOUSE="):
        slides.reveal_js(tmp_path / "another")


# --- the wheelhouse


def wheel(folder, name, version, needs=()):
    """The smallest wheel: one module that holds its version."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {need}\n" for need in needs)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


def test_a_wheelhouse_obeys_the_constraints_prefers_what_lies_there_and_needs_no_index(tmp_path, monkeypatch, capfd):
    """A folder stands for the index. What was put into the wheelhouse by hand, such as PyTorch's CPU build, wins."""
    shelf, folder, constraints = tmp_path / "shelf", tmp_path / "wheelhouse", tmp_path / "constraints.txt"
    shelf.mkdir(), folder.mkdir()
    for name, version, needs in (
        ("tinylib", "1.0", []),
        ("tinylib", "2.0", []),
        ("tinycourse", "1.0", ["tinylib", "tinypart"]),
        ("tinypart", "1.0", []),
        ("tinypart", "2.0", []),
        ("tinymodel", "0.1", ["a-package-that-nobody-has"]),
    ):
        wheel(shelf, name, version, needs)
    wheel(folder, "tinylib", "1.0+cpu")
    constraints.write_text("tinylib==1.0\ntinypart==1.0\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    assert wheelhouse.build(folder, ["tinycourse"], constraints, ["tinymodel==0.1"]) == 0
    names = sorted(path.name.split("-py3")[0] for path in folder.glob("*.whl"))
    assert names == ["tinycourse-1.0", "tinylib-1.0+cpu", "tinymodel-0.1", "tinypart-1.0"]
    assert wheelhouse.build(folder, ["nosuch"], constraints, ["tinymodel"]) != 0
    assert "nosuch" in capfd.readouterr().err
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tmp_path / "room"), "tinycourse"]
    assert subprocess.run(command).returncode == 0
    assert (tmp_path / "room" / "tinylib.py").read_text() == "version = '1.0+cpu'\n"


def test_the_real_one_holds_what_the_course_installs(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(wheelhouse, "download", lambda requirements, *rest: asked.append((requirements, rest)) or 0)
    monkeypatch.setattr(torch_build, "choose", lambda wanted: (True, "why"))
    assert wheelhouse.main([str(tmp_path / "w")]) == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (first, cpu), (requirements, options), (model, alone) = asked
    assert first == ["torch"] and cpu[1:] == torch_build.CPU_BUILD
    assert set(project["project"]["dependencies"]) | {"hatchling", "editables"} == set(requirements)
    assert options[1:] == ("-c", str(ROOT / "constraints.txt"))
    assert model[0] == models.WHEEL and len(model) == 2 and alone[1:] == ("--no-deps",)
    assert "WHEELHOUSE=" in capsys.readouterr().out


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_takes_a_wheelhouse_and_asks_no_index(tmp_path):
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"include {ROOT}/Makefile\nshow:\n\t@echo $$PIP_NO_INDEX $$PIP_FIND_LINKS\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE"))}
    run = ["make", "-s", "-f", str(makefile), "show"]
    shown = [
        subprocess.run([*run, *more], cwd=ROOT, env=env, capture_output=True, text=True).stdout.split()
        for more in ([], ["WHEELHOUSE=wheels"])
    ]
    assert shown == [[], ["1", str(ROOT / "wheels")]]


# --- which PyTorch


@pytest.mark.parametrize(
    ("system", "wanted", "gpu", "answers", "cpu", "said"),
    [
        ("linux", "", False, True, True, "no NVIDIA GPU is seen here"),
        ("linux", "", True, True, False, "one is seen here"),
        ("linux", "", False, False, False, "does not answer"),
        ("linux", "cuda", False, True, False, "as TORCH says"),
        ("linux", "cpu", True, False, True, "as TORCH says"),
        ("darwin", "", False, True, False, "the only one for this system"),
        ("win32", "cpu", False, True, False, "the only one for this system"),
    ],
)
def test_the_cpu_build_is_for_linux_without_a_gpu(monkeypatch, system, wanted, gpu, answers, cpu, said):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(torch_build, "gpu_is_seen", lambda: gpu)
    monkeypatch.setattr(torch_build, "index_answers", lambda: answers)
    chosen, sentence = torch_build.choose(wanted)
    assert chosen == cpu and said in sentence


def test_an_index_answers_or_not_within_seconds(monkeypatch):
    monkeypatch.setattr(torch_build, "SECONDS", 1)
    with answering(200) as there, answering(404) as elsewhere, socket.create_server(("127.0.0.1", 0)) as silent:
        assert torch_build.index_answers(there)
        assert not torch_build.index_answers(elsewhere)
        assert not torch_build.index_answers(f"http://127.0.0.1:{silent.getsockname()[1]}/")
    assert not torch_build.index_answers("http://no-such-host.invalid/")


@pytest.mark.skipif(sys.platform == "win32", reason="a program that is a script")
@pytest.mark.parametrize(("says", "seen"), [("GPU 0: NVIDIA T4 (UUID: x)", True), ("No devices were found", False)])
def test_a_gpu_is_seen_by_its_driver(tmp_path, monkeypatch, says, seen):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not torch_build.gpu_is_seen()
    (tmp_path / "nvidia-smi").write_text(f"#!{sys.executable}\nprint({says!r})\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert torch_build.gpu_is_seen() == seen


@pytest.mark.parametrize(("wanted", "code", "said"), [("", 0, "pip's own build is taken"), ("cpu", 1, "did not work")])
def test_where_the_cpu_build_cannot_be_had_pips_own_is_taken_unless_it_was_asked_for(
    monkeypatch, capsys, wanted, code, said
):
    def version(name):
        raise torch_build.metadata.PackageNotFoundError

    monkeypatch.setattr(torch_build.metadata, "version", version)
    monkeypatch.setattr(torch_build, "choose", lambda wanted: (True, "why"))
    monkeypatch.setattr(torch_build.subprocess, "run", lambda command: subprocess.CompletedProcess(command, 1))
    monkeypatch.setenv("TORCH", wanted)
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    assert torch_build.main() == code and said in capsys.readouterr().out


def test_a_pytorch_that_is_there_stays_and_a_slip_is_told(monkeypatch, capsys):
    monkeypatch.setattr(torch_build.subprocess, "run", lambda *_, **__: pytest.fail("pip was asked"))
    monkeypatch.delenv("TORCH", raising=False)
    assert torch_build.main() == 0 and not capsys.readouterr().out
    with pytest.raises(ValueError, match="Set it to cpu or cuda"):
        torch_build.choose("gpu")


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


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_lists_ten_targets_at_most_and_all_others_under_more():
    listed = {}
    for target in ("help", "more"):
        said = subprocess.run(["make", "-s", target], cwd=ROOT, capture_output=True, text=True).stdout
        listed[target] = re.findall(r"^make ([\w-]+)", said, re.MULTILINE)
    assert len(listed["help"]) <= 10
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert set(listed["help"] + listed["more"]) | {"help"} == set(targets)


# --- the address

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
    for name in ("notebooks", "docs"):
        (tmp_path / name).mkdir()
    pages = (ROOT / "README.md", ROOT / "docs" / "colab.md", ROOT / "pyproject.toml")
    for path in (*pages, *(ROOT / "notebooks").glob("[0-9]*.ipynb")):
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    return tmp_path


def texts(root):
    return {path: path.read_text(encoding="utf-8") for path in root.rglob("*") if path.is_file()}


def test_the_address_reaches_readme_and_every_notebook_and_a_fork_leaves_no_trace_of_it(clone):
    outputs = [c.get("outputs") for p in sorted(clone.glob("notebooks/*")) for c in run_notebooks.read(p).cells]
    address.main([MINE + ".git"], clone)
    assert address.stored(clone) == MINE
    readme = (clone / "README.md").read_text(encoding="utf-8")
    page = MINE.replace("github.com", "colab.research.google.com/github") + "/blob/main/notebooks/03_corpus"
    assert readme.count("colab-badge.svg") == 9 and f"]({page}_inspection.ipynb)" in readme
    assert f"git clone {MINE} /content/baize\n" in (clone / "docs" / "colab.md").read_text(encoding="utf-8")
    (cell,) = {run_notebooks.read(path).cells[2].source for path in clone.glob("notebooks/*.ipynb")}
    assert MINE in cell
    ast.parse(TransformerManager().transform_cell(cell))
    once = texts(clone)
    address.main([], clone)
    assert texts(clone) == once
    address.main([FORK + "/"], clone)
    assert not [path for path, text in texts(clone).items() if "their-course" in text]
    now = [c.get("outputs") for p in sorted(clone.glob("notebooks/*")) for c in run_notebooks.read(p).cells]
    assert now == outputs


@pytest.mark.parametrize(
    "wrong", ["github.com/a/b", "https://example.org/a/b", "https://github.com/a", "https://github.com/a/b c"]
)
def test_what_is_no_address_is_refused(clone, wrong):
    before = texts(clone)
    with pytest.raises(SystemExit, match="no address"):
        address.main([wrong], clone)
    assert texts(clone) == before


def test_a_notebook_that_a_badge_opened_alone_fetches_the_course(clone, tmp_path_factory):
    """The set-up cell as Colab runs it, in an empty folder, twice; the address is that of a local repository."""
    address.main([MINE], clone)
    (cell,) = {run_notebooks.read(path).cells[2].source for path in clone.glob("notebooks/*.ipynb")}
    folder = tmp_path_factory.mktemp("colab")
    origin, content = folder / "origin", folder / "content"
    for name, text in (("tools/colab.py", "fetched = globals().get('fetched', 0) + 1\n"), ("notebooks/page", "")):
        (origin / name).parent.mkdir(parents=True)
        (origin / name).write_text(text)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], cwd=origin, check=True)
    content.mkdir()
    (folder / "cell").write_text(cell.replace(MINE, str(origin)).replace("/content", str(content)))
    run = subprocess.run(
        [sys.executable, "-c", COLAB, folder / "cell"],
        cwd=content, env={**os.environ, "IPYTHONDIR": str(folder)}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    where, times = run.stdout.split()[-2:]
    assert Path(where) == content / "baize/notebooks" and int(times) >= 1, run.stderr
