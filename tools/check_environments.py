"""Fast tests and all notebooks with other versions of the packages: `make colab-check` and `make lowest-check`.

    python tools/check_environments.py colab      those that Colab has (colab_packages.txt), set up as on Colab
    python tools/check_environments.py lowest     the oldest that pyproject.toml allows

Each has an environment beside .venv, made once; it takes minutes to make, and half an hour to run. Not part of the
tests: what it installs is a gigabyte.
"""

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import torch_build
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ROOT / "tools" / "colab_packages.txt"
# What touches the packages whose versions differ most: widgets, models, data frames, the openai client.
FAST = ("colab", "chat", "corpus", "dialogue_browser", "formats", "models", "seeds", "teacher", "transcript", "widget")
RUNNERS = ("nbval", "pytest", "pytest-timeout", "hypothesis")
SET_UP = "import colab; colab.take_secrets = lambda: None; colab.main()"


def lowest() -> list[str]:
    """List the course's requirements at the oldest version that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    return [f"{r.name}=={next(iter(r.specifier)).version}" for r in wanted]


def pip(python: Path, *arguments: str) -> None:
    """Run pip in another environment; end the program where it fails."""
    if failed := subprocess.run([python, "-m", "pip", *arguments, "--quiet"]).returncode:
        sys.exit(failed)


def make(which: str, folder: Path) -> Path:
    """Make the environment, once; return its Python."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (folder / "complete").is_file():
        return python
    venv.create(folder, clear=True, with_pip=True)
    pins = PACKAGES.read_text().split("\n\n")[1].split() if which == "colab" else lowest()
    others = [pin for pin in pins if not pin.startswith(("torch==", "setuptools=="))]
    cpu, sentence = torch_build.choose(os.environ.get("TORCH", ""))
    print(sentence, flush=True)
    if cpu:
        pip(python, "install", *torch_build.CPU_BUILD[:1], *torch_build.CPU_BUILD[3:], *set(pins) - set(others))
    pip(python, "install", *others, "torch")
    if which == "colab":  # as Colab's machine is before anybody touches it, and then as its first cell leaves it
        pip(python, "install", "--no-deps", *(pin for pin in pins if pin.startswith(("setuptools==", "torchao=="))))
        before = freeze(python)
        for _ in range(2):
            subprocess.run([python, "-c", SET_UP], cwd=ROOT / "tools", check=True)
        changed = sorted(before - freeze(python))
        print("The set-up changed:", ", ".join(changed) or "nothing", flush=True)
        if [pin for pin in changed if not pin.startswith("torchao==")]:
            sys.exit("It should change nothing but torchao.")
    else:
        pip(python, "install", "--no-deps", "-e", str(ROOT))
    held = folder / "held.txt"
    held.write_text("\n".join(pin for pin in freeze(python) if "==" in pin))
    pip(python, "install", "-c", str(held), *RUNNERS)
    (folder / "complete").touch()
    return python


def freeze(python: Path) -> set[str]:
    """List what is installed in an environment."""
    listed = subprocess.run([python, "-m", "pip", "freeze", "--all"], capture_output=True, text=True, check=True)
    return {line for line in listed.stdout.splitlines() if not line.startswith(("-e", "pip=="))}


def main(arguments: list[str]) -> int:
    """Make the environment and run everything in it; return the process's exit code."""
    if arguments not in (["colab"], ["lowest"]):
        print("Use: python tools/check_environments.py colab|lowest", file=sys.stderr)
        return 2
    python = make(arguments[0], ROOT / f".venv-{arguments[0]}")
    tests = sorted(str(path) for name in FAST for path in (ROOT / "tests").glob(f"test_{name}*.py"))
    flags = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=600", "-p", "no:cacheprovider"]
    return subprocess.run([python, "-m", "pytest", *flags, *tests, "notebooks"], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
