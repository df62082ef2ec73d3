"""The line that shows how far one notebook of the course is.

Knows: terminals and clocks. Does not know: notebooks.
"""

import sys
import threading
import time


class Progress:
    """The line of one notebook; on a terminal it is redrawn every second, elsewhere written once."""

    def __init__(self, label):
        self.label, self.ending, self.cells = label, "", ""
        self.live = sys.stdout.isatty()
        self.started = time.monotonic()
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self):
        print(f"{self.label} … ", end="", flush=True)
        if self.live:
            self._ticker.start()
        return self

    def cell(self, done, total):
        """Called by `notebooks.execute` after each cell."""
        self.cells = f"{done} of {total} cells, "

    def _tick(self):
        while not self._over.wait(1):
            self._draw(self.cells + clock(time.monotonic() - self.started))

    def _draw(self, text):
        print(f"\r\x1b[K{self.label} … {text}", end="", flush=True)

    def __exit__(self, *_):
        self._over.set()
        text = " after ".join(filter(None, (self.ending, clock(time.monotonic() - self.started))))
        if self.live:
            self._ticker.join()
            self._draw(text)
            print()
        else:
            print(text, flush=True)


def clock(seconds):
    """Seconds as people say them: 12 s, 3 m 05 s, 1 h 02 m."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} m {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} m"
