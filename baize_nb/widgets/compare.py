"""CompareWidget: one question, two models side by side, and a vote before the names are shown; and the votes' file.

A vote is a dict, in the file a line of JSON: `time`, `question`, `left` and `right` (names of models), `left_reply`,
`right_reply`, `choice` (a key of CHOICES) and `settings` ({"left": …, "right": …}).
"""

import random
from datetime import UTC, datetime
from pathlib import Path

import ipywidgets as widgets

from .. import common
from ..common import CourseError
from . import html
from .chat import ReplyWidget, button, row, scroller

CHOICES = {"left": "Left is better", "right": "Right is better", "same": "The same", "bad": "Both bad"}
SIDES = ("left", "right")


class Votes:
    """Votes in memory, and in a JSONL file where a path is given; what the file holds already counts as well."""

    def __init__(self, path: Path | str | None = None):
        self.path, self.cast = Path(path) if path else None, []
        if self.path and self.path.exists():
            with common.Journal(self.path):  # moves a last line that a kill tore out of the way
                self.cast = list(common.read_jsonl(self.path, _checked, "vote"))

    def add(self, vote: dict) -> None:
        """Count a vote after the disk has confirmed it. Raises CourseError where it can't be written: cast it again."""
        vote = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **vote}
        if self.path:
            with common.Journal(self.path) as journal:
                journal.append(vote)
        self.cast.append(vote)


def _checked(vote):
    """A line of the file, if it is a vote."""
    if vote["choice"] not in CHOICES or not all(isinstance(vote[side], str) for side in SIDES):
        raise ValueError("its choice or its models are missing")
    return vote


class CompareWidget(ReplyWidget):
    """Ask two models the same and vote without knowing which is which; a question that gets no vote is not counted.

    sessions : `{name: session}`, two or more; of more than two, two are drawn for each question. They must be new:
               each question begins a new conversation in both.
    path     : JSONL file that every vote is appended to and that earlier votes are counted from.
    seed     : of the draw of sides. threaded : as in ReplyWidget.

    Its parts can be driven from code: `text`, `send`, `stop`, `ballot` ({choice: button}), `view`, `tally`, `status`;
    `votes.cast` holds the votes.
    """

    def __init__(self, sessions: dict, path=None, seed: int = 0, threaded: bool | None = None):
        super().__init__(f"A blind comparison of {', '.join(sessions)}", threaded)
        if len({id(session) for session in sessions.values()}) < max(2, len(sessions)):
            raise CourseError(
                "CompareWidget needs two sessions or more, each an object of its own: {name: session, …}."
            )
        self.sessions, self.seed, self.votes = dict(sessions), seed, Votes(path)
        self._own = {name: [] for name in sessions}  # the conversations that were made here
        self._refuse_conversations()
        self._question, self._names = None, {}  # {side: name of the model}
        self._replies, self._writing_side, self._open = {}, None, False  # open: the names may be seen
        self.view, self.tally = widgets.HTML(layout={"width": "100%"}), widgets.HTML()
        self.ballot = {choice: button(words, "", f"Vote: {words.lower()}") for choice, words in CHOICES.items()}
        for choice, part in self.ballot.items():
            part.on_click(lambda _, choice=choice: self._on_vote(choice))
        rows = [scroller(self.view, height="34em"), self.typing, row(*self.ballot.values())]
        self.box = widgets.VBox([*rows, self.status, self.tally])
        self._refresh("Ask a question; two models answer it.")

    def _refuse_conversations(self):
        """Each question here starts a new conversation: one that was not made here would be lost."""
        for name, session in self.sessions.items():
            if session.messages != self._own[name]:
                raise CourseError(
                    f"The session {name!r} holds a conversation, and each question here starts a new one. "
                    "Give CompareWidget new sessions."
                )

    def _on_send(self):
        """Draw the sides and start both replies."""
        question = self.text.value.strip()
        if self.busy or not question:
            return
        rng = random.Random(f"{self.seed}:{len(self.votes.cast)}")  # the same seed and turn give the same draw
        names = dict(zip(SIDES, rng.sample(list(self.sessions), 2), strict=True))
        try:
            self._refuse_conversations()
            pieces = {}
            for side, name in names.items():
                self.sessions[name].clear()
                self._own[name] = []
                pieces[side] = self.sessions[name].stream(question)
        except Exception as error:
            self._tell(error)
            return
        self.text.value, self._asked, self._problem = "", question, None
        self._question, self._names, self._replies, self._open = question, names, {}, False
        self._refresh(self._writing())

        def write():
            # One after the other: two models at a time would take the processor from each other, and a base model and
            # its adapter are one model that can't be both at once. Without the left reply there is no right one.
            for side, reply in pieces.items():
                self._writing_side = side
                self._follow(reply, lambda said, side=side: self._paint({side: said}))
                messages = self._own[names[side]] = list(self.sessions[names[side]].messages)
                if self._problem or not messages:
                    return
                self._replies[side] = messages[-1]

        self._work(write, self._on_end)

    def _on_end(self):
        """Both replies are there, or one of them failed: then the question goes back into the line."""
        self._asked = None
        if len(self._replies) == len(SIDES):
            self._refresh("Which reply is better? Vote, then see the names.")
            return
        self._give_back(self._question)
        self._refresh("Stopped before both replies were there: no vote.")
        if self._problem:
            self._tell(self._problem)

    def _on_stop(self):
        """End the reply that is being written. The other one is written all the same."""
        if self.busy and self._writing_side:
            self.sessions[self._names[self._writing_side]].stop()

    def _on_vote(self, choice):
        """Keep the vote, then show the names. A second click that was on its way already is no second vote."""
        if not self._votable:
            return
        said = {f"{side}_reply": reply["content"] for side, reply in self._replies.items()}
        settings = {side: self.sessions[name].settings() for side, name in self._names.items()}
        try:
            self.votes.add({"question": self._question, **self._names, **said, "choice": choice, "settings": settings})
        except Exception as error:
            self._tell(error)
            return
        self._open = True
        names = f"Left was {self._names['left']}, right was {self._names['right']}."
        where = f" Kept in {common.show(self.votes.path)}." if self.votes.path else ""
        self._refresh(f"Your vote: {CHOICES[choice].lower()}. {names}{where}")

    @property
    def _votable(self):
        """Whether both replies wait for a vote."""
        return len(self._replies) == len(SIDES) and not self.busy and not self._open

    def _refresh(self, words):
        """Bring everything on the page in step with the question."""
        self.send.disabled = self.busy
        self.stop.disabled = not (self.busy and self.threaded)
        for part in self.ballot.values():
            part.disabled = not self._votable
        self.status.value = html.status(words)
        self.tally.value = html.votes(self.votes.cast, self.sessions)
        self._paint({})

    def _paint(self, live):
        """The question and both replies. live : `{side: what is there of a reply that is being written}`."""
        if self._question is None:
            self.view.value = html.STYLE + html.conversation([html.EMPTY])
            return
        said = []
        for side, name in self._names.items():
            title = f"{side.capitalize()}: {name}" if self._open else side.capitalize()
            reply = self._replies.get(side, {"content": live.get(side, "…" if self.busy else "")})
            said.append(html.bubble(title, "assistant", reply["content"], reply.get("end")))
        both = f'<div class="bz-sides">{"".join(said)}</div>'  # one above the other where the page is narrow
        question = html.bubble("", "user", self._question)
        self.view.value = html.STYLE + html.conversation([question, both], writing=self.busy)
