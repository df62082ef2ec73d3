"""Preflight: what is set, what this machine can do, and the remedy where something is amiss. Loads no model.

Nothing is downloaded and nothing is paid; an endpoint is asked only where a key or an address is set.

    python -m baize_nb.doctor          the same in a terminal; exit code 1 where something must be mended
    python -m baize_nb.doctor --ask    asks the teacher for one token too: only so a key shows its credit
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (an older Python can't even import the rest)
    raise ImportError(
        f"The course needs Python 3.11 or newer; this is {sys.version_info[0]}.{sys.version_info[1]}. "
        "Install a newer one, make a new environment with it, and choose that as the notebook's kernel."
    )

import argparse
import contextlib
import io
import json
import os
import platform
import shutil
import subprocess
import textwrap
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path, PureWindowsPath
from typing import NamedTuple
from urllib.request import getproxies, proxy_bypass

from . import common, models, profiles, teacher
from .common import CourseError

ASK_TORCH = """import json, torch
gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
print(json.dumps([torch.__version__, torch.version.cuda, gpu]))"""
DRIVE = Path("/content/drive")
# The front end of Colab is Colab's, in versions of its own; the set-up there leaves them alone.
COLABS_OWN = {"ipykernel", "ipywidgets", "jupyter-client", "jupyterlab", "nbclient", "nbformat", "tornado"}


class Finding(NamedTuple):
    value: str  # what is there
    remedy: str = ""  # what to do about it; empty where all is well
    note: str = ""  # what is good to know though nothing is wrong

    def line(self, what: str) -> str:
        """Make the line of the report, and below it what there is to do or to know."""
        mark = "!" if self.remedy else "·" if self.note else "✓"
        line = f"{mark} {what:<15} {self.value}".rstrip()
        if more := self.remedy or self.note:
            line += "\n" + textwrap.fill(f"→ {more}", 110, initial_indent="    ", subsequent_indent="      ")
        return line


def settings() -> None:
    """Print the profile, the teacher and the folder in use: all that the environment decides."""
    profile, folder = profiles.current(), common.runs()
    print(f"Profile:   {profile.name} ({profile.seeds:,} dialogues, base model {models.base_name(profile.base)})")
    print(f"Teacher:   {teacher.choice()[1]}")
    # A folder that somebody named is shown whole: a slip in it is seen before anything is written there.
    print(f"Artifacts: {folder.absolute() if os.environ.get('BAIZE_RUNS') else common.show(folder)}")


def report(ask: bool = False) -> bool:
    """Print what was found, one line for each thing, with the remedy where one is needed. True: nothing to mend.

    ask : also send one request for one token to a teacher that is not embedded (a paid one bills it).
    """
    fine = True
    for check in CHECKS:
        try:
            finding = check(ask) if check is endpoint else check()
        except CourseError as error:
            finding = Finding("", str(error))
        except Exception as error:  # one look that fails must not hide all the others
            said = f"{type(error).__name__}: {error}. First mend what the lines above say."
            finding = Finding("could not be looked at", said)
        if finding:
            print(finding.line(check.__name__.replace("_", " ")))
            fine = fine and not finding.remedy
    return fine


def course() -> Finding:
    """Look whether the course is installed into this Python."""
    where = f"Python {platform.python_version()} in {common.show(sys.prefix)}"
    try:
        return Finding(f"{metadata.version('baize-nb')}, {where}")
    except metadata.PackageNotFoundError:
        remedy = (
            "This Python is not the course's. Choose that one (Kernel → Change Kernel; in VS Code: Select "
            "Kernel), start by `make lab`, or install it here: `%pip install -e ..` in a cell."
        )
        return Finding(f"not installed, {where}", remedy)


def unmet(requirements: Iterable[str]) -> list[str]:
    """List those that are not installed, or in another version; on Colab, without its front end."""
    from packaging.requirements import Requirement

    wrong = []
    for requirement in map(Requirement, requirements):
        if requirement.marker or ("google.colab" in sys.modules and requirement.name in COLABS_OWN):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            version = ""
        if not version or not requirement.specifier.contains(version, prereleases=True):
            wrong.append(str(requirement))
    return wrong


def packages() -> Finding:
    """Look whether all that the course says it needs is here, and new enough."""
    if not (wrong := unmet(metadata.requires("baize-nb"))):
        return Finding("all are here")
    remedy = "Run `%pip install -U -e ..` in a cell (on Colab, the set-up cell), then restart the kernel."
    return Finding(f"missing or too old: {', '.join(wrong)}", remedy)


def torch() -> Finding:
    """Look whether torch starts, in a process of its own, which build it is, and the GPU it sees."""
    command = [sys.executable, "-c", ASK_TORCH]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if run.returncode:
        remedy = "Install it anew, as docs/install.md says, and restart."
        if "libgomp" in run.stderr:
            remedy = "This Linux lacks OpenMP's library: `apt-get install libgomp1` (or ask who may)."
        error = run.stderr.strip().splitlines()[-1:] or [f"exit code {run.returncode}"]
        return Finding(f"does not start: {error[0]}", remedy)
    version, cuda, gpu = json.loads(run.stdout.splitlines()[-1])
    if gpu:
        return Finding(f"{version}, GPU {gpu} (this course was never run on one by its authors)")
    note = "A build for NVIDIA GPUs, and none is seen here. The CPU build saves gigabytes (docs/install.md)."
    return Finding(f"{version}, no GPU: the course runs on the processor", note=note if cuda else "")


def machine() -> Finding:
    """Look at cores, memory and disk: is there room for the embedded model and for what the notebooks write?"""
    from .finetune.memory import memory_gib

    total, free = memory_gib()
    disk = min(shutil.disk_usage(folder).free for folder in (models.cache(), common.runs())) / 2**30
    room, remedy = f"{total:.0f} GiB, {free:.1f} of them free; {disk:.1f} GiB of disk", ""
    if disk < 2:
        remedy = "Free 2 GiB on the disks of your user cache and of the runs; BAIZE_RUNS can name a folder elsewhere."
    return Finding(f"{os.cpu_count()} cores, {platform.machine()}; {room}", remedy)


def training() -> Finding:
    """Look whether training with the current profile fits into memory, before anything is loaded."""
    from .finetune import memory

    profile, remedy = profiles.current(), ""
    try:
        memory.check_memory(profile)
    except CourseError as error:
        remedy = f"{error} Or use BAIZE_PROFILE=laptop."
    return Finding(f"profile {profile.name}: {memory.needs(profile)}", remedy)


def folders() -> Finding | None:
    """Look whether the course's folders suit Windows. None elsewhere."""
    if os.name != "nt":
        return None
    for folder in (Path(common.__file__).parent, common.runs(), models.cache()):
        if trouble := windows_trouble(PureWindowsPath(folder)):
            remedy = "Move the clone to a short, plain folder such as C:\\baize; set BAIZE_RUNS to C:\\baize-runs."
            return Finding(f"{folder} {trouble}", remedy)
    return Finding("fit for Windows")


