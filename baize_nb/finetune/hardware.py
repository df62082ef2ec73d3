"""Processes, threads and free memory of this machine, as far as training asks for them.

Knows: what a launcher and Linux say. Does not know: models, settings.
"""

import contextlib
import io
import os
import time
from pathlib import Path

from ..doctor.machine import GIB, free_gib

STAT = Path("/proc/stat")
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
MEMORY = Path("/sys/fs/cgroup")


def rank():
    """Number of this process among those that a launcher started: 0 is the one that speaks and writes."""
    return int(os.environ.get("RANK", 0))


def processes():
    """How many processes a launcher started for this run; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", 1))


def _neighbours():
    """How many of them run on this machine, this one included."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


@contextlib.contextmanager
def only_the_first_speaks():
    """Inside, what any process but the first prints is dropped: they would all say the same."""
    with contextlib.redirect_stdout(io.StringIO()) if rank() else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def computing_with(threads):
    """Inside, PyTorch computes with this many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def free_cores(most, seconds=0.3, stat=STAT, quota=CPU_QUOTA):
    """Cores that this process may use and that nobody else keeps busy, 1 to `most`.

    PyTorch's threads wait for each other after each operation: one thread too many, on a core that another program
    holds, makes all of them slow. Looks for `seconds`; outside Linux the busy cores are unknown and count as free.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = min(allowed, _quota(quota), most)
    share = max(1, int(allowed) // _neighbours())
    return max(1, round(min(share, _idle(seconds, stat)))) if share > 1 else 1


def _quota(file):
    """Cores that a container may use at a time; infinite where there is no limit."""
    try:
        most, period = file.read_text().split()
        return int(most) / int(period)
    except (OSError, ValueError):  # not Linux, no container, or "max"
        return float("inf")


def _idle(seconds, stat):
    """Cores that did nothing, on average over some seconds; infinite where the system does not say."""
    if not stat.is_file():
        return float("inf")
    before = _idle_ticks(stat)
    time.sleep(seconds)
    return (_idle_ticks(stat) - before) / os.sysconf("SC_CLK_TCK") / seconds


def _idle_ticks(stat):
    """Clock ticks that all cores together have been idle or waited for a disk, since the start of the machine."""
    fields = stat.read_text().split("\n", 1)[0].split()
    return int(fields[4]) + int(fields[5])


def free_memory(folder=MEMORY):
    """Memory that each process of this run can still take, in GiB: of the machine, or of the container if it has less.

    None where the system does not say (macOS, Windows).
    """
    free = _free(folder)
    return None if free is None else free / _neighbours()


def _free(folder):
    """The same for all of them together."""
    free = free_gib()
    try:
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        used = int((folder / "memory.current").read_text()) - int(stat["inactive_file"])  # files read: given back
        left = (int((folder / "memory.max").read_text()) - used) / GIB
    except (OSError, ValueError, KeyError):  # no such files outside Linux; "max" where there is no limit
        return free
    return left if free is None else min(free, left)
