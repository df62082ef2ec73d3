"""A small Ray cluster on this machine: quiet, in a folder of its own, and gone afterwards.

What runs on Ray (shards.py, pooled.py) runs on whatever cluster this process is connected to. On a real one, leave
`local` out and call `ray.init(address="auto")` on its head node: nothing else changes.
"""

import importlib.util
import os
import shutil
import tempfile
from contextlib import contextmanager

from ..common import CourseError

# Nothing is sent to anybody, nothing listens that nobody asked for, and no line is printed but ours.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # of what Ray prints about its workers, nothing: what matters raises
}
INSTALL = 'pip install "baize-nb[scale]", in a clone: pip install -c constraints.txt -e ".[scale]"'


def available() -> bool:
    """Say whether Ray is installed, without importing it."""
    return importlib.util.find_spec("ray") is not None


def need():
    """Return the module `ray`, with its data part. Raises CourseError where it is not installed."""
    if not available():
        raise CourseError(f"This part needs Ray, which is not installed here. Install it: {INSTALL}")
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    import ray
    import ray.data

    return ray


@contextmanager
def local(workers: int = 2):
    """Run a Ray cluster on this machine as long as the block lasts; yields the module `ray`.

    workers : tasks at a time, one processor each. Its files lie in a temporary folder, which is removed at the end.
    Raises CourseError where Ray is not installed.
    """
    ray = need()
    # /tmp itself: the sockets' paths may have 104 characters on macOS, whose own temporary folder uses up half of it.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp" if os.name == "posix" else None)
    try:
        ray.init(
            address="local",
            num_cpus=workers,
            object_store_memory=150_000_000,  # bytes; Ray takes a third of the memory by itself
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=folder,
        )
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        # Rows that belong together meet by sorting. The usual way, by a hash, starts processes of its own: 10 to 20
        # seconds of waiting here, where sorting takes one.
        context.shuffle_strategy = "sort_shuffle_pull_based"
        yield ray
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
