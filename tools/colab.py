"""Set-up on Colab: install what the course needs and Colab lacks, and take keys from Colab's secrets.

Knows: which packages to leave alone. Does not know: notebooks. Run by their set-up cell: `%run ../tools/colab.py`.
torch and numpy are loaded in the running kernel already, and the front end is Colab's own: none of them is touched.
When there is nothing to do it takes a second, so the cell may run as often as you like.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
HELD = ("torch", "numpy")
FRONT_END = ("ipykernel", "ipywidgets", "jupyter-client", "jupyterlab", "nbclient", "nbformat", "tornado")
SECRETS = ("OPENAI_API_KEY", "BAIZE_TEACHER_URL", "BAIZE_TEACHER_MODEL")


def missing(requirements, installed):
    """Those that are not installed, or in a version that the course can't use; HELD and FRONT_END never.

    installed : {name: version}.
    """
    wanted = [Requirement(text) for text in requirements]
    wanted = [r for r in wanted if r.name not in HELD + FRONT_END]
    return [str(r) for r in wanted if r.name not in installed or not r.specifier.contains(installed[r.name], True)]


def install(requirements, installed):
    """Let pip install them, everything else held at its version; where that can't be, torch and numpy alone."""
    names = {Requirement(text).name for text in requirements}
    for held in (set(installed) - names, HELD):
        pins = "".join(f"{name}=={installed[name]}\n" for name in sorted(held) if name in installed)
        if pip("-c", pins, *requirements) == 0:
            return
    sys.exit(f"Could not install {', '.join(sorted(names))}. Look at what pip says above, and run the cell again.")


def pip(option, pins, *what):
    """pip's exit code; `pins` is the text of a constraints file."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "held.txt")
        constraints.write_text(pins)
        return subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", option, str(constraints), *what]
        ).returncode


def versions():
    """{name: version} of all that is installed."""
    return {d.name.lower().replace("_", "-"): d.version for d in metadata.distributions()}


def take_secrets():
    """Copy Colab's secrets of these names into this kernel's environment, where nothing is set yet. Shows no value."""
    from google.colab import userdata

    for name in SECRETS:
        if os.environ.get(name):
            continue
        try:
            os.environ[name] = userdata.get(name)
        except (userdata.SecretNotFoundError, userdata.NotebookAccessError, userdata.TimeoutException):
            continue  # there is none, or this notebook may not read it
        print(f"{name}: from Colab's secrets")


def main():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = versions()
    if lacking := missing(project["dependencies"], installed):
        print("Installing", ", ".join(lacking))
        install(lacking, installed)
    if "baize-nb" not in installed:
        pip("-c", "", "--no-deps", "-e", str(ROOT))
    # A Python that runs already does not see an editable install by itself.
    sys.path[:0] = [folder for folder in (str(ROOT), str(ROOT / "notebooks")) if folder not in sys.path]
    take_secrets()


if __name__ == "__main__":
    main()
