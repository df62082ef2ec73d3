"""ChatWidget: a conversation with one model, or with each of several; `ReplyWidget`: what it shares with compare.py."""

import contextlib
import itertools
import re
import sys
import threading
import time

import ipywidgets as widgets

from .. import common
from ..common import CourseError
from . import html

REPAINT = 0.1  # seconds between two repaints while a reply comes: smooth to the eye, light on the browser
WIDE, NARROW = {"width": "100%"}, {"width": "auto", "flex": "0 0 auto"}


class Shown:
    """Something whose `box` a notebook shows; `words` are for where widgets can't be shown, as on GitHub's pages."""

    def _repr_mimebundle_(self, **_):
        # By hand: the boxes of ipywidgets 7, which Colab has, know no `_repr_mimebundle_`.
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        words = f"{self.words}: run this cell to use it."
        return {"application/vnd.jupyter.widget-view+json": view, "text/plain": words}


class ReplyWidget(Shown):
    """A field to type in, Send, Stop, a status line, and a worker that shows replies while the page goes on living.

    threaded : False writes a reply inside the callback, so that `send.click()` returns when it is there; None is False
               on Colab and True elsewhere.
    """

    def __init__(self, words: str, threaded: bool | None = None):
        # A button's callback does not run while a cell or another callback runs, so a reply is written in a thread and
        # Stop can reach it. Colab may not repaint from a thread: there the kernel's own interrupt stops a reply.
        self.threaded = "google.colab" not in sys.modules if threaded is None else threaded
        self.words, self.busy, self._thread, self._problem = words, False, None, None
        self.text = widgets.Textarea(description="You", rows=2, layout={"flex": "1 1 16em", "width": "auto"})
        self.text.placeholder = "Enter sends, Shift+Enter begins a new line"
        self.text.style.description_width = "2.5em"
        self.text.add_class("bz-text")
        self.text.observe(self._on_typed, "value")
        self.send = button("Send", "paper-plane", "Send the message (Enter does the same)", self._on_send)
        self.stop = button("Stop", "stop", "End the reply that is being written", self._on_stop)
        self.typing = row(self.text, self.send, self.stop, widgets.HTML(html.KEYS))
        self.status = widgets.HTML()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the reply is there, at most `timeout` seconds; True if it is. For code that drives the widget."""
        if self._thread:
            self._thread.join(timeout)
        return not self.busy

    def _on_typed(self, change):
        """Enter was pressed: what stands before its mark is the message, what stands after it was typed later."""
        typed, enter, later = change["new"].partition(html.ENTER)
        if enter:
            self.text.value = typed
            self._on_send()
            self.text.value += later

    def _work(self, job, done):
        """Call `job()`, then `done()`, whatever became of it. In the foreground this returns after both."""

        def run():
            with contextlib.suppress(KeyboardInterrupt):  # the kernel's stop button, in the foreground
                job()
            self.busy = False
            done()
            if self._problem:
                self._tell(self._problem)

        self.busy, self._problem = True, None
        self._refresh("writing …" if self.threaded else "writing … (to stop: interrupt the kernel)")
        if self.threaded:
            self._thread = threading.Thread(target=run, daemon=True)
            self._thread.start()
        else:
            run()

    def _follow(self, pieces, show):
        """Call `show(text so far)` now and then while `pieces` come; note the error that ended them."""
        said, painted = "", 0.0
        try:
            with contextlib.closing(pieces):  # so that its session has kept what was said before this returns
                for piece in pieces:
                    said += piece
                    if time.monotonic() - painted > REPAINT:
                        show(said)
                        painted = time.monotonic()
        except KeyboardInterrupt:
            pass  # as if Stop had been pressed
        except Exception as error:
            self._problem = error

    def _refresh(self, words):
        self.send.disabled = self.busy
        self.stop.disabled = not (self.busy and self.threaded)
        self.status.value = html.status(words)

    def _give_back(self, question):
        self.text.value = f"{question}\n{self.text.value}".strip()  # before what was typed there meanwhile

    def _tell(self, error):
        """Show an error in the status line. One of ours is a sentence; of another one the kind matters too."""
        kind = "" if isinstance(error, CourseError) else f"{type(error).__name__}: "
        self.status.value = html.status(f"{kind}{error}", problem=True)

    @contextlib.contextmanager
    def _telling(self):
        try:
            yield
        except Exception as error:
            self._tell(error)


def button(label: str, icon: str, tooltip: str, click) -> widgets.Button:
    """Make a button that is named for screen readers too."""
    made = widgets.Button(description=label, icon=icon, tooltip=tooltip, layout=NARROW)
    made.on_click(lambda _: click())
    return made


def row(*parts) -> widgets.Box:
    """Put parts side by side, in several lines where the page is narrow."""
    box = widgets.Box(parts, layout={"flex_flow": "row wrap", "align_items": "center"})
    box.add_class("bz-row")
    return box


def scroller(*parts, height: str) -> widgets.Box:
    """Put parts into a frame that scrolls. A column that is filled from below keeps its newest message in sight."""
    inside = widgets.VBox(parts, layout={"flex": "0 0 auto", "overflow": "hidden"} | WIDE)
    frame = {"border": "1px solid var(--jp-border-color2, rgba(128, 128, 128, .35))", "margin": "4px 2px"}
    fill = {"display": "flex", "flex_flow": "column-reverse", "overflow": "hidden auto", "max_height": height}
    return widgets.Box([inside], layout=frame | fill)


CONTROLS = {  # a setting of a session: (name, least, most, step)
    "temperature": ("Temperature", 0.0, 2.0, 0.05),
    "top_p": ("Top-p", 0.05, 1.0, 0.05),
    "repetition_penalty": ("Repetition", 1.0, 2.0, 0.05),
    "max_new_tokens": ("Max tokens", 1, 1024, 1),
}


class ChatWidget(ReplyWidget):
    """Chat with one or several models; show it by making it the last line of a cell.

    sessions : a session of chat.py, or `{name: session}`; with more than one there is a model picker.

    All of it works by keyboard. The conversation lives in the kernel: it is there again after a reload of the page.
    """

    def __init__(self, sessions, threaded: bool | None = None):
        self.sessions = sessions if isinstance(sessions, dict) else {"AI": sessions}
        super().__init__(f"Chat with {', '.join(self.sessions)}", threaded)
        self._kept = None  # messages above the reply that is being written
        self.picker = widgets.ToggleButtons(options=list(self.sessions), description="Model")
        self.picker.style.button_width = "auto"
        self.picker.observe(self._pick, "value")
        self.view, self.live = widgets.HTML(layout=WIDE), widgets.HTML(layout=WIDE)
        self.again = button("Regenerate", "refresh", "Another reply to the last question", lambda: self._start(True))
        self.change = button("Edit", "pencil", "Take the last question back, to ask it in other words", self._on_change)
        self.export = button("Save", "download", "Save this conversation as a file", self._on_export)
        self.clear = button("Clear", "trash", "Forget this conversation", self._on_clear)
        switch = widgets.ToggleButton(description="Settings", icon="sliders", layout=NARROW)
        self.controls = {name: self._control(name, *about) for name, about in CONTROLS.items()}
        settings = widgets.VBox(list(self.controls.values()))
        widgets.dlink((switch, "value"), (settings.layout, "display"), lambda down: None if down else "none")
        buttons = row(self.again, self.change, self.export, self.clear, switch)
        parts = [scroller(self.view, self.live, height="26em"), self.typing, buttons, settings, self.status]
        self.box = widgets.VBox([self.picker, *parts] if len(self.sessions) > 1 else parts)
        self._pick()

    @property
    def session(self):
        return self.sessions[self.picker.value]

    def _control(self, name, label, least, most, step):
        kind = widgets.BoundedIntText if step == 1 else widgets.BoundedFloatText
        field = kind(least, min=least, max=most, step=step, description=label)
        field.style.description_width, field.layout.width = "6.5em", "14em"
        field.observe(lambda change: setattr(self.session, name, change["new"]), "value")
        return field

    def _pick(self, _change=None):
        """Show the picked session; this changes none of its settings."""
        for name, field in self.controls.items():
            value = getattr(self.session, name)
            field.min, field.max = min(field.min, value), max(field.max, value)  # it is shown as it is
            field.value = value
        self._refresh()

    def _on_send(self):
        if self.text.value.strip() and not self.busy:
            self._start()

    def _start(self, again=False):
        session, question = self.session, self.text.value.strip()
        try:
            pieces = session.regenerate() if again else session.stream(question)
        except Exception as error:
            self._tell(error)
            return
        self._kept = kept = len(session.messages) - 2 * again
        if again:
            question = session.messages[kept]["content"]
        else:
            self.text.value = ""

        def show(said):  # only the bubbles that are being written: what is above can be read and selected
            reply = html.bubble(self.picker.value, "assistant", said or "…")
            self.live.value = html.conversation([html.bubble("", "user", question), reply], writing=True)

        def job():
            show("")
            self._follow(pieces, show)

        def done():
            if not again and len(session.messages) == kept:
                self._give_back(question)  # broken off before its first word
            self._refresh()

        self._work(job, done)

    def _on_change(self):
        with self._telling():
            self._give_back(self.session.undo() or "")
            self._refresh()

    def _on_stop(self):
        self.session.stop()

    def _on_clear(self):
        with self._telling():
            self.session.clear()
            self.wait()
            self._refresh()

    def _on_export(self):
        stem = re.sub(r"[^\w-]+", "-", self.picker.value).strip("-").lower() or "chat"
        with self._telling():
            paths = (common.runs() / "chats" / f"{stem}-{number}.jsonl" for number in itertools.count(1))
            path = next(path for path in paths if not path.exists())
            self.session.save(path)
            self.status.value = html.status(f"Saved to {common.show(path)}")

    def _refresh(self, words=None):
        session = self.session
        if words is None:
            last, (tokens, size) = session.last, session.used
            words = f"{last.tokens:,} tokens, {last.speed:.1f} tokens/s; {html.ENDED[last.end]}" if last else "ready"
            words += f" · context: {tokens:,} of {size:,} tokens"
        super()._refresh(words)
        nothing = self.busy or not session.messages
        self.again.disabled = self.change.disabled = self.export.disabled = nothing
        self.picker.disabled = self.busy
        messages = session.messages[: self._kept if self.busy else None]
        said = [html.bubble(self.picker.value, m["role"], m["content"], m.get("end")) for m in messages]
        self.view.value = html.STYLE + html.conversation(said if said or self.busy else [html.EMPTY])
        self.live.value = ""
