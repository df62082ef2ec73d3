"""Everything that a room without a network installs, in one folder: `make wheelhouse`.

It fetches for the system and the Python that run it: use a machine like the students'.

    python tools/wheelhouse.py [FOLDER]       default: wheelhouse/ in the clone

What lies in the folder already is used and not fetched again, so a broken-off run goes on.
"""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import slides  # noqa: E402
import torch_build  # noqa: E402

from baize_nb import models  # noqa: E402 (the clone's, installed or not)

# Taken apart, not installed: what they need in turn is not needed.
ALONE = (models.WHEEL, slides.REVEAL)


def needed():
    """The requirements of the course and of installing it from a clone."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    # pip needs editables for `-e .`
    return [*project["project"]["dependencies"], *project["build-system"]["requires"], "editables"]


def download(requirements, folder, *options):
    """Let pip fetch wheels of the requirements into `folder`; return its exit code. Nothing is built from source."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--only-binary=:all:", "--find-links", str(folder)]
    return subprocess.run([*command, "--dest", str(folder), *options, *requirements]).returncode


def build(folder, requirements, constraints, alone):
    """Fill the folder: the requirements with all that they need in turn, and some wheels without that. Exit code."""
    return download(requirements, folder, "-c", str(constraints)) or download(alone, folder, "--no-deps")


def main(arguments):
    """Build, and say how to install; return the process's exit code."""
    folder = Path(arguments[0] if arguments else ROOT / "wheelhouse").absolute()
    try:
        cpu, sentence = torch_build.choose(os.environ.get("TORCH", ""))
    except ValueError as error:
        sys.exit(str(error))
    print(sentence, flush=True)
    if cpu:  # what lies in the folder wins over pip's own build of the same version
        download(["torch"], folder, *torch_build.CPU_BUILD)
    if failed := build(folder, needed(), ROOT / "constraints.txt", ALONE):
        print("Not complete. What is there is kept: run the same command again.", file=sys.stderr)
        return failed
    wheels = list(folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 2**20
    print(f"\n{len(wheels)} wheels, {size:,.0f} MB, for Python {sys.version_info.major}.{sys.version_info.minor} here.")
    print("In the room: copy this clone and that folder to each machine, and in the clone run")
    print("    make course WHEELHOUSE=path/to/the/folder")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
