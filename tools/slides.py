"""Slides of the notebooks, as they are: `make slides`.

    python tools/slides.py [--to FOLDER] [NOTEBOOK ...]      default: slides/ in the clone, all notebooks

A heading of level 1 or 2 begins a slide; what follows lies below it, a screen for each piece of text with its code.
nbconvert would load reveal.js, jQuery, RequireJS and MathJax from the network. Here reveal.js lies beside the slides
(taken out of a Python package that carries it, once), formulas become pictures, and nothing needs the other two.
"""

import argparse
import base64
import copy
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
REVEAL = "sphinx-revealjs==3.2.1"  # carries reveal.js 5 (MIT); taken apart, not installed
INSIDE = "sphinx_revealjs/_static/revealjs/"
# Other themes fetch their fonts from the network; this one's are in the package.
FILES = ("LICENSE", "dist/reveal.js", "dist/reveal.css", "dist/theme/white.css", "dist/theme/fonts/source-sans-pro/")

TEMPLATE = """\
{%- extends 'index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_css -%}
<style>
  .reveal .slides section section { height: 100%; overflow-y: auto; text-align: left; }
  .reveal .slides { text-align: left; }
  .reveal h1, .reveal h2, .reveal h3 { text-transform: none; }
  .reveal pre { width: 100%; box-shadow: none; }
  .reveal img { max-height: 560px; }
  .jp-InputPrompt, .jp-OutputPrompt { display: none; }
</style>
{%- endblock -%}
{%- block footer_js -%}
<script src="{{ resources.reveal.url_prefix }}/dist/reveal.js"></script>
<script>
  Reveal.initialize({ width: 1100, height: 720, center: false, hash: true, transition: "none", slideNumber: "h.v" });
</script>
{%- endblock -%}
"""


def pieces(source):
    """[(level of the heading it begins with, or None; text)] of a markdown cell, cut before each heading."""
    from markdown_it import MarkdownIt

    lines, marks = source.splitlines(keepends=True), {}
    for token in MarkdownIt().parse(source):
        if token.type == "heading_open" and token.level == 0:
            marks[token.map[0]] = int(token.tag[1:])
    starts = sorted({0, *marks})
    texts = ["".join(lines[a:b]).strip() for a, b in zip(starts, [*starts[1:], len(lines)], strict=True)]
    return [(marks.get(start), text) for start, text in zip(starts, texts, strict=True) if text]


def into_slides(notebook):
    """A notebook with slide types: "slide" at a heading of level 1 or 2, "subslide" at any other text.

    A cell of code stays on the screen of the text before it; a second one begins a screen of its own. The set-up cell
    is left out. The notebook given stays as it is.
    """
    from nbformat.v4 import new_markdown_cell, new_notebook

    cells, alone = [], True
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for level, text in pieces(cell.source):
                made = new_markdown_cell(offline(text))
                made.metadata["slideshow"] = {"slide_type": "slide" if level in (1, 2) else "subslide"}
                cells.append(made)
            alone = True
        elif not cell.source.startswith("# Set-up:"):
            made = copy.deepcopy(cell)
            made.metadata["slideshow"] = {"slide_type": "-" if alone else "subslide"}
            cells.append(made)
            alone = False
    return new_notebook(cells=cells, metadata=notebook.metadata)


def offline(text):
    """Markdown with formulas as pictures, and links that hold from the folder of the slides."""
    text = re.sub(r"\$\$(.+?)\$\$", lambda match: formula(match[1].strip()), text, flags=re.DOTALL)
    text = re.sub(r"\]\((\d\d_\w+)\.ipynb\)", r"](\1.slides.html)", text)
    return re.sub(r"(?<!!)\[([^\]]*)\]\((?!https?:|#|data:|\w+\.slides\.html)", r"[\1](../notebooks/", text)


def formula(tex):
    """A formula as a picture inside the text, drawn by matplotlib; its source is the alt text."""
    from matplotlib import mathtext

    picture = io.BytesIO()
    mathtext.math_to_image(f"${tex}$", picture, dpi=200, format="png")
    return f"![{tex.replace(chr(92), '')}](data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()})"


def html(path):
    """The slides of a notebook file as one HTML page, which expects reveal.js in `reveal.js/` beside it."""
    import nbformat
    from nbconvert import SlidesExporter

    exporter = SlidesExporter(
        raw_template=TEMPLATE, reveal_url_prefix="reveal.js", reveal_theme="white", embed_images=True
    )
    about = {"metadata": {"name": path.stem, "path": str(path.parent)}}
    return exporter.from_notebook_node(into_slides(nbformat.read(path, as_version=4)), resources=about)[0]


def reveal_js(folder):
    """Put reveal.js into `folder`, once. Ends the program, with what pip says, where it can't be had."""
    if (folder / "LICENSE").is_file():
        return
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        if subprocess.run([*command, "--dest", scratch, REVEAL]).returncode:
            sys.exit("reveal.js, needed once, could not be fetched. With no network: make slides WHEELHOUSE=…")
        [wheel] = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(tuple(INSIDE + file for file in FILES))]
            for name in sorted(names, key=lambda name: name == f"{INSIDE}LICENSE"):  # last: it says that all is there
                target = folder / name.removeprefix(INSIDE)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))


def main(arguments):
    """Write the slides; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python tools/slides.py")
    parser.add_argument("--to", type=Path, default=ROOT / "slides")
    parser.add_argument("notebooks", type=Path, nargs="*")
    asked = parser.parse_args(arguments)
    reveal_js(asked.to / "reveal.js")
    for path in asked.notebooks or sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        page = asked.to / f"{path.stem}.slides.html"
        page.write_text(html(path), encoding="utf-8")
        print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
