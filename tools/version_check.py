"""Does the course run with other versions than those of constraints.txt? `make colab-check`, `make lowest-check`.

python tools/version_check.py colab      with those that Colab has (colab_versions.txt), and the rest by its set-up
python tools/version_check.py lowest     with the lowest that pyproject.toml allows

Each makes an environment of its own, .venv-colab or .venv-lowest, and runs there the fast tests, then all notebooks in
profile ci. It fails where a test or a cell does, where a cell writes to stderr, or the set-up changes what Colab has.
"""

import os
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tools/colab_versions.txt"
PYTHONS = {"colab": ("3.13", "3.12", "3.11"), "lowest": ("3.11", "3.12", "3.13")}  # the first that is here
# What takes minutes, needs a browser or the clone, or asks for the course's own front end.
LEFT_OUT = "book browser classroom course doctor exercises export hostile judging memory notebooks packaging project"
LEFT_OUT += " scaling scaling_ray selfchat_money template tools training webpage"
SET_UP = "import sys, google.colab; sys.path.insert(0, 'tools'); import colab; colab.main([])"
# google.colab is on no registry. This is what the set-up asks of it, for the kernels of .venv-colab.
STAND_IN = "class userdata:\n    SecretNotFoundError = NotebookAccessError = KeyError\n    get = {}.__getitem__\n"


def make_environment(kind: str, folder: Path) -> None:
    """Make the environment anew, with all but what the set-up for Colab installs."""
    uv = (sys.executable, "-m", "uv")
    path = [*map(str, Path.home().glob(".pyenv/versions/*/bin")), os.environ["PATH"]]  # uv does not look at pyenv's
    for python in PYTHONS[kind]:
        command = [*uv, "venv", "--quiet", "--clear", "--seed", "--no-python-downloads", "--python", python, folder]
        if not subprocess.run(command, env=os.environ | {"PATH": ":".join(path)}, capture_output=True).returncode:
            break
    else:
        sys.exit(f"None of these Pythons is here: {', '.join(PYTHONS[kind])}")
    print(f"Python {python}, in {folder.name}", flush=True)
    install = (*uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python")
    if kind == "lowest":
        subprocess.run([*install, "--resolution", "lowest-direct", "-e", f"{ROOT}[test]"], check=True)
        return
    subprocess.run([*install, "-r", LIST, "hypothesis", "pytest-timeout"], check=True)
    package, startup = next(folder.glob("lib/*/site-packages")) / "google", folder / "ipython/profile_default/startup"
    for place, text in ((package, STAND_IN), (startup, "import google.colab\n")):  # a kernel runs the latter first
        place.mkdir(parents=True, exist_ok=True)
        (place / "colab.py").write_text(text)


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """List what is gone or of another version; torchao may go."""
    kept = set(before) - {"torchao"}
    return [f"{name} {before[name]} → {after.get(name)}" for name in sorted(kept) if after.get(name) != before[name]]


def complaints(notebook) -> list[str]:
    """List the lines that cells wrote to stderr, each with its cell's place; a progress bar is no complaint."""
    found = []
    for place, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            lines = output.text.replace("\r", "\n").splitlines() if output.get("name") == "stderr" else []
            found += [f"cells[{place}]: {line}" for line in lines if line.strip() and "it/s" not in line]
    return found


def run_all_notebooks() -> int:
    """Run them by this very Python; print seconds and complaints; return how many had any."""
    import run_notebooks

    wrong = 0
    for path in sorted(run_notebooks.FOLDER.glob("0*.ipynb")):
        notebook, started, said = run_notebooks.read(path), time.monotonic(), []
        try:
            run_notebooks.execute(notebook, path.parent, limit=1800)
        except run_notebooks.CellFailed as error:
            said = [str(error)]
        said += complaints(notebook)
        wrong += bool(said)
        print("\n    ".join([f"{path.stem} {time.monotonic() - started:.0f} s", *said]), flush=True)
    return wrong


def main(kind: str) -> str | int:
    """Make the environment and run all of it; return what was wrong, or 0."""
    folder = ROOT / f".venv-{kind}"
    make_environment(kind, folder)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "BAIZE_"))}
    env |= {"BAIZE_PROFILE": "ci", "HF_HUB_OFFLINE": "1", "IPYTHONDIR": f"{folder}/ipython", "PYTHONPATH": str(ROOT)}
    tests = ["-m", "pytest", "-q", "tests", *(f"--ignore=tests/test_{name}.py" for name in LEFT_OUT.split())]
    steps = {"Colab's set-up": ["-c", SET_UP]} if kind == "colab" else {}
    steps |= {"the fast tests": tests, "the notebooks": [__file__, "notebooks"]}
    before, wrong = versions(folder), []
    with tempfile.TemporaryDirectory() as env["BAIZE_RUNS"]:
        for what, arguments in steps.items():
            started = time.monotonic()
            if subprocess.run([folder / "bin" / "python", *arguments], cwd=ROOT, env=env).returncode:
                wrong.append(what)
            print(f"{what}: {time.monotonic() - started:.0f} s", flush=True)
    wrong += changed(before, versions(folder))
    return f"Wrong: {'; '.join(wrong)}" if wrong else 0


def versions(folder: Path) -> dict[str, str]:
    places = [str(place) for place in folder.glob("lib/*/site-packages")]
    return {found.name: found.version for found in metadata.distributions(path=places)}


if __name__ == "__main__":
    sys.exit(run_all_notebooks() if sys.argv[1] == "notebooks" else main(sys.argv[1]))
