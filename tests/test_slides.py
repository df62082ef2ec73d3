"""Slides of the notebooks: as many as there are headings, and nothing that a room without a network can't load."""

import re
import subprocess
import zipfile
from pathlib import Path

import pytest
import run_notebooks
import slides
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent

LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)|<link\b[^>]*\bhref="([^"]+)|url\(["']?([^)"']+)"""
)


def types(notebook):
    return [(cell.metadata["slideshow"]["slide_type"], cell.source) for cell in slides.into_slides(notebook).cells]


def test_headings_begin_slides_and_long_stretches_get_screens_of_their_own():
    cells = [
        new_markdown_cell("# Title\n\nText."),
        new_code_cell("# Set-up: on Colab"),
        new_markdown_cell("Before.\n\n## One\n\n```\n# no heading\n```\n\n### Below\n\nx"),
        new_code_cell("1"),
        new_code_cell("2"),
        new_markdown_cell("More."),
    ]
    assert types(new_notebook(cells=cells)) == [
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


@pytest.fixture(scope="module")
def pages():
    """The slides of two notebooks: one with formulas, one with links to all the others."""
    return {name: slides.html(slides.NOTEBOOKS / f"{name}.ipynb") for name in ("00_start_here", "04_lora_finetuning")}


@pytest.mark.parametrize("name", ["00_start_here", "04_lora_finetuning"])
def test_there_are_as_many_slides_as_headings(pages, name):
    sources = [
        c.source for c in run_notebooks.read(slides.NOTEBOOKS / f"{name}.ipynb").cells if c.cell_type == "markdown"
    ]
    headings = re.findall(r"^##? .+$", "\n".join(sources), re.MULTILINE)
    outer = re.findall(r"<section[^>]*>\s*<section", pages[name])
    assert len(outer) == len(headings) > 8


@pytest.mark.parametrize("name", ["00_start_here", "04_lora_finetuning"])
def test_nothing_is_loaded_from_a_network(pages, name):
    loaded = {next(filter(None, found)) for found in LOADED.findall(pages[name])}
    beside = {address for address in loaded if not address.startswith(("data:", "#"))}
    assert beside == {f"reveal.js/dist/{file}" for file in ("reveal.js", "reveal.css", "theme/white.css")}
    assert "import mermaid" not in pages[name] and "require(" not in pages[name]


def test_formulas_are_pictures_with_their_source_as_alt_text(pages):
    assert "$$" not in pages["04_lora_finetuning"]
    assert re.search(r'<img alt="W\' = W [^"]*"\s+src="data:image/png;base64,', pages["04_lora_finetuning"])


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


def test_without_a_network_it_says_what_is_needed(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(SystemExit, match="WHEELHOUSE="):
        slides.reveal_js(tmp_path / "reveal.js")
