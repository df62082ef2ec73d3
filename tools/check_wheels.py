"""Does every pin of constraints.txt have a wheel for each system and Python that the course promises?

`make wheels` prints a table and ends with 1 where a wheel is missing. pip reads metadata only, and downloads nothing.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
# glibc 2.35 is Ubuntu 22.04's: what is newer than that would shut out too many machines.
GLIBC = [f"manylinux_2_{minor}" for minor in range(17, 36)] + ["manylinux2014"]
SYSTEMS = {
    "Linux x86-64": [f"{tag}_x86_64" for tag in GLIBC],
    "Linux arm64": [f"{tag}_aarch64" for tag in GLIBC],
    "macOS arm64": ["macosx_14_0_arm64"],
    "Windows x86-64": ["win_amd64"],
}


def pins(text):
    """["name==version", …] of a constraints file."""
    return re.findall(r"^[\w.\[\]-]+==\S+", text, re.MULTILINE)


def wheels(requirements, platforms, python):
    """{name: wheel file} that pip would take for one system; None where it finds no set."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet"]
    command += ["--only-binary=:all:", "--python-version", python, *(f"--platform={tag}" for tag in platforms)]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command += ["--target", folder, "--report", str(report)]
        run = subprocess.run([*command, *requirements], capture_output=True, text=True, check=False)
        if run.returncode:
            return None
        found = json.loads(report.read_text())["install"]
    return {p["metadata"]["name"].lower(): p["download_info"]["url"].rsplit("/", 1)[-1] for p in found}


def missing(requirements, platforms, python):
    """The requirements that have no wheel for one system. Asks about each alone only where all together fail."""
    if wheels(requirements, platforms, python) is not None:
        return []
    return [r for r in requirements if wheels([r], platforms, python) is None]


def main():
    """Print one line per system and Python; return the process's exit code."""
    wanted = pins((ROOT / "constraints.txt").read_text())
    print(f"{len(wanted)} pins; wheels asked for, not downloaded")
    worst = 0
    for system, platforms in SYSTEMS.items():
        for python in PYTHONS:
            lacking = missing(wanted, platforms, python)
            worst |= bool(lacking)
            print(f"{system:15} Python {python}  {'missing: ' + ', '.join(lacking) if lacking else 'all'}", flush=True)
    return worst


if __name__ == "__main__":
    sys.exit(main())
