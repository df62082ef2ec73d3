"""Set-up on Colab, run by the notebooks' first cell: install what the course needs and Colab lacks; take secrets.

%run ../tools/colab.py             what is made stays on this machine, until Colab takes it away
%run ../tools/colab.py --drive     it is kept on your Drive; what is large and can be made anew stays here

torch and numpy are loaded in the running kernel already, and the front end is Colab's own: none of them is touched.
When there is nothing to do it takes a second, so the cell may run as often as you like.
"""

import importlib
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # a Python that runs already does not see an editable install by itself
    sys.path.insert(0, str(ROOT))

from baize_nb import doctor  # noqa: E402

HELD = ("torch", "numpy")
SECRETS = ("OPENAI_API_KEY", "BAIZE_TEACHER_URL", "BAIZE_TEACHER_MODEL")


def versions() -> dict[str, str]:
    """List what is installed as {name: version}. Of two versions the first on the path counts: it is imported.

    google.colab puts setuptools' own copies of some packages on the path; nobody has installed those.
    """
    importlib.invalidate_caches()  # pip may have been at work
    found = {}
    for one in metadata.distributions():
        if one.name and Path(one.locate_file("")).name != "_vendor":
            found.setdefault(one.name.lower().replace("_", "-"), one.version)
    return found


def install(requirements: list[str], installed: dict[str, str]) -> None:
    """Let pip install them, everything else held at its version; where that can't be, torch and numpy alone."""
    names = {Requirement(text).name for text in requirements}
    for held in (set(installed) - names, HELD):
        with tempfile.TemporaryDirectory() as folder:
            constraints = Path(folder, "held.txt")
            pins = [f"{name}=={installed[name]}\n" for name in sorted(held) if name in installed]
            constraints.write_text("".join(pins))
            failed = pip("install", "-c", str(constraints), *requirements)
        if not failed:
            return
    sys.exit(f"{failed}\nCould not install {', '.join(sorted(names))}. Mend what pip says, and run the cell again.")


def pip(*arguments: str) -> str:
    """Run pip; return what it says where it fails, else "". A failure may be expected, so nothing is printed."""
    run = subprocess.run([sys.executable, "-m", "pip", "-q", *arguments], capture_output=True, text=True)
    return (run.stderr.strip() or f"pip ended with {run.returncode}") if run.returncode else ""


def remove_torchao(installed: dict[str, str]) -> None:
    """Remove a torchao that is older than peft allows: peft then refuses to add LoRA to any layer, torchao's or not."""
    if "torchao" not in installed or "peft" not in installed:
        return
    source = Path(metadata.distribution("peft").locate_file("peft/import_utils.py")).read_text(encoding="utf-8")
    least = re.search(r'TORCHAO_MINIMUM_VERSION = .*?"([\d.]+)"', source)
    if least and Version(installed["torchao"]) < Version(least[1]):
        print(
            f"Removing torchao {installed['torchao']}: peft wants {least[1]} or none at all, and the course needs none."
        )
        if failed := pip("uninstall", "-y", "torchao"):
            sys.exit(f"{failed}\nCould not remove torchao. Mend what pip says, and run the cell again.")


def take_secrets() -> None:
    """Copy Colab's secrets of these names into this kernel's environment, where nothing is set yet. Shows no value."""
    from google.colab import userdata

    for name in SECRETS:
        if os.environ.get(name):
            continue
        try:
            os.environ[name] = userdata.get(name)
        except (userdata.SecretNotFoundError, userdata.NotebookAccessError):
            continue  # there is none, or this notebook may not read it
        except Exception as error:  # nobody answers, as where the kernel runs outside Colab's own page
            print(f"Colab's secrets do not answer ({type(error).__name__}): set keys by os.environ, if you need one.")
            return  # each further question could take as long
        print(f"{name}: from Colab's secrets")


def keep_on_drive() -> None:
    """Mount the user's Drive, where it is not, and let the runs go there."""
    from google.colab import drive

    if not doctor.DRIVE.is_mount():
        drive.mount(str(doctor.DRIVE))
    os.environ["BAIZE_RUNS"] = f"{doctor.DRIVE}/MyDrive/baize"


def main(arguments: list[str]) -> None:
    """Do all of it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if lacking := [need for need in doctor.unmet(project["dependencies"]) if Requirement(need).name not in HELD]:
        print("Installing", ", ".join(lacking))
        install(lacking, versions())
    installed = versions()
    remove_torchao(installed)
    if "baize-nb" not in installed and (failed := pip("install", "--no-deps", "-e", str(ROOT))):
        sys.exit(f"{failed}\nCould not install the course. Mend what pip says, and run the cell again.")
    take_secrets()
    if "--drive" in arguments:
        keep_on_drive()
    if os.environ.get("BAIZE_RUNS", "").startswith(str(doctor.DRIVE)):  # a free Drive holds 15 GB; a run can take 12
        os.environ.setdefault("BAIZE_SCRATCH", "/content/baize-scratch")


if __name__ == "__main__":
    main(sys.argv[1:])