def windows_trouble(path: PureWindowsPath) -> str:
    """Say what is wrong with a Windows path, or ""."""
    text = str(path)
    troubles = {  # the course's own folders and files add less than 100 to the 260 that Windows allows
        "is too long": len(text) > 160,
        "is a network share, where locks often fail": path.drive.startswith("\\\\"),
        "is in OneDrive, which locks files while it copies them": "\\onedrive" in text.lower(),
        "has letters that some of the libraries can't open": not text.isascii(),
    }
    return ", ".join(trouble for trouble, there in troubles.items() if there)


def colab() -> Finding | None:
    """Look whether the runs outlive a reset of the Colab machine. None elsewhere."""
    if "google.colab" not in sys.modules:
        return None
    if common.runs().is_relative_to(DRIVE) and DRIVE.is_mount():
        return Finding("runs lie on your Drive: a reset does not touch them")
    note = "To keep them on your Drive, write --drive at the end of the set-up cell and run it, now and after a reset."
    return Finding(f"a reset of this machine wipes your runs in {common.runs()}", note=note)


def proxy() -> Finding:
    """Look which proxies are set, and whether they leave this machine's own addresses alone."""
    named = {scheme: url for scheme, url in getproxies().items() if scheme in ("http", "https", "all")}
    # Without the scheme, and without the password that it may carry.
    hosts = {url.rpartition("@")[2].rpartition("//")[2] for url in named.values()}
    note = ""
    if {"http", "all"} & set(named) and not proxy_bypass("127.0.0.1"):
        note = (
            "Requests to this machine itself take that way too (notebook 08; not the embedded teacher): "
            "in a cell, `%env NO_PROXY=127.0.0.1,localhost`."
        )
    return Finding(", ".join(sorted(hosts)) or "none set", note=note)


def endpoint(ask: bool = False) -> Finding | None:
    """Look whether the teacher's endpoint takes the key and has the model. None for a teacher on this machine."""
    kind, sentence = teacher.choice()
    if kind in ("embedded", "file"):
        return None
    import openai

    from .chat import EndpointSession

    try:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            asked = teacher.from_env()
            if ask:
                EndpointSession(asked, max_new_tokens=1).answer("Hello")
    except openai.OpenAIError as error:
        return Finding(str(error).splitlines()[0], "Is BAIZE_TEACHER_URL right, up to and with /v1?")
    notes = said.getvalue().splitlines()[1:]
    if asked.api_key and not ask:
        notes.append("Whether the key has credit shows only at a request: doctor.report(ask=True) sends a tiny one.")
    return Finding(f"answers: {sentence}", note=" ".join(notes))


def embedded_model() -> Finding:
    """Look whether the cached GGUF file and its converted form are whole. Fetches and mends nothing."""
    from safetensors import SafetensorError, safe_open

    gguf, converted = models.cache() / models.GGUF, models.converted()
    if (converted / "complete").is_file():
        try:  # it compares the length with the file's own header
            safe_open(converted / "model.safetensors", framework="numpy")
        except (OSError, SafetensorError):
            remedy = f"Delete the folder {common.show(converted)}: the next use makes it anew."
            return Finding("model.safetensors in its converted form is damaged", remedy)
    if gguf.is_file() and common.sha256(gguf) != models.GGUF_SHA256:
        return Finding("damaged: its SHA-256 is not the expected one", note="The next use fetches it again.")
    return Finding("in the cache, and whole" if gguf.is_file() else "not fetched yet (93 MB, once)")


CHECKS = [course, packages, torch, machine, training, folders, colab, proxy, embedded_model, endpoint]


def main() -> int:
    """Print settings and report; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m baize_nb.doctor")
    parser.add_argument("--ask", action="store_true", help="ask the teacher for one token too")
    ask = parser.parse_args().ask
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a console without UTF-8 shows ? for a mark and goes on
    try:
        settings()
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    print()
    return 0 if report(ask) else 1


if __name__ == "__main__":
    sys.exit(main())
