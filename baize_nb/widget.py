"""The face of a ChatSession in a notebook: bubbles, a line to type in, Send, Stop, Clear.

Knows: ipywidgets, and which thread may do what. Does not know: models, prompts or sampling.
A button's callback does not run while a cell or another callback runs, so a reply is written in a worker thread and
Stop can reach it. Colab may not repaint from a thread; there the reply is written in the foreground, without Stop.
"""

import sys
import threading
import time

import ipywidgets as widgets

from . import markdown
from .errors import CourseError

REPAINT = 0.1  # seconds between two repaints while a reply comes: smooth to the eye, light on the browser

_ENDED = {
    "stop": "the model closed its turn",
    "limit": "cut at the token limit",
    "stopped": "stopped",
}
_NOTES = {"limit": "cut at the token limit", "stopped": "stopped here"}

# JupyterLab's own colours where it has them, so that a dark theme stays dark; see-through greys elsewhere.
_STYLE = """<style>
.bz-chat {line-height: 1.45; padding: 2px 8px 8px; color: var(--jp-content-font-color1, inherit)}
.bz-chat .bz-who {font-size: .8em; margin: .7em .2em .15em; color: var(--jp-content-font-color2, inherit)}
.bz-chat .bz-bubble {padding: .45em .8em; border-radius: 8px; overflow-wrap: anywhere; max-width: 44em;
  width: fit-content; box-sizing: border-box; border: 1px solid var(--jp-border-color2, rgba(128, 128, 128, .35))}
.bz-chat .bz-user {margin-left: auto; text-align: right}
.bz-chat .bz-user .bz-bubble {margin-left: auto; text-align: left; white-space: pre-wrap;
  background: var(--jp-layout-color2, rgba(128, 128, 128, .18))}
.bz-chat .bz-bubble > :first-child {margin-top: 0}
.bz-chat .bz-bubble > :last-child {margin-bottom: 0}
.bz-chat .bz-bubble p, .bz-chat .bz-bubble ul, .bz-chat .bz-bubble ol, .bz-chat .bz-bubble table {margin: .4em 0}
.bz-chat .bz-bubble ul, .bz-chat .bz-bubble ol {padding-left: 1.6em}
.bz-chat .bz-bubble h1, .bz-chat .bz-bubble h2, .bz-chat .bz-bubble h3 {font-size: 1.1em; margin: .5em 0}
.bz-chat pre {overflow-x: auto; margin: .4em 0; padding: .5em .7em; border-radius: 4px; line-height: 1.35;
  background: var(--jp-cell-editor-background, rgba(128, 128, 128, .12)); color: inherit}
.bz-chat code {font-family: var(--jp-code-font-family, monospace); font-size: .92em; background: none; color: inherit}
.bz-chat a {color: var(--jp-content-link-color, inherit); text-decoration: underline}
.bz-chat table {border-collapse: collapse}
.bz-chat blockquote {margin: .4em 0; padding-left: .8em; border-left: 3px solid var(--jp-border-color1, #999)}
.bz-chat td, .bz-chat th {border: 1px solid var(--jp-border-color2, rgba(128, 128, 128, .35)); padding: .15em .5em}
.bz-chat .bz-note {font-size: .8em; font-style: italic; margin: .1em .3em; opacity: .8}
.bz-chat .bz-empty {color: var(--jp-content-font-color2, inherit)}
</style>"""


