"""Give the course its public address: `make address ADDRESS=https://github.com/OWNER/NAME`, once, and again for a fork.

It stands in pyproject.toml. From there it comes into README.md (a badge for each notebook), docs/colab.md (the line
that clones) and the notebooks' set-up cell, which fetches the course where a badge has opened a notebook alone. Without
an argument the places are brought up to date. Nothing is executed and no output changes.
"""

import re
import sys
import tomllib
from pathlib import Path

import run_notebooks

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+?(?=\.git$|/?$)")
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
SETUP = "# Set-up: on Colab"
FETCH = """\
    from pathlib import Path

    if not Path("../tools/colab.py").exists():
        !test -e /content/baize || git clone --quiet {address} /content/baize
        %cd -q /content/baize/notebooks
"""


def stored(root):
    """The address in pyproject.toml, or None."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project.get("urls", {}).get("Repository")


def store(root, address):
    """Write it there, in place of a former one."""
    file = root / "pyproject.toml"
    text = re.sub(r"\[project\.urls\]\n.*\n\n", "", file.read_text(encoding="utf-8"))
    ours = f'[project.urls]\nRepository = "{address}"\n\n'
    file.write_text(text.replace("[project.optional-dependencies]", ours + "[project.optional-dependencies]"), "utf-8")


def readme(root, address, names):
    """Badges between the two marks of README.md, and the address in docs/colab.md."""
    file = root / "README.md"
    text = file.read_text(encoding="utf-8")
    pages = address.replace("github.com", "colab.research.google.com/github") + "/blob/main/notebooks/"
    badges = " ".join(f"[![{name[:2]} on Colab]({BADGE})]({pages}{name})" for name in names)
    text = re.sub(r"(<!-- badges -->\n)(?:.*\n)?(<!-- /badges -->)", rf"\g<1>{badges}\n\g<2>", text)
    file.write_text(text, encoding="utf-8")
    colab = root / "docs" / "colab.md"
    text = re.sub(
        r"git clone \S+ /content/baize", f"git clone {address} /content/baize", colab.read_text(encoding="utf-8")
    )
    colab.write_text(text, encoding="utf-8")


def set_up(source, address):
    """A set-up cell that fetches the course where it is not there."""
    lines = source.splitlines(keepends=True)
    condition = next(i for i, line in enumerate(lines) if line.startswith("if "))
    return "".join(lines[: condition + 1]) + FETCH.format(address=address) + "".join(lines[-2:])


def main(arguments, root=ROOT):
    if arguments:
        found = ADDRESS.match(arguments[0])
        if found is None:
            sys.exit(f"{arguments[0]!r} is no address of the form https://github.com/OWNER/NAME.")
        store(root, found[0])
    address = stored(root)
    if address is None:
        sys.exit("No address yet: make address ADDRESS=https://github.com/OWNER/NAME")
    paths = sorted((root / "notebooks").glob("[0-9]*.ipynb"))
    readme(root, address, [path.name for path in paths])
    for path in paths:
        notebook = run_notebooks.read(path)
        cell = next(cell for cell in notebook.cells if cell.source.startswith(SETUP))
        cell.source = set_up(cell.source, address)
        run_notebooks.write(notebook, path)
    print(f"{address} stands in pyproject.toml, README.md, docs/colab.md and {len(paths)} notebooks.")


if __name__ == "__main__":
    main(sys.argv[1:])
