"""Tests and notebooks in one run, in two processes: what stays together, and what they find around them."""

import re
import shutil
import tempfile
from contextlib import contextmanager

import pytest

FOREIGN = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "BAIZE_TEACHER_URL", "BAIZE_TEACHER_MODEL")
FOREIGN += ("BAIZE_TEACHER", "BAIZE_BASE", "MPLBACKEND")
FOLDERS = {}  # {group of notebooks: its folder of runs}


@contextmanager
def surroundings(folder, **more):
    """Profile ci, a folder of runs of its own; no key, no teacher, no model hub."""
    with pytest.MonkeyPatch.context() as patch:
        for name in FOREIGN:
            patch.delenv(name, raising=False)
        for name, value in {"BAIZE_PROFILE": "ci", "HF_HUB_OFFLINE": "1", "BAIZE_RUNS": str(folder), **more}.items():
            patch.setenv(name, value)
        yield folder


@pytest.fixture(scope="session", autouse=True)
def runs(tmp_path_factory):
    """The folder that BAIZE_RUNS names for all tests; artifacts go to its subfolder `ci`."""
    with surroundings(tmp_path_factory.mktemp("runs"), MPLBACKEND="agg") as folder:
        yield folder


def group(nodeid):
    """What runs in one process, one after the other: a file of tests, or notebooks that share a folder of runs.

    00-05 go on from each other's artifacts, as in `make course`; 06-08 begin with the shipped ones, as a student may.
    """
    if found := re.match(r"notebooks/(\d\d)_", nodeid):
        return "notebooks 00-05" if found[1] < "06" else "notebooks 06-08"
    return nodeid.split("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadFileScheduling

    class ByGroup(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return group(nodeid)

    return ByGroup(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Start the kernel of a notebook in these surroundings."""
    if item.path.suffix != ".ipynb":
        return (yield)
    if (notebooks := group(item.nodeid)) not in FOLDERS:
        FOLDERS[notebooks] = tempfile.mkdtemp(prefix="runs-")
    with surroundings(FOLDERS[notebooks]):
        return (yield)


def pytest_unconfigure():
    for folder in FOLDERS.values():
        shutil.rmtree(folder, ignore_errors=True)
