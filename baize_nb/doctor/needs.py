"""Whether training with the chosen profile fits this machine: memory, minutes and disk, before anything is loaded.

Knows: how to compare finetune.needs with what is free, and how an NVIDIA driver says what a GPU has. Loads no torch.
"""

import shutil
import subprocess

from .. import common, profiles
from ..finetune import memory as forecast
from .findings import Finding
from .machine import GIB, free_gib, total_gib

ASK_GPU = ("--query-gpu=memory.total", "--format=csv,noheader,nounits")


def training(profile=None, memory=None, disk=None, gpu=None):
    """Whether training with a profile fits.

    profile : default: the current one. memory, disk, gpu : bytes that are free; default: as found. gpu is 0 where there
    is none.
    """
    profile = profile or profiles.current()
    wanted = forecast.needs(profile)
    value = f"profile {profile.name}: {wanted}"
    if wanted.place == "GPU":
        memory = gpu_bytes() if gpu is None else gpu
        if not memory:
            remedy = "It wants a GPU, and none is seen here: use BAIZE_PROFILE=laptop, or a machine with an NVIDIA GPU."
            return Finding("training", value, remedy)
    elif memory is None:
        free = free_gib()
        memory = GIB * (total_gib() if free is None else free)
    if wanted.memory > memory:
        return Finding("training", value, _smaller(profile, memory))
    if disk is None:
        disk = shutil.disk_usage(common.runs()).free
    if wanted.disk > disk:
        remedy = f"Only {disk / forecast.GB:.1f} GB are free there: free some space, or set BAIZE_RUNS to another disk."
        return Finding("training", value, remedy)
    return Finding("training", value)


def _smaller(profile, memory):
    """The remedy for too little memory: the first settings to change."""
    there = f"{memory / forecast.GB:.1f} GB are free."
    changed = forecast.smaller_settings(profile, memory)
    if changed is None:
        return f"{there} No setting makes that enough: use a smaller base model or profile, or a larger machine."
    named = ", ".join(f"{name}={value!r}" for name, value in changed.items())
    return f"{there} In the profile (baize_nb/profiles.py), set {named}: then it fits."


def gpu_bytes():
    """Memory of the first NVIDIA GPU, in bytes; 0 where none is seen."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return 0
    try:
        said = subprocess.run([command, *ASK_GPU], capture_output=True, text=True, timeout=10).stdout
        return int(said.splitlines()[0]) * 2**20
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return 0
