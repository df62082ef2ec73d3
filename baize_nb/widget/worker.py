"""How a reply is written while the page goes on living.

Knows: threads, interrupts, repainting. Does not know: widgets or sessions.
A button's callback does not run while a cell or another callback runs, so a reply is written in a worker thread and
Stop can reach it. Colab may not repaint from a thread; there the reply is written in the foreground, and the kernel's
own interrupt stops it.
"""

import sys
import threading
import time
from contextlib import closing

REPAINT = 0.1  # seconds between two repaints while a reply comes: smooth to the eye, light on the browser


class Worker:
    """Does one job at a time. threaded : True, False, or None, which is False on Colab and True elsewhere."""

    def __init__(self, threaded=None):
        self.threaded = "google.colab" not in sys.modules if threaded is None else threaded
        self._thread = None

    def start(self, job, done):
        """Call `job()`, then `done()`, whatever became of it. In the foreground this returns after both."""
        if self.threaded:
            self._thread = threading.Thread(target=self._run, args=(job, done), daemon=True)
            self._thread.start()
        else:
            self._run(job, done)

    def wait(self, timeout=None):
        """Wait until the job is done, at most `timeout` seconds."""
        if self._thread:
            self._thread.join(timeout)

    def _run(self, job, done):
        try:
            job()
        except KeyboardInterrupt:
            pass  # the kernel's stop button, in the foreground
        finally:
            done()


def follow(pieces, show):
    """Call `show(text so far)` now and then while `pieces` come; return the error that ended them, or None.

    pieces : a generator; it is closed before this returns, so that its session has kept what was said.
    """
    said, painted = "", 0.0
    try:
        with closing(pieces):
            for piece in pieces:
                said += piece
                if time.monotonic() - painted > REPAINT:
                    show(said)
                    painted = time.monotonic()
    except KeyboardInterrupt:
        return None  # as if Stop had been pressed
    except Exception as error:
        return error
