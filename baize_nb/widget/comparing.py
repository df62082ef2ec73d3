"""CompareWidget: one question, two models side by side, and a vote before the names are shown.

Knows: who stands on which side, and when that may be seen. Does not know: how votes are kept (votes.py).
The replies are written one after the other: two models at a time would take the processor from each other, and a base
model and its adapter are one model that can't be both at once.
"""

from dataclasses import dataclass, field

import ipywidgets as widgets

from .. import common
from ..common import CourseError
from . import bubbles
from .face import Face, button, row, scroller
from .votes import CHOICES, SIDES, Votes, draw
from .worker import follow


class CompareWidget(Face):
    """Ask two models the same and vote without knowing which is which. Built in notebook 05.

    sessions : `{name: session}`, two or more; of more than two, two are drawn for each question. They must be new:
               each question begins a new conversation in both.
    path     : JSONL file that every vote is appended to and that earlier votes are counted from; None keeps them in
               memory only.
    seed     : of the draw of sides.
    threaded : as in ChatWidget.

    The order is hidden until the vote. A question that gets no vote is not counted. What stays visible is how fast
    each reply comes. Its parts can be driven from code: `text`, `send`, `stop`, `ballot` ({choice: button}), `view`,
    `tally`, `status`; `votes.cast` holds the votes.
    """

    def __init__(self, sessions, path=None, seed=0, threaded=None):
        super().__init__(threaded)
        _check(sessions)
        self.sessions, self.seed, self.votes = dict(sessions), seed, Votes(path)
        self._round = None
        self._build()
        self._refresh("Ask a question; two models answer it.")

    def _build(self):
        """The parts, and what they call."""
        self.view, self.tally = widgets.HTML(layout={"width": "100%"}), widgets.HTML()
        self.ballot = {choice: button(words, "", f"Vote: {words.lower()}") for choice, words in CHOICES.items()}
        for choice, part in self.ballot.items():
            part.on_click(lambda _, choice=choice: self._on_vote(choice))
        rows = [scroller(self.view, height="34em"), row(self.text, self.send, self.stop), row(*self.ballot.values())]
        self.box = widgets.VBox([*rows, self.status, self.tally])

    def words(self):
        """What stands where no widget can be shown."""
        return f"A blind comparison of {', '.join(self.sessions)}"

    def _on_send(self):
        """Draw the sides and start both replies."""
        question = self.text.value.strip()
        if self.busy or not question:
            return
        names = draw(self.sessions, self.seed, len(self.votes.cast))
        try:
            pieces = [self._ask(name, question) for name in names]
        except Exception as error:
            self._tell(error)
            return
        self.text.value, self._asked, self._problem = "", question, None
        self._round, self._side = Round(question, *names), SIDES[0]
        self._refresh(self._writing())
        self.worker.start(lambda: self._write(pieces), self._end)

    def _ask(self, name, question):
        """The generator of one model's reply, in a new conversation."""
        self.sessions[name].clear()
        return self.sessions[name].stream(question)

    def _write(self, pieces):
        """Show the left reply while it comes, then the right one. Without the one there is no other."""
        for side, reply in zip(SIDES, pieces, strict=True):
            self._side = side
            self._problem = follow(reply, self._show)
            messages = self.sessions[self._round.names[side]].messages
            if self._problem or not messages:
                return
            self._round.replies[side] = messages[-1]

    def _show(self, said):
        """Repaint while a reply comes."""
        self._paint({self._side: said})

    def _end(self):
        """Both replies are there, or one of them failed: then the question goes back into the line."""
        question, self._asked = self._asked, None
        if self._round.complete:
            self._refresh("Which reply is better? Vote, then see the names.")
            return
        self.text.value = f"{question} {self.text.value}".strip()
        self._refresh("Stopped before both replies were there: no vote.")
        if self._problem:
            self._tell(self._problem)

    def _on_stop(self):
        """End the reply that is being written. The other one is written all the same."""
        if self.busy:
            self.sessions[self._round.names[self._side]].stop()

    def _on_vote(self, choice):
        """Keep the vote, then show the names. A second click that was on its way already is no second vote."""
        if not self._votable:
            return
        try:
            self.votes.add(self._round.vote(choice, self.sessions))
        except Exception as error:
            self._tell(error)
            return
        self._round.open = True
        names = f"Left was {self._round.left}, right was {self._round.right}."
        where = f" Kept in {common.show(self.votes.path)}." if self.votes.path else ""
        self._refresh(f"Your vote: {CHOICES[choice].lower()}. {names}{where}")

    @property
    def _votable(self):
        """Whether both replies wait for a vote."""
        return bool(self._round) and self._round.complete and not self.busy and not self._round.open

    def _refresh(self, words):
        """Bring everything on the page in step with the round."""
        self.send.disabled = self.busy
        self.stop.disabled = not (self.busy and self.worker.threaded)
        for part in self.ballot.values():
            part.disabled = not self._votable
        self.status.value = bubbles.line(words)
        self.tally.value = bubbles.tally(self.votes.tally(self.sessions), self.votes.ties())
        self._paint({})

    def _paint(self, live):
        """The question and both replies. live : `{side: what is there of a reply that is being written}`."""
        if not self._round:
            self.view.value = bubbles.STYLE + bubbles.empty("No question yet.")
            return
        said = [self._round.bubble(side, live.get(side, "…" if self.busy else "")) for side in SIDES]
        question = bubbles.bubble("", "user", self._round.question)
        self.view.value = bubbles.STYLE + bubbles.conversation([question, bubbles.sides(said)], writing=self.busy)


@dataclass
class Round:
    """One question and what became of it. left, right : names of models; open : whether they may be seen."""

    question: str
    left: str
    right: str
    replies: dict = field(default_factory=dict)  # {side: the session's message}
    open: bool = False

    @property
    def names(self):
        """`{side: name}`."""
        return dict(zip(SIDES, (self.left, self.right), strict=True))

    @property
    def complete(self):
        """Whether both replies are there."""
        return len(self.replies) == len(SIDES)

    def bubble(self, side, live):
        """One reply as HTML, under its side's name, and under its model's name as soon as that may be seen."""
        title = f"{side.capitalize()}: {self.names[side]}" if self.open else side.capitalize()
        reply = self.replies.get(side, {"content": live})
        return bubbles.bubble(title, "assistant", reply["content"], reply.get("end"))

    def vote(self, choice, sessions):
        """A vote on this round, as votes.py describes it."""
        said = {f"{side}_reply": reply["content"] for side, reply in self.replies.items()}
        drawn = {side: sessions[name].settings() for side, name in self.names.items()}
        return {"question": self.question, **self.names, **said, "choice": choice, "settings": drawn}


def _check(sessions):
    """Raises CourseError unless there are two sessions or more, all different and without a conversation."""
    if len({id(session) for session in sessions.values()}) < max(2, len(sessions)):
        raise CourseError("CompareWidget needs two sessions or more, each an object of its own: {name: session, …}.")
    begun = [name for name, session in sessions.items() if session.messages]
    if begun:
        raise CourseError(
            f"The session {begun[0]!r} holds a conversation, and each question here starts a new one. "
            "Give CompareWidget new sessions."
        )
