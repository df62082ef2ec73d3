"""Python's garbage collector, kept out of the way of loops that make many objects and no cycles.

Knows: when to switch it off and on again. Each of its rounds looks at everything there is: with a million messages in
memory, that is a third of the time.
"""

import gc
from contextlib import contextmanager


@contextmanager
def uncollected():
    """Without collector inside the block or the decorated function; as it was afterwards."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
