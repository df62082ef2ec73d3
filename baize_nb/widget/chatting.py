"""ChatWidget: a conversation with one model, or with each of several.

Knows: what its buttons do to a session (see chat.Conversation). Does not know: models, prompts or sampling.
"""

import itertools
import re
from pathlib import Path

import ipywidgets as widgets

from .. import common
from . import bubbles
from .dials import Dials
from .face import Face, button, row, scroller
from .worker import follow

_ENDED = {
    "stop": "the model closed its turn",
    "marker": "ended where the model began your next turn",
    "limit": "cut at the token limit",
    "stopped": "stopped",
}


class ChatWidget(Face):
    """Chat with one or several models; show it by making it the last line of a cell. Built in notebook 05.

    sessions : a session of chat/, or `{name: session}`; with more than one there is a model picker.
    threaded : True writes replies in a worker thread; False inside the callback, so that `send.click()` returns when
               the reply is there; None (the default) is False on Colab and True elsewhere.
    folder   : where Save puts conversations; None is `chats` in this profile's folder of runs.

    Its parts can be driven from code: `picker`, `view`, `live`, `text`, `send`, `stop`, `again`, `change`, `clear`,
    `export`, `dials`, `status`; see also `wait`.
    The conversation lives in the kernel: after a reload of the page it is there again while the kernel runs.
    Keys: Enter sends; Tab reaches every part, Space presses a button, the arrow keys move a slider.
    """

    def __init__(self, sessions, threaded=None, folder=None):
        super().__init__(threaded)
        self.sessions = sessions if isinstance(sessions, dict) else {"AI": sessions}
        self.folder = Path(folder) if folder else None
        self._draft = None  # what stood in the line before an edit
        self._finished = {}
        self._build()
        self._pick()

    def _build(self):
        """The parts, and what they call."""
        names = list(self.sessions)
        self.picker = widgets.ToggleButtons(options=names, value=names[0], description="Model")
        self.picker.style.button_width = "auto"
        self.view, self.live = widgets.HTML(layout={"width": "100%"}), widgets.HTML(layout={"width": "100%"})
        self.again = button("Regenerate", "refresh", "Another reply to the last question")
        self.change = button("Edit", "pencil", "Take the last question back into the line; sending it asks it anew")
        self.export = button("Save", "download", "Save this conversation as a file")
        self.clear = button("Clear", "trash", "Forget this conversation")
        self.dials = Dials()
        self.again.on_click(lambda _: self._on_again())
        self.change.on_click(lambda _: self._on_change())
        self.export.on_click(lambda _: self._on_export())
        self.clear.on_click(lambda _: self._on_clear())
        self.picker.observe(lambda _: self._pick(), "value")
        rows = [
            scroller(self.view, self.live, height="26em"),
            row(self.text, self.send, self.stop),
            row(self.again, self.change, self.export, self.clear, self.dials.switch),
            self.dials.box,
            self.status,
        ]
        self.box = widgets.VBox([self.picker, *rows] if len(names) > 1 else rows)

    def words(self):
        """What stands where no widget can be shown."""
        return f"Chat with {', '.join(self.sessions)}"

    @property
    def session(self):
        """The session of the model that is picked."""
        return self.sessions[self.picker.value]

    def _pick(self):
        """Another model: its conversation, its settings."""
        self._leave_edit()
        self.dials.show(self.session)
        self._refresh()

    def _on_send(self):
        """Start the reply to what was typed. A message that can't be sent stays in its line."""
        typed, count = self.text.value.strip(), len(self.session.messages)
        if self.busy or not typed:
            return
        if self._draft is None:
            self._start(lambda: self.session.stream(typed), typed, count, self._give_back)
        else:
            self._start(lambda: self.session.edit(typed), typed, count - 2, self._edit)

    def _on_again(self):
        """Start another reply to the last question."""
        messages = self.session.messages
        if messages and not self.busy:
            self._start(self.session.regenerate, messages[-2]["content"], len(messages) - 2)

    def _start(self, ask, question, kept, undo=None):
        """Start a reply.

        ask : makes the generator of its pieces. kept : how many messages stay above it.
        undo: called with the question where nothing comes of it; None where the question was not in the line.
        """
        try:
            pieces = ask()
        except Exception as error:
            self._tell(error)
            return
        newest, self._problem = self._newest(), None
        if undo:
            self.text.value, self._draft = self._draft or "", None
        self._asked = question, kept
        self._refresh()
        self._show("")
        self.worker.start(lambda: self._write(pieces), lambda: self._end(question, undo, newest))

    def _write(self, pieces):
        """Show a reply while it comes."""
        self._problem = follow(pieces, self._show)

    def _show(self, said):
        """Repaint the bubbles that are being written, and only these: what is above can be read and selected."""
        name, question = self.picker.value, self._asked[0]
        pair = [bubbles.bubble(name, "user", question), bubbles.bubble(name, "assistant", said or "…")]
        self.live.value = bubbles.conversation(pair, writing=True)

    def _end(self, question, undo, newest):
        """The reply is there, or broken off before its first word: then the question goes back where it was typed."""
        if undo and self._newest() is newest:
            undo(question)
        self._asked = None
        self._refresh()
        if self._problem:
            self._tell(self._problem)

    def _newest(self):
        """The last message of the conversation, or None."""
        return self.session.messages[-1] if self.session.messages else None

    def _give_back(self, question):
        """Put a question into the line, before what was typed there meanwhile."""
        self.text.value = f"{question} {self.text.value}".strip()

    def _edit(self, question):
        """Put a question into the line to be sent anew; what stands there comes back afterwards."""
        self._draft, self.text.value = self.text.value, question

    def _leave_edit(self):
        """Give the line back to what stood there before."""
        if self._draft is not None:
            self.text.value, self._draft = self._draft, None

    def _on_change(self):
        """Take the last question into the line; a second click takes it out again."""
        if self._draft is not None:
            self._leave_edit()
        elif self.session.messages and not self.busy:
            self._edit(self.session.messages[-2]["content"])
            self.text.focus()
        self._refresh()

    def _on_stop(self):
        """Ask for the end of the reply that is being written."""
        self.session.stop()

    def _on_clear(self):
        """End a running reply, then forget the conversation."""
        self.session.stop()
        self.wait()
        self._leave_edit()
        self.session.clear()
        self._refresh()

    def _on_export(self):
        """Save the conversation under a name that is still free, and say where."""
        try:
            path = _free_path(self.folder or common.runs() / "chats", self.picker.value)
            self.session.save(path)
        except Exception as error:
            self._tell(error)
        else:
            self.status.value = bubbles.line(f"Saved to {common.show(path)}")

    def _refresh(self):
        """Bring everything on the page in step with the session."""
        nothing = self.busy or not self.session.messages
        self.again.disabled = self.change.disabled = self.export.disabled = nothing
        self.send.disabled = self.picker.disabled = self.busy
        self.stop.disabled = not (self.busy and self.worker.threaded)
        self.change.description = "Edit" if self._draft is None else "Don't edit"
        self.view.value, self.live.value = bubbles.STYLE + self._conversation(), ""
        self.status.value = bubbles.line(self._state())

    def _conversation(self):
        """The bubbles of the picked session as HTML, without those that are being written."""
        name, messages = self.picker.value, list(self.session.messages)
        kept = self._asked[1] if self.busy else len(messages)
        if not kept:
            return "" if self.busy else bubbles.empty("No messages yet. Ask something.")
        return bubbles.conversation([self._finished_bubble(name, message) for message in messages[:kept]])

    def _finished_bubble(self, name, message):
        """A bubble that no longer changes: rendered once, however often the page is repainted."""
        key = (name, message["role"], message["content"], message.get("end"))
        if key not in self._finished:
            self._finished[key] = bubbles.bubble(*key)
        return self._finished[key]

    def _state(self):
        """The status line's words: what goes on, or how the last reply went and how full the context is."""
        last = self.session.last
        if self.busy:
            return self._writing()
        if self._draft is not None:
            return "Edit the question and press Enter: the reply to it is written anew."
        tokens, size = self.session.used
        said = "ready" if last is None else f"{_count(last.tokens)}, {last.speed:.1f} tokens/s; {_ENDED[last.end]}"
        return f"{said} · context: {tokens:,} of {size:,} tokens"


def _count(tokens):
    """A number of tokens in words."""
    return f"{tokens:,} token{'s' * (tokens != 1)}"


def _free_path(folder, name):
    """A file name made of a model's name and the first number that is free."""
    stem = re.sub(r"[^\w-]+", "-", name).strip("-").lower() or "chat"
    paths = (Path(folder) / f"{stem}-{number}.jsonl" for number in itertools.count(1))
    return next(path for path in paths if not path.exists())
