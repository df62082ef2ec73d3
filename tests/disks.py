"""A disk that is full, for this process alone. POSIX only."""

import resource
from contextlib import contextmanager


@contextmanager
def disk_full_after(size):
    """No file can grow beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
