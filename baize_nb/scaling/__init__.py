"""From 160 dialogues to 115 thousand and on: arithmetic, and a small Ray cluster on this machine to share the work.

Ray comes with the `scale` extra. On a real cluster leave `cluster` out and call `ray.init(address="auto")` on its head
node: what runs on it (shards.py, pooled.py) is the same.
"""

import importlib.util
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from ..common import CourseError

LAUNCH = Path(__file__).resolve().parent / "launch"  # accelerate's settings for training in several processes
# Nothing is sent to anybody, nothing listens that nobody asked for, and no line is printed but ours.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # of what Ray prints about its workers, nothing: what matters raises
}


def has_ray() -> bool:
    """Say whether Ray is installed, without importing it."""
    return importlib.util.find_spec("ray") is not None


def need_ray():
    """Return the module `ray`, with its data part. Raises CourseError where it is not installed."""
    if not has_ray():
        raise CourseError(
            'This part needs Ray, which is not installed here. Install it: pip install "baize-nb[scale]", in a clone: '
            'pip install -c constraints.txt -e ".[scale]"'
        )
    os.environ.update({name: value for name, value in QUIET.items() if name not in os.environ})
    import ray
    import ray.data

    return ray


@contextmanager
def cluster(workers: int = 2):
    """Run a Ray cluster with so many tasks at a time as long as the block lasts; yields the module `ray`."""
    ray = need_ray()
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
        # Rows that belong together meet by sorting: the usual way starts processes, 10 to 20 seconds of waiting here.
        context.shuffle_strategy = "sort_shuffle_pull_based"
        yield ray
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def telling_faults():
    """Raise the CourseError of a task as it is. Ray hands on the text of its traceback, and no exception."""
    try:
        yield
    except Exception as error:
        said = re.findall(r"CourseError: (.+)", str(error))
        if not said:
            raise
        raise CourseError(said[-1]) from None
