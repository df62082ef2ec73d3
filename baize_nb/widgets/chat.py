"""ChatWidget: a conversation with one model, or with each of several; `ReplyWidget`: what it shares with compare.py."""

import itertools
import re
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import ipywidgets as widgets

from .. import common
from ..common import CourseError
from . import html

REPAINT = 0.1  # seconds between two repaints while a reply comes: smooth to the eye, light on the browser
_ENDED = {
    "stop": "the model closed its turn",
    "marker": "ended where the model began your next turn",
    "limit": "cut at the token limit",
    "filter": "cut by the endpoint's filter",
    "stopped": "stopped",
}


class ReplyWidget:
    """A field to type in, Send, Stop, a status line, and a worker that shows replies while the page goes on living.

    A subclass fills `box`, says in `words` what it is, and has `_on_send` and `_on_stop`.
    threaded : True writes replies in a worker thread; False inside the callback, so that `send.click()` returns when
               the reply is there; None (the default) is False on Colab and True elsewhere.
    """

    def __init__(self, words: str, threaded: bool | None = None):
        # A button's callback does not run while a cell or another callback runs, so a reply is written in a thread and
        # Stop can reach it. Colab may not repaint from a thread: there the kernel's own interrupt stops a reply.
        self.threaded = "google.colab" not in sys.modules if threaded is None else threaded
        self.words, self._thread, self._asked, self._problem = words, None, None, None  # asked: what is being answered
        self.text = widgets.Textarea(description="You", rows=2, layout={"flex": "1 1 16em", "width": "auto"})
        self.text.placeholder = "Enter sends, Shift+Enter begins a new line"
        self.text.style.description_width = "2.5em"
        self.text.add_class("bz-text")
        self.send = button("Send", "paper-plane", "Send the message (Enter does the same)", "primary")
        self.stop = button("Stop", "stop", "End the reply that is being written")
        self.typing = row(self.text, self.send, self.stop, widgets.HTML(html.KEYS))
        self.status = widgets.HTML()
        self.text.observe(self._on_typed, "value")
        self.send.on_click(lambda _: self._on_send())
        self.stop.on_click(lambda _: self._on_stop())

    def _repr_mimebundle_(self, **_):
        return mimebundle(self.box, self.words)

    @property
    def busy(self) -> bool:
        """Whether a reply is being written."""
        return self._asked is not None

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
            try:
                job()
            except KeyboardInterrupt:
                pass  # the kernel's stop button, in the foreground
            finally:
                done()

        if self.threaded:
            self._thread = threading.Thread(target=run, daemon=True)
            self._thread.start()
        else:
            run()

    def _follow(self, pieces, show):
        """Call `show(text so far)` now and then while `pieces` come; note the error that ended them."""
        said, painted = "", 0.0
        try:
            with closing(pieces):  # so that its session has kept what was said before this returns
                for piece in pieces:
                    said += piece
                    if time.monotonic() - painted > REPAINT:
                        show(said)
                        painted = time.monotonic()
        except KeyboardInterrupt:
            pass  # as if Stop had been pressed
        except Exception as error:
            self._problem = error

    def _give_back(self, question):
        """Put a question into the field, before what was typed there meanwhile."""
        self.text.value = f"{question}\n{self.text.value}".strip()

    def _tell(self, error):
        """Show an error in the status line. One of ours is a sentence; of another one the kind matters too."""
        kind = "" if isinstance(error, CourseError) else f"{type(error).__name__}: "
        self.status.value = html.status(f"{kind}{error}", problem=True)

    def _writing(self):
        return "writing …" if self.threaded else "writing … (to stop: interrupt the kernel)"


def mimebundle(box: widgets.Box, words: str) -> dict:
    """Return what a notebook shows; the words are for where widgets can't be shown, such as GitHub's pages."""
    # By hand: the boxes of ipywidgets 7, which Colab has, know no `_repr_mimebundle_`.
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    return {"application/vnd.jupyter.widget-view+json": view, "text/plain": f"{words}: run this cell to use it."}


def explain(part: widgets.DOMWidget, tooltip: str) -> None:
    """Give a part its tooltip, which ipywidgets 7 calls otherwise where the part is no button."""
    setattr(part, "tooltip" if part.has_trait("tooltip") else "description_tooltip", tooltip)


def button(label: str, icon: str, tooltip: str, style: str = "") -> widgets.Button:
    """Make a button that is named for screen readers too."""
    return widgets.Button(
        description=label, icon=icon, tooltip=tooltip, button_style=style, layout={"width": "auto", "flex": "0 0 auto"}
    )


def row(*parts) -> widgets.Box:
    """Put parts side by side, in several lines where the page is narrow."""
    box = widgets.Box(parts, layout={"flex_flow": "row wrap", "align_items": "center"})
    box.add_class("bz-row")
    return box