class ChatWidget:
    """Chat with one or several models; show it by making it the last line of a cell. Built in notebook 05.

    sessions : a ChatSession, or `{name: ChatSession}`; with more than one there is a model picker.
    threaded : True writes replies in a worker thread; False inside the callback, so that `send.click()` returns when
               the reply is there; None (the default) is False on Colab and True elsewhere.

    The parts can be driven from code: `picker`, `view`, `text`, `send`, `stop`, `clear`, `status`; see also `wait`.
    """

    def __init__(self, sessions, threaded=None):
        self.sessions = sessions if isinstance(sessions, dict) else {"AI": sessions}
        self.threaded = "google.colab" not in sys.modules if threaded is None else threaded
        self._worker, self._live, self._finished = None, None, {}
        self._build()
        self._refresh()

    def _build(self):
        """The parts, and what they call."""
        names = list(self.sessions)
        self.picker = widgets.ToggleButtons(options=names, value=names[0], description="Model")
        self.picker.style.button_width = "auto"
        self.view = widgets.HTML(layout={"width": "100%"})
        self.text = widgets.Text(placeholder="Your message, then Enter", description="You", layout={"flex": "1 1 16em"})
        self.text.style.description_width = "2.5em"
        self.send = _button("Send", "paper-plane", "Send the message (Enter does the same)", "primary")
        self.stop = _button("Stop", "stop", "End the reply that is being written")
        self.clear = _button("Clear", "trash", "Forget this conversation")
        self.status = widgets.HTML()
        self.text.on_msg(self._on_key)
        self.send.on_click(self._on_send)
        self.stop.on_click(lambda _: self.session.stop())
        self.clear.on_click(self._on_clear)
        self.picker.observe(lambda _: self._refresh(), "value")
        # The newest message stays in sight: a column that is filled from below keeps its scroll position there.
        scroll = {"max_height": "26em", "overflow": "hidden auto", "display": "flex", "flex_flow": "column-reverse"}
        scroll |= {"border": "1px solid var(--jp-border-color2, rgba(128, 128, 128, .35))", "margin": "4px 2px"}
        line = widgets.Box([self.text, self.send, self.stop, self.clear], layout={"flex_flow": "row wrap"})
        rows = [widgets.Box([self.view], layout=scroll), line, self.status]
        self.box = widgets.VBox([self.picker, *rows] if len(names) > 1 else rows)

    def _repr_mimebundle_(self, **_):
        """What a notebook shows; the words are for where widgets can't be shown, such as GitHub's pages."""
        shown = self.box._repr_mimebundle_()
        return {**shown, "text/plain": f"Chat with {', '.join(self.sessions)}: run this cell to use it."}

    @property
    def session(self):
        """The session of the model that is picked."""
        return self.sessions[self.picker.value]

    @property
    def busy(self):
        """Whether a reply is being written."""
        return self._live is not None

    def wait(self, timeout=None):
        """Wait until the reply is there, at most `timeout` seconds; True if it is. For code that drives the widget."""
        if self._worker:
            self._worker.join(timeout)
        return not self.busy

    def _on_key(self, _, content, __):
        """Enter in the text line. (`Text.on_submit` is deprecated; observing `value` would also send when one clicks
        elsewhere.)"""
        if content.get("event") == "submit":
            self._on_send()

    def _on_send(self, _=None):
        """Start the reply to what was typed. A message that can't be sent stays in its line."""
        question = self.text.value.strip()
        if self.busy or not question:
            return
        try:
            pieces = self.session.stream(question)
        except Exception as error:
            self._tell(error)
            return
        self.text.value, self._live = "", (question, "")
        self._refresh()
        if self.threaded:
            self._worker = threading.Thread(target=self._write, args=(question, pieces), daemon=True)
            self._worker.start()
        else:
            self._write(question, pieces)

    def _write(self, question, pieces):
        """Show a reply while it comes. An error ends up in the status line."""
        painted, problem, before = 0.0, None, len(self.session.messages)
        try:
            for piece in pieces:
                self._live = (question, self._live[1] + piece)
                if time.monotonic() - painted > REPAINT:
                    self._refresh()
                    painted = time.monotonic()
        except KeyboardInterrupt:
            pass  # the kernel's own stop button, in the foreground: the session has kept what was said
        except Exception as error:
            problem = error
        if len(self.session.messages) == before:  # not a word came: the question goes back where it was typed
            self.text.value = self.text.value or question
        self._live = None
        self._refresh()
        if problem:
            self._tell(problem)

    def _on_clear(self, _=None):
        """End a running reply, then forget the conversation."""
        self.session.stop()
        self.wait()
        self.session.clear()
        self._refresh()

    def _refresh(self):
        """Bring everything on the page in step with the session."""
        self.send.disabled = self.picker.disabled = self.busy
        self.stop.disabled = not (self.busy and self.threaded)
        self.view.value = _STYLE + self._conversation()
        self.status.value = _line(self._state())

    def _conversation(self):
        """The bubbles of the picked session as HTML."""
        name, messages = self.picker.value, list(self.session.messages)
        bubbles = [self._finished_bubble(name, message) for message in messages]
        if self._live:
            question, reply = self._live
            bubbles += [bubble(name, "user", question), bubble(name, "assistant", reply or "…")]
        if not bubbles:
            bubbles = ['<p class="bz-empty">No messages yet. Ask something.</p>']
        return f'<div class="bz-chat" role="log" aria-label="Conversation">{"".join(bubbles)}</div>'

    def _finished_bubble(self, name, message):
        """A bubble that no longer changes: rendered once, however often the page is repainted."""
        key = (name, message["role"], message["content"], message.get("end"))
        if key not in self._finished:
            self._finished[key] = bubble(*key)
        return self._finished[key]

    def _state(self):
        """The status line's words: what goes on, or how the last reply went."""
        last = self.session.last
        if self.busy:
            return "writing …" if self.threaded else "writing … (to stop: interrupt the kernel)"
        if last is None:
            return "ready"
        return f"{last.tokens} token{'s' * (last.tokens != 1)}, {last.speed:.1f} tokens/s; {_ENDED[last.end]}"

    def _tell(self, error):
        """Show an error in the status line. One of ours is a sentence; of another one the kind matters too."""
        kind = "" if isinstance(error, CourseError) else f"{type(error).__name__}: "
        self.status.value = _line(f"{kind}{error}", problem=True)


def bubble(name, role, content, end=None):
    """One message as HTML. What a person typed is shown as typed; a model's Markdown is rendered, safely."""
    who = "You" if role == "user" else markdown.plain(name)
    body = markdown.plain(content) if role == "user" else markdown.render(content or "*(no words)*")
    note = f'<div class="bz-note">{_NOTES[end]}</div>' if end in _NOTES else ""
    said = f'<div class="bz-bubble">{body}</div>'
    return f'<div class="bz-{role}"><div class="bz-who">{who}</div>{said}{note}</div>'


def _line(text, problem=False):
    """The status line as HTML."""
    color = "var(--jp-error-color1, #b91c1c)" if problem else "var(--jp-content-font-color2, inherit)"
    role = "alert" if problem else "status"
    return f'<span role="{role}" style="font-size: .9em; color: {color}">{markdown.plain(text)}</span>'


def _button(label, icon, tooltip, style=""):
    """A button that is named for screen readers too."""
    return widgets.Button(
        description=label, icon=icon, tooltip=tooltip, button_style=style, layout={"width": "auto", "flex": "0 0 auto"}
    )
