"""Preflight: what is set, what this machine can do, and the remedy where something is amiss. Loads no model.

Knows: which checks there are, and how their findings are shown. Does not know: how any stage of the course works.
Nothing is downloaded and nothing is paid; an endpoint is asked only where a key or an address is set.

    python -m baize_nb.doctor          the same in a terminal; exit code 1 where something must be mended
    python -m baize_nb.doctor --ask    asks the teacher for one token too: the only way to see that a key has credit
"""

import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036 (an older Python can't even import the rest)
    raise ImportError(
        f"The course needs Python 3.11 or newer; this is {sys.version_info[0]}.{sys.version_info[1]}. Install a newer "
        "one, make a new environment with it, and choose that as the notebook's kernel."
    )

from .. import common, profiles, teacher
from . import cache, kernel, machine, needs, network, places
from .findings import Finding, found
from .machine import NEEDS_GIB

__all__ = ["NEEDS_GIB", "Finding", "findings", "report", "settings"]

CHECKS = (
    ("Python", machine.python),
    ("course", kernel.course),
    ("packages", kernel.packages),
    ("torch", kernel.torch),
    ("processor", machine.processor),
    ("memory", machine.memory),
    ("free disk", machine.disk),
    ("training", needs.training),
    ("folders", places.windows),
    ("Colab", places.colab),
    ("local port", network.loopback),
    ("proxy", network.proxy),
    ("embedded model", cache.embedded),
)


def settings():
    """Print the profile, the teacher and the folder in use: all that the environment decides."""
    profile = profiles.current()
    print(f"Profile:   {profile.name} ({profile.seeds:,} dialogues, base model {profile.base})")
    print(f"Teacher:   {teacher.choice()[1]}")
    folder = common.runs()
    # A folder that somebody named is shown whole: a slip in it is seen here, before anything is written there.
    print(f"Artifacts: {folder.absolute() if os.environ.get('BAIZE_RUNS') else common.show(folder)}")


def findings(ask=False):
    """What each check found, in order, as `Finding`s; checks that don't concern this machine are left out.

    ask : also send one request for one token to a teacher that is not embedded (a paid one bills it).
    Takes some seconds, most of them for starting torch in a process of its own.
    """
    checks = [*CHECKS, ("teacher", lambda: network.endpoint(ask))]
    return [finding for what, check in checks if (finding := found(what, check))]


def report(ask=False):
    """Print what was found, one line for each thing, with the remedy where one is needed. True: nothing to mend.

    ask : as in `findings`. Built in notebook 00.
    """
    all_found = findings(ask)
    for finding in all_found:
        print(finding)
    return all(finding.ok for finding in all_found)