def scroller(*parts, height: str) -> widgets.Box:
    """Put parts into a frame that scrolls. A column that is filled from below keeps its newest message in sight."""
    inside = widgets.VBox(parts, layout={"flex": "0 0 auto", "overflow": "hidden", "width": "100%"})
    frame = {"border": "1px solid var(--jp-border-color2, rgba(128, 128, 128, .35))", "margin": "4px 2px"}
    fill = {"display": "flex", "flex_flow": "column-reverse", "overflow": "hidden auto", "max_height": height}
    return widgets.Box([inside], layout=frame | fill)


class ChatWidget(ReplyWidget):
    """Chat with one or several models; show it by making it the last line of a cell.

    sessions : a session of chat.py, or `{name: session}`; with more than one there is a model picker.
    threaded : as in ReplyWidget.
    folder   : where Save puts conversations; None is `chats` in this profile's folder of runs.

    Its parts can be driven from code: `picker`, `view`, `live`, `text`, `send`, `stop`, `again`, `change`, `clear`,
    `export`, `controls`, `status`; see also `wait`. The conversation lives in the kernel, and is there again after a
    reload of the page. All of it works by keyboard: Enter sends, Shift+Enter begins a new line, Tab reaches every part.
    """

    def __init__(self, sessions, threaded: bool | None = None, folder: Path | str | None = None):
        self.sessions = sessions if isinstance(sessions, dict) else {"AI": sessions}
        super().__init__(f"Chat with {', '.join(self.sessions)}", threaded)
        self.folder = Path(folder) if folder else None
        self._draft = None  # what stood in the field before an edit
        names = list(self.sessions)
        self.picker = widgets.ToggleButtons(options=names, value=names[0], description="Model")
        self.picker.style.button_width = "auto"
        self.view, self.live = widgets.HTML(layout={"width": "100%"}), widgets.HTML(layout={"width": "100%"})
        self.again = button("Regenerate", "refresh", "Another reply to the last question")
        self.change = button("Edit", "pencil", "Take the last question back into the field; sending it asks it anew")
        self.export = button("Save", "download", "Save this conversation as a file")
        self.clear = button("Clear", "trash", "Forget this conversation")
        self.controls = SamplingControls()
        self.again.on_click(lambda _: self._on_again())
        self.change.on_click(lambda _: self._on_change())
        self.export.on_click(lambda _: self._on_export())
        self.clear.on_click(lambda _: self._on_clear())
        self.picker.observe(lambda _: self._pick(), "value")
        parts = [
            scroller(self.view, self.live, height="26em"),
            self.typing,
            row(self.again, self.change, self.export, self.clear, self.controls.switch),
            self.controls.box,
            self.status,
        ]
        self.box = widgets.VBox([self.picker, *parts] if len(names) > 1 else parts)
        self._pick()

    @property
    def session(self):
        """The session of the model that is picked."""
        return self.sessions[self.picker.value]

    def _pick(self):
        self._leave_edit()
        self.controls.show(self.session)
        self._refresh()

    def _on_send(self):
        typed, count = self.text.value.strip(), len(self.session.messages)
        if self.busy or not typed:
            return
        if self._draft is None:
            self._start(lambda: self.session.stream(typed), typed, count, self._give_back)
        else:
            self._start(lambda: self.session.edit(typed), typed, count - 2, self._edit)

    def _on_again(self):
        messages = self.session.messages
        if messages and not self.busy:
            self._start(self.session.regenerate, messages[-2]["content"], len(messages) - 2)

    def _start(self, ask, question, kept, undo=None):
        """Start a reply; a question that can't be asked stays in its field.

        ask  : makes the generator of its pieces. kept : how many messages stay above it.
        undo : called with the question where nothing comes of it; None where the question was not in the field.
        """
        try:
            pieces = ask()
        except Exception as error:
            self._tell(error)
            return
        newest, self._problem = self.session.messages[-1:], None
        if undo:
            self.text.value, self._draft = self._draft or "", None
        self._asked = question, kept
        self._refresh()

        def show(said):  # only the bubbles that are being written: what is above can be read and selected
            reply = html.bubble(self.picker.value, "assistant", said or "…")
            self.live.value = html.conversation([html.bubble("", "user", question), reply], writing=True)

        def done():
            if undo and [id(m) for m in self.session.messages[-1:]] == [id(m) for m in newest]:
                undo(question)  # broken off before its first word
            self._asked = None
            self._refresh()
            if self._problem:
                self._tell(self._problem)

        show("")
        self._work(lambda: self._follow(pieces, show), done)

    def _edit(self, question):
        """Put a question into the field to be sent anew; what stands there comes back afterwards."""
        self._draft, self.text.value = self.text.value, question

    def _leave_edit(self):
        if self._draft is not None:
            self.text.value, self._draft = self._draft, None

    def _on_change(self):
        """Take the last question into the field; a second click takes it out again."""
        if self._draft is not None:
            self._leave_edit()
        elif self.session.messages and not self.busy:
            self._edit(self.session.messages[-2]["content"])
            getattr(self.text, "focus", lambda: None)()  # from ipywidgets 8 on
        self._refresh()

    def _on_stop(self):
        self.session.stop()

    def _on_clear(self):
        """End a running reply, whoever asked for it, then forget the conversation."""
        try:
            self.session.clear()
        except CourseError as error:
            self._tell(error)
            return
        self.wait()
        self._leave_edit()
        self._refresh()

    def _on_export(self):
        """Save the conversation under a name that is still free, and say where."""
        stem = re.sub(r"[^\w-]+", "-", self.picker.value).strip("-").lower() or "chat"
        try:
            folder = self.folder or common.runs() / "chats"
            paths = (folder / f"{stem}-{number}.jsonl" for number in itertools.count(1))
            path = next(path for path in paths if not path.exists())
            self.session.save(path)
        except Exception as error:
            self._tell(error)
        else:
            self.status.value = html.status(f"Saved to {common.show(path)}")

    def _refresh(self):
        nothing = self.busy or not self.session.messages
        self.again.disabled = self.change.disabled = self.export.disabled = nothing
        self.send.disabled = self.picker.disabled = self.busy
        self.stop.disabled = not (self.busy and self.threaded)
        self.change.description = "Edit" if self._draft is None else "Don't edit"
        messages = self.session.messages[: self._asked[1] if self.busy else None]  # those being written are in `live`
        said = [html.bubble(self.picker.value, m["role"], m["content"], m.get("end")) for m in messages]
        page = html.conversation(said if said or self.busy else [html.EMPTY])
        self.view.value, self.live.value = html.STYLE + page, ""
        last, state = self.session.last, "ready"
        if last is not None:
            state = f"{last.tokens:,} token{'s' * (last.tokens != 1)}, {last.speed:.1f} tokens/s; {_ENDED[last.end]}"
        if self.busy:
            self.status.value = html.status(self._writing())
        elif self._draft is not None:
            self.status.value = html.status("Edit the question and press Enter: the reply to it is written anew.")
        else:
            tokens, size = self.session.used
            self.status.value = html.status(f"{state} · context: {tokens:,} of {size:,} tokens")


