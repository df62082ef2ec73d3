"""How long each notebook runs and how much memory it takes: `python benchmarks/notebooks.py`, in BAIZE_PROFILE.

Every notebook runs from top to bottom in a kernel of its own, as in `make course`; nobody reads meanwhile. Memory is
the most that the kernel and the engine it starts hold at the same time (resident, looked at ten times a second).
With --store the outputs are kept, as `make notebooks` keeps them; then artifacts go to runs/ and not to a fresh folder,
so move that out of the way first: what a former run finished would not be done, or timed, again.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import psutil

from baize_nb import models, profiles

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
import run_notebooks


@contextmanager
def peak_memory():
    """A list whose only entry is the largest sum of resident bytes of this process's children."""
    largest, over = [0], threading.Event()

    def watch():
        me = psutil.Process()
        while not over.wait(0.1):
            largest[0] = max(largest[0], sum(map(resident, me.children(recursive=True))))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield largest
    finally:
        over.set()
        thread.join()


def resident(process):
    """Resident bytes; 0 for one that has ended."""
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def measure(path, store=False):
    """(seconds, peak bytes, the slowest cell's seconds and first line) of one notebook; store: keep its outputs."""
    notebook, ticks = run_notebooks.read(path), []
    with peak_memory() as largest:
        begin = time.perf_counter()
        run_notebooks.execute(notebook, path.parent, on_cell=lambda done, total: ticks.append(time.perf_counter()))
        seconds = time.perf_counter() - begin
    if store:
        run_notebooks.write(run_notebooks.canonical(notebook), path)
    cells = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    took = [after - before for before, after in pairwise(ticks)]
    slowest = max(range(len(took)), key=took.__getitem__)
    return seconds, largest[0], took[slowest], next(filter(None, cells[slowest].source.splitlines()))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("notebooks", type=Path, nargs="*")
    parser.add_argument("--store", action="store_true", help="write each notebook back, with its outputs")
    given = parser.parse_args()
    paths = given.notebooks or sorted(run_notebooks.FOLDER.glob("[0-9]*.ipynb"))
    models.embedded()  # fetched and converted once, and not part of any notebook's time
    with tempfile.TemporaryDirectory() as folder:
        if not given.store:  # stored outputs must name nobody's folder
            os.environ.setdefault("BAIZE_RUNS", folder)
        print(f"Profile {profiles.current().name}, {os.cpu_count()} cores\n")
        print("| notebook | seconds | peak memory, MB | slowest cell |\n|---|--:|--:|---|")
        for path in paths:
            seconds, peak, slowest, line = measure(path.absolute(), given.store)
            print(f"| {path.stem} | {seconds:.0f} | {peak / 2**20:.0f} | {slowest:.0f} s: `{line[:60]}` |", flush=True)


if __name__ == "__main__":
    main()
