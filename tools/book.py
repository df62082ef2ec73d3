"""The course as a website: `make book` writes it to _site/, a folder of static files that any host can serve.

    python tools/book.py [--to FOLDER] [--without-chat]

Pages show the notebooks as they are committed, outputs included: nothing is executed, and the site loads nothing from
elsewhere. The shipped model comes along as a web page, so that a visitor can talk to it before installing anything.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote

import address
import slides

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|mailto:|data:)([^)\s]+)\)")
CHAT = "- [**Talk to the shipped model**](chat/index.html) before you install anything (155 MB, in this browser)\n"


def for_sphinx(text, page):
    """Markdown whose formulas are pictures, whose links name headings as Sphinx does, and lead to files only."""

    def link(match):
        words, (file, _, anchor) = match[1], unquote(match[2]).partition("#")
        if file and not (page.parent / file).is_file():
            return words
        # Jupyter's #What-will-it-cost? and GitHub's #what-will-it-cost are one heading
        return f"[{words}]({file}{'#' if anchor else ''}{re.sub(r'[^a-z0-9_-]', '', anchor.lower())})"

    text = re.sub(r"\$\$(.+?)\$\$", lambda match: slides.formula(match[1].strip()), text, flags=re.DOTALL)
    return LINK.sub(link, text)


def toctree(caption, names):
    return "\n".join(["", "```{toctree}", f":caption: {caption}", ":hidden:", ":maxdepth: 1", "", *names, "```", ""])


def stage(folder, chat):
    """Copy the tree's files into `folder`, its markdown as the site needs it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    home, notebooks = folder / "README.md", sorted((folder / "notebooks").glob("[0-9]*.ipynb"))
    text = home.read_text(encoding="utf-8")
    if chat:
        text = text.replace("## More\n\n", f"## More\n\n{CHAT}")
    course = [*(f"notebooks/{path.stem}" for path in notebooks), "notebooks/PROJECT", "notebooks/GLOSSARY"]
    docs = re.findall(r"\((\w+)\.md\)", (folder / "docs" / "index.md").read_text(encoding="utf-8"))
    documents = ["docs/index", *(f"docs/{name}" for name in docs), "data/README", "benchmarks/README"]
    text += toctree("The course", course) + toctree("Teaching it", ["notebooks/INSTRUCTORS"])
    home.write_text(text + toctree("Documents", documents), encoding="utf-8")
    for page in folder.rglob("*.md"):
        page.write_text(for_sphinx(page.read_text(encoding="utf-8"), page), encoding="utf-8")
    for page in notebooks:
        notebook = json.loads(page.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = for_sphinx("".join(cell["source"]), page)
        page.write_text(json.dumps(notebook), encoding="utf-8")


def write_chat(folder):
    """The shipped adapter as a web page."""
    from baize_nb import common, finetune, webpage

    with tempfile.TemporaryDirectory() as temporary:
        model = finetune.export_gguf(common.DATA / "adapter", out=Path(temporary) / "baize.gguf")
        webpage.write(model, folder, "Baize, the course's shipped model")


def main():
    parser = argparse.ArgumentParser(description="Make the course's website.")
    parser.add_argument("--to", type=Path, default=ROOT / "_site")
    parser.add_argument("--without-chat", action="store_true", help="leave the web page of the shipped model out")
    options = parser.parse_args()
    if options.to.exists() and not (options.to / "objects.inv").is_file():
        sys.exit(f"{options.to} is there and holds no website of the course. Name another folder, or move it away.")
    with tempfile.TemporaryDirectory() as temporary:
        source, made = Path(temporary) / "source", Path(temporary) / "made" / "html"
        stage(source, not options.without_chat)
        command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
        settings = os.environ | {"BAIZE_ADDRESS": address.stored(ROOT) or ""}
        if subprocess.run([*command, "-c", source / "docs", source, made], env=settings).returncode:
            sys.exit("Sphinx found faults, see above.")
        shutil.rmtree(options.to, ignore_errors=True)
        shutil.copytree(made, options.to, ignore=shutil.ignore_patterns(".doctrees", ".buildinfo"))
    shutil.copy(options.to / "README.html", options.to / "index.html")
    if not options.without_chat:
        write_chat(options.to / "chat")
    print(f"Open {options.to.name}/index.html, or copy the folder to any host of static files.")


if __name__ == "__main__":
    main()