class SamplingControls:
    """Temperature, top-p, repetition penalty and length, of one session at a time; hidden until they are wanted.

    `fields`, `sliders` : {name of the session's setting: its part}. `switch` opens them, by keyboard too.
    """

    def __init__(self):
        self._session, self.fields, self.sliders = None, {}, {}
        self.box = widgets.VBox(layout={"display": "none"})
        self._add("temperature", "Temperature", 0, 2, 0.05, "0 always takes the likeliest token")
        self._add("top_p", "Top-p", 0.05, 1, 0.05, "Below 1 leaves out the tail of unlikely tokens")
        self._add("repetition_penalty", "Repetition", 1, 2, 0.05, "Above 1 makes rarer what was just said")
        self._add("max_new_tokens", "Max tokens", 1, 1024, 1, "Tokens of one reply at most")
        self.switch = widgets.ToggleButton(description="Settings", icon="sliders", layout={"width": "auto"})
        explain(self.switch, "Show or hide how this model draws its words")
        widgets.dlink((self.switch, "value"), (self.box.layout, "display"), lambda down: None if down else "none")

    def _add(self, name, label, low, high, step, tooltip):
        """A slider, and a number field with its name and its value: a slider alone has no name to be read out."""
        kind = "Int" if isinstance(step, int) else "Float"
        slider = getattr(widgets, f"{kind}Slider")(low, min=low, max=high, step=step, readout=False)
        slider.layout = {"flex": "1 1 6em", "width": "auto", "min_width": "4em"}
        field = getattr(widgets, f"Bounded{kind}Text")(low, min=low, max=high, step=step, description=label)
        field.style.description_width, field.layout = "6.5em", {"width": "12em", "flex": "0 0 auto"}
        explain(slider, tooltip)
        explain(field, tooltip)
        # The page multiplies steps and sends 0.9500000000000001 back: what counts is the field, where this is 0.95.
        widgets.dlink((slider, "value"), (field, "value"), lambda value: round(value, 6))
        widgets.dlink((field, "value"), (slider, "value"))
        field.observe(lambda change: self._session and setattr(self._session, name, change["new"]), "value")
        self.fields[name], self.sliders[name] = field, slider
        self.box.children += (widgets.HBox([field, slider], layout={"max_width": "32em"}),)

    def show(self, session) -> None:
        """Take the values of `session`; from now on a slider sets this one."""
        self._session = None  # showing sets nothing
        for name, field in self.fields.items():
            value = getattr(session, name)
            for part in (self.sliders[name], field):  # a value outside the ends moves the end: it is shown as it is
                part.min, part.max = min(part.min, value), max(part.max, value)
            field.value = value
        self._session = session
