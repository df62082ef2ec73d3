"""Preflight: what is set, and what this machine can do. Loads no model.

Knows: the environment variables of the course, memory, disk, cores. Does not know: how any stage works.
"""

import os
import platform
import shutil
import sys

from . import artifacts, models, profiles, teacher

NEEDS_GIB = {"disk": 3.0, "memory": 4.0}  # laptop profile: model cache and runs; training peak with room to spare


def settings():
    """Print the profile, the teacher and the folder in use: all that the environment decides."""
    profile = profiles.current()
    print(f"Profile:   {profile.name} ({profile.seeds:,} dialogues, base model {profile.base})")
    print(f"Teacher:   {teacher.choice()[1]}")
    print(f"Artifacts: {artifacts.show(artifacts.runs())}")


def machine():
    """What this machine has: [(what, value, what to do about it, or "")]."""
    memory, disk = _memory_gib(), shutil.disk_usage(models.cache()).free / 2**30
    return [
        ("Python", platform.python_version(), "" if sys.version_info >= (3, 11) else "Install Python 3.11 or newer."),
        ("processor", f"{os.cpu_count()} cores, {platform.machine()}", ""),
        ("memory", f"{memory:.0f} GiB", _short(memory, "memory", "Close other programs, or use BAIZE_PROFILE=ci.")),
        ("free disk", f"{disk:.0f} GiB", _short(disk, "disk", "Free some space, or set BAIZE_RUNS to another disk.")),
        ("GPU", _gpu(), ""),
        ("embedded model", _embedded(), ""),
    ]


def report():
    """Print `machine()` as a table, with the remedy where something is missing; return True if all is well."""
    rows = machine()
    for what, value, remedy in rows:
        print(f"{'!' if remedy else '✓'} {what:<15} {value}" + (f"  → {remedy}" if remedy else ""))
    return not any(remedy for _, _, remedy in rows)


def _short(value, what, remedy):
    return remedy if value < NEEDS_GIB[what] else ""


def _memory_gib():
    """Memory of the machine in GiB; of Windows, which has no sysconf, through ctypes."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    import ctypes

    kibibytes = ctypes.c_ulonglong()
    ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kibibytes))
    return kibibytes.value / 2**20


def _gpu():
    import torch

    if not torch.cuda.is_available():
        return "none: the course runs on the processor"
    device = torch.cuda.get_device_properties(0)
    return f"{device.name}, {device.total_memory / 2**30:.0f} GiB (never tried by the authors of this course)"


def _embedded():
    return "in the cache" if (models.cache() / models.GGUF).is_file() else "not fetched yet (93 MB, once)"
