"""Where files lie: folders that break on Windows, and what a reset of Colab takes away.

Knows: the limits of Windows paths, and how Colab and Google Drive keep files.
"""

import os
import re
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath

from .. import common, models
from .findings import Finding

LONGEST_PATH = 260  # Windows, unless its "long paths" are switched on
BELOW = 100  # characters that the course's own folders and files add, with room to spare
DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
DRIVE = PurePosixPath("/content/drive")
KEEP = f"{DRIVE}/MyDrive/baize"


def windows(folders=None):
    """Whether the folders suit Windows. folders: paths as text; default: the course's own, on Windows alone."""
    if folders is None:
        if os.name != "nt":
            return None
        folders = [str(Path(common.__file__).parent), str(common.runs()), str(models.cache())]
    for folder in folders:
        if trouble := _trouble(PureWindowsPath(folder)):
            remedy = "Move the clone to a short, plain folder such as C:\\baize, and set BAIZE_RUNS to C:\\baize-runs."
            return Finding("folders", f"{folder}: {trouble}", remedy)
    return Finding("folders", "fit for Windows")


def _trouble(path):
    """What is wrong with a Windows path, or ""."""
    text = str(path)
    if len(text) + BELOW > LONGEST_PATH:
        return f"{len(text)} characters long; with the files below it that passes Windows' limit of {LONGEST_PATH}"
    if path.drive.startswith("\\\\"):
        return "a network share, where locks and consoles often fail"
    if any(part.lower().startswith("onedrive") for part in path.parts):
        return "in OneDrive, which locks files while it copies them"
    if not text.isascii():
        return "letters outside plain ASCII, which some of the libraries can't open"
    if any(DEVICE.fullmatch(part) or part.endswith((".", " ")) for part in path.parts[1:]):
        return "a name that Windows keeps for itself"
    return ""


def colab(runs=None, mounted=None):
    """Whether the runs outlive a reset of the Colab machine. None elsewhere.

    runs    : the folder of the runs; default: the present one.
    mounted : whether Drive is; default: as found.
    """
    if "google.colab" not in sys.modules:
        return None
    runs = PurePosixPath(runs or common.runs())
    mounted = Path(DRIVE).is_mount() if mounted is None else mounted
    mount = f"`from google.colab import drive; drive.mount('{DRIVE}')`"
    if not runs.is_relative_to(DRIVE):
        note = (
            f"Colab wipes this machine at a reset, and {runs.name}/ with it. To keep your runs, before all else: "
            f"{mount} and `import os; os.environ['BAIZE_RUNS'] = '{KEEP}'`. After a reset, do that and run the set-up "
            "cell again; the notebooks go on from what is there."
        )
        return Finding("Colab", "runs lie on the machine's own disk", note=note)
    if mounted:
        return Finding("Colab", "runs lie on your Drive: a reset does not touch them")
    remedy = (
        f"Drive is not mounted, so {DRIVE} is only a folder of this machine. Restart the session, put that folder "
        f"aside (`!mv {DRIVE} /content/not-on-drive`), then {mount}, and run this notebook again."
    )
    return Finding("Colab", "BAIZE_RUNS names your Drive, which is not there", remedy)
