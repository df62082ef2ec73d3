"""Python, processor, memory and disk.

Knows: what the profile `laptop` needs, and where Linux, macOS and Windows say what there is.
"""

import os
import platform
import shutil
import sys
from pathlib import Path

from .. import common, models
from .findings import Finding

# Profile laptop. disk: model cache and runs; memory: of the machine; free memory: training's peak with some room.
NEEDS_GIB = {"disk": 3.0, "memory": 4.0, "free memory": 2.0}
GIB = 2**30
CGROUP = Path("/sys/fs/cgroup/memory.max")
MEMINFO = Path("/proc/meminfo")


def python(version=None):
    """Whether this Python, or the version (3, 9, 1), is new enough."""
    version = tuple(version or sys.version_info)[:3]
    remedy = (
        "Install Python 3.11 or newer, make a new environment with it, and choose that as the notebook's kernel."
        if version < (3, 11)
        else ""
    )
    return Finding("Python", ".".join(map(str, version)), remedy)


def processor():
    """Cores and architecture: for information only."""
    return Finding("processor", f"{os.cpu_count()} cores, {platform.machine()}")


def memory(total=None, free=None):
    """Whether memory suffices. total, free: GiB; free is None on systems that don't say it."""
    if total is None:
        total, free = total_gib(), free_gib()
    value = f"{total:.0f} GiB" + ("" if free is None else f", {free:.1f} of them free")
    if total < NEEDS_GIB["memory"]:
        wanted = f"The course wants {NEEDS_GIB['memory']:.0f} GiB."
        return Finding("memory", value, f"{wanted} Use BAIZE_PROFILE=ci, or a larger machine (Colab is free).")
    if free is not None and free < NEEDS_GIB["free memory"]:
        wanted = f"Training wants {NEEDS_GIB['free memory']:.0f} GiB free."
        return Finding("memory", value, f"{wanted} Close other programs and other kernels, or use BAIZE_PROFILE=ci.")
    return Finding("memory", value)


def total_gib(cgroup=CGROUP):
    """Memory of the machine in GiB, or of the container where that is less."""
    return min(_installed_gib(), _limit_gib(cgroup))


def _limit_gib(cgroup):
    """The container's limit in GiB; infinite where there is none."""
    try:
        return int(cgroup.read_text()) / GIB
    except (OSError, ValueError):  # no such file outside Linux; "max" where there is no limit
        return float("inf")


def _installed_gib():
    """Memory of the machine in GiB; of Windows, which has no sysconf, through ctypes."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    import ctypes

    kibibytes = ctypes.c_ulonglong()
    ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kibibytes))
    return kibibytes.value / 2**20


def free_gib(meminfo=MEMINFO):
    """Memory that programs can still take, in GiB; None where the system has no /proc (macOS, Windows)."""
    if not meminfo.is_file():
        return None
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    return int(lines["MemAvailable"].split()[0]) / 2**20 if "MemAvailable" in lines else None


def disk(cache=None, runs=None):
    """Whether there is room for the model's cache and for the runs. cache, runs: GiB free at each of them."""
    if cache is None:
        cache, runs = (shutil.disk_usage(folder).free / GIB for folder in (models.cache(), common.runs()))
    value = f"{min(cache, runs):.1f} GiB"
    if cache < NEEDS_GIB["disk"]:
        where, instead = "your user cache lies", ""
    elif runs < NEEDS_GIB["disk"]:
        where, instead = "the runs go", ", or set BAIZE_RUNS to a folder on another disk"
    else:
        return Finding("free disk", value)
    wanted = f"Free some space on the disk where {where} ({NEEDS_GIB['disk']:.0f} GiB are enough)"
    return Finding("free disk", value, f"{wanted}{instead}.")
