"""The Python that runs this: is the course installed in it, and what the course stands on?

Knows: what the installed course says that it needs. torch is started in a process of its own, never in the kernel.
"""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from .. import common
from .findings import Finding

NAME = "baize-nb"
OLDEST_TORCH = "2.6"  # as in pyproject.toml
TORCH_SECONDS = 60  # a cold disk; two or three when all is well
ASK_TORCH = (
    "import json, torch; gpu = torch.cuda.is_available();"
    "print(json.dumps([torch.__version__, torch.version.cuda, torch.cuda.get_device_name(0) if gpu else None]))"
)


def course(name=NAME, folder=None):
    """Whether the course is installed into this Python, and is the copy that the notebook lies in.

    name   : of the distribution.
    folder : the notebook's; default: the working folder.
    """
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding("course", f"not installed in {common.show(sys.prefix)}", _other_kernel())
    folder, package = Path(folder or Path.cwd()).absolute(), Path(common.__file__).resolve().parent
    beside = next((d / "baize_nb" for d in (folder, folder.parent) if (d / "baize_nb/common.py").is_file()), package)
    note = ""
    if beside.resolve() != package:
        note = (
            f"The notebook lies beside {common.show(beside)}, but this Python imports {common.show(package)}. "
            "To work with the former: pip install -e . in that folder, and restart the kernel."
        )
    return Finding("course", f"{version}, in {common.show(sys.prefix)}", note=note)


def _other_kernel():
    """What to do where the kernel is not the environment that the course was installed into."""
    if "google.colab" in sys.modules:
        return "Run the set-up cell again: a Colab machine that was reset has lost what was installed on it."
    return (
        "This is another Python than the one that the course was installed into. Choose that one as the kernel "
        "(Kernel → Change Kernel; in VS Code: Select Kernel), or start JupyterLab by `make lab`. To install it "
        "here instead: `%pip install -e ..` in a cell."
    )


def packages(needed=None):
    """Whether all that the course needs is here, and new enough. needed: lines like "openai>=2"; default: its own."""
    if needed is None:
        try:
            needed = metadata.requires(NAME) or []
        except metadata.PackageNotFoundError:
            return None  # `course` says so
    wrong, count = [], 0
    for name, least in _requirements(needed):
        if name == "torch":
            continue
        count += 1
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if numbers(version) < numbers(least):
            wrong.append(f"{name} {version} is older than {least}")
    if not wrong:
        return Finding("packages", f"all {count} are here")
    again = "Run the set-up cell again" if "google.colab" in sys.modules else "Run `%pip install -U -e ..` in a cell"
    return Finding("packages", "; ".join(wrong), f"{again}, then restart the kernel.")


def _requirements(lines):
    """(name, least version) of each line; lines with a condition (an extra) are left out."""
    for line in lines:
        name, least = re.match(r"([\w.-]+)(?:\[[^]]*\])?(?:>=([\d.]+))?", line).groups()
        if ";" not in line:
            yield name, least or "0"


def numbers(version):
    """The leading numbers of a version, for comparing: "2.13.0+cpu" gives (2, 13, 0)."""
    return tuple(int(part) for part in re.match(r"\d*(?:\.\d+)*", version)[0].split(".") if part)


def torch(python=sys.executable):
    """Whether torch starts in this Python (or another, given by its path), which build it is, and the GPU it sees."""
    command = [python, "-c", ASK_TORCH]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=TORCH_SECONDS)
    except subprocess.TimeoutExpired:
        return judge_torch(error=f"it did not start within {TORCH_SECONDS} seconds")
    if run.returncode:
        return judge_torch(error=(run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1])
    return judge_torch(*json.loads(run.stdout.splitlines()[-1]))


def judge_torch(version="", cuda=None, gpu=None, error=""):
    """The finding for a torch. cuda: of its build, or None; gpu: the name of the one it sees; error: why it fails."""
    if error:
        if "libgomp" in error:
            remedy = "This Linux lacks OpenMP's library: `apt-get install libgomp1` (or ask who may)."
        else:
            remedy = 'Install it anew, as the README says under "Without make": `%pip install -U torch`; then restart.'
        return Finding("torch", f"does not start: {error}", remedy)
    if numbers(version) < numbers(OLDEST_TORCH):
        remedy = (
            f"The course needs {OLDEST_TORCH} or newer: `%pip install -U torch` in a cell, then restart the kernel."
        )
        return Finding("torch", version, remedy)
    if gpu:
        return Finding("torch", f"{version}, GPU {gpu} (this course was never run on one by its authors)")
    note = (
        "A build for NVIDIA GPUs, and none is seen here. It works; the CPU build saves several gigabytes (see README)."
        if cuda
        else ""
    )
    return Finding("torch", f"{version}, no GPU: the course runs on the processor", note=note)
