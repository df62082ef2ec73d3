"""CompareWidget: one question, two models side by side, and a vote before the names are shown; and the votes' file.

A vote is a dict, in the file a line of JSON: `time`, `question`, `left` and `right` (names of models), `left_reply`,
`right_reply`, `choice` (a key of CHOICES) and `settings` ({"left": …, "right": …}).
"""

import functools
import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import ipywidgets as widgets

from .. import common
from ..common import CourseError
from . import html
from .chat import WIDE, ReplyWidget, button, row, scroller

CHOICES = {"left": "Left is better", "right": "Right is better", "same": "The same", "bad": "Both bad"}
SIDES = ("left", "right")


class Votes:
    """The votes in a JSONL file, `cast`; new ones are appended to it."""

    def __init__(self, path: Path | str):
        with common.Journal(path) as journal:  # moves a last line that a kill tore out of the way
            self.path, self.cast = journal.path, list(journal.records(_checked, "vote"))

    def add(self, vote: dict) -> None:
        """Count a vote after the disk has confirmed it. Raises CourseError where it can't be written: cast it again."""
        vote = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **vote}
        with common.Journal(self.path) as journal:
            journal.append(vote)
        self.cast.append(vote)

    def tally(self, names) -> str:
        """Say how often each model was better, of the times it was shown, and count the ties. names come first."""
        shown, choices = Counter(dict.fromkeys(names, 0)), Counter(vote["choice"] for vote in self.cast)
        shown.update(vote[side] for vote in self.cast for side in SIDES)
        better = Counter(vote.get(vote["choice"]) for vote in self.cast)
        parts = [f"{name} better {better[name]} of {times}" for name, times in shown.items()]
        return " · ".join([*parts, f"the same {choices['same']}", f"both bad {choices['bad']}"])


def _checked(vote):
    if vote["choice"] not in CHOICES or not all(isinstance(vote[side], str) for side in SIDES):
        raise ValueError("its choice or its models are missing")
    return vote


class CompareWidget(ReplyWidget):
    """Ask two models the same and vote without knowing which is which; a question that gets no vote is not counted.

    sessions : `{name: session}`, two or more; of more than two, two are drawn for each question. They must be new:
               each question begins a new conversation in both.
    path     : JSONL file that every vote is appended to and that earlier votes are counted from.
    """

    def __init__(self, sessions: dict, path: Path | str, threaded: bool | None = None):
        super().__init__(f"A blind comparison of {', '.join(sessions)}", threaded)
        if len({id(session) for session in sessions.values()}) < max(2, len(sessions)):
            raise CourseError("CompareWidget needs two sessions or more, each an object of its own.")
        for name, session in sessions.items():
            if session.messages:
                raise CourseError(f"The session {name!r} holds a conversation, which would be lost. Make a new one.")
        self.sessions, self.votes = dict(sessions), Votes(path)
        self._question, self._names = None, {}  # {side: name of the model}
        self._replies, self._writing, self._open = {}, None, False  # open: the names may be seen
        self.view, self.tally = widgets.HTML(layout=WIDE), widgets.HTML()
        self.ballot = {}
        for choice, words in CHOICES.items():
            vote = functools.partial(self._on_vote, choice)
            self.ballot[choice] = button(words, "", f"Vote: {words.lower()}", vote)
        rows = [scroller(self.view, height="34em"), self.typing, row(*self.ballot.values())]
        self.box = widgets.VBox([*rows, self.status, self.tally])
        self._refresh("Ask a question; two models answer it.")

    def _on_send(self):
        question = self.text.value.strip()
        if self.busy or not question:
            return
        names = dict(zip(SIDES, random.sample(list(self.sessions), 2), strict=True))
        try:
            pieces = {}
            for side, name in names.items():
                self.sessions[name].clear()
                pieces[side] = self.sessions[name].stream(question)
        except Exception as error:
            self._tell(error)
            return
        self.text.value, self._question, self._names = "", question, names
        self._replies, self._open = {}, False

        def write():
            # One after the other: two models at a time would take the processor from each other, and a base model and
            # its adapter are one model that can't be both at once. Without the left reply there is no right one.
            for side, reply in pieces.items():
                self._writing = self.sessions[names[side]]
                self._follow(reply, lambda said, side=side: self._paint({side: said}))
                if self._problem or not self._writing.messages:
                    return
                self._replies[side] = self._writing.messages[-1]

        self._work(write, self._on_end)

    def _on_end(self):
        if len(self._replies) == len(SIDES):
            self._refresh("Which reply is better? Vote, then see the names.")
        else:
            self._give_back(self._question)
            self._refresh("Stopped before both replies were there: no vote.")

    def _on_stop(self):
        if self.busy and self._writing:
            self._writing.stop()  # the other one is written all the same

    def _on_vote(self, choice):
        """Keep the vote, then show the names. A second click that was on its way already is no second vote."""
        if not self._votable:
            return
        said = {f"{side}_reply": reply["content"] for side, reply in self._replies.items()}
        settings = {side: self.sessions[name].settings() for side, name in self._names.items()}
        with self._telling():
            self.votes.add({"question": self._question, **self._names, **said, "choice": choice, "settings": settings})
            self._open = True
            names = f"Left was {self._names['left']}, right was {self._names['right']}."
            self._refresh(f"Your vote: {CHOICES[choice].lower()}. {names} Kept in {common.show(self.votes.path)}.")

    @property
    def _votable(self):
        return len(self._replies) == len(SIDES) and not self.busy and not self._open

    def _refresh(self, words):
        super()._refresh(words)
        for part in self.ballot.values():
            part.disabled = not self._votable
        self.tally.value = html.status(f"Votes so far: {self.votes.tally(self.sessions)}")
        self._paint({})

    def _paint(self, live):
        """Show the question and both replies. live : `{side: what there is of a reply that is being written}`."""
        said = [html.bubble("", "user", self._question) if self._question else html.EMPTY]
        both = []
        for side, name in self._names.items():
            title = f"{side.capitalize()}: {name}" if self._open else side.capitalize()
            reply = self._replies.get(side, {"content": live.get(side, "…" if self.busy else "")})
            both.append(html.bubble(title, "assistant", reply["content"], reply.get("end")))
        said.append(f'<div class="bz-sides">{"".join(both)}</div>')  # one above the other where the page is narrow
        self.view.value = html.STYLE + html.conversation(said, writing=self.busy)
