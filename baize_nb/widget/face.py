"""What both widgets share: a line to type in, Send, Stop, a status line, and how a notebook shows them.

Knows: ipywidgets. Does not know: what is sent to whom.
"""

import asyncio

import ipywidgets as widgets

from ..common import CourseError
from . import bubbles
from .worker import Worker

SETTLED = 0.15  # seconds without another letter, after Enter


class Face:
    """Base of ChatWidget and CompareWidget, which say what `_on_send`, `_on_stop` and `words` do and fill `box`."""

    def __init__(self, threaded=None):
        self.worker = Worker(threaded)
        self._asked = None  # what is being answered
        self.text = widgets.Text(placeholder="Your message, then Enter", description="You", layout={"flex": "1 1 16em"})
        self.text.style.description_width = "2.5em"
        self.send = button("Send", "paper-plane", "Send the message (Enter does the same)", "primary")
        self.stop = button("Stop", "stop", "End the reply that is being written")
        self.status = widgets.HTML()
        self.text.on_msg(self._on_key)
        self.send.on_click(lambda _: self._on_send())
        self.stop.on_click(lambda _: self._on_stop())

    def _repr_mimebundle_(self, **_):
        """What a notebook shows; the words are for where widgets can't be shown, such as GitHub's pages."""
        return {**self.box._repr_mimebundle_(), "text/plain": f"{self.words()}: run this cell to use it."}

    @property
    def busy(self):
        """Whether a reply is being written."""
        return self._asked is not None

    def wait(self, timeout=None):
        """Wait until the reply is there, at most `timeout` seconds; True if it is. For code that drives the widget."""
        self.worker.wait(timeout)
        return not self.busy

    def _on_key(self, _, content, __):
        """Enter in the text line. (`Text.on_submit` is deprecated; observing `value` would also send when one clicks
        elsewhere.)"""
        if content.get("event") == "submit":
            self._when_settled(self.text.value)

    def _when_settled(self, seen):
        """Send as soon as no more letters come: a page tells of Enter at once, but of letters only after the kernel has
        taken the ones before, so that a fast typist's last ones arrive late."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no page: code drives the widget
            self._on_send()
            return
        loop.call_later(SETTLED, self._send_if_settled, seen)

    def _send_if_settled(self, seen):
        """Send, where the line still says what it said a moment ago; else look again."""
        if self.text.value == seen:
            self._on_send()
        else:
            self._when_settled(self.text.value)

    def _tell(self, error):
        """Show an error in the status line. One of ours is a sentence; of another one the kind matters too."""
        kind = "" if isinstance(error, CourseError) else f"{type(error).__name__}: "
        self.status.value = bubbles.line(f"{kind}{error}", problem=True)

    def _writing(self):
        """The status line's words while a reply comes."""
        return "writing …" if self.worker.threaded else "writing … (to stop: interrupt the kernel)"


def button(label, icon, tooltip, style=""):
    """A button that is named for screen readers too."""
    return widgets.Button(
        description=label, icon=icon, tooltip=tooltip, button_style=style, layout={"width": "auto", "flex": "0 0 auto"}
    )


def row(*parts):
    """Parts side by side, in several lines where the page is narrow."""
    return widgets.Box(parts, layout={"flex_flow": "row wrap", "align_items": "center"})


def scroller(*parts, height):
    """Parts in a frame that scrolls. A column that is filled from below keeps its newest message in sight."""
    inside = widgets.VBox(parts, layout={"flex": "0 0 auto", "overflow": "hidden", "width": "100%"})
    frame = {"border": "1px solid var(--jp-border-color2, rgba(128, 128, 128, .35))", "margin": "4px 2px"}
    fill = {"display": "flex", "flex_flow": "column-reverse", "overflow": "hidden auto", "max_height": height}
    return widgets.Box([inside], layout=frame | fill)
