"""Role markers in what a model writes: where they end its reply, and what can be shown before that is certain.

Knows: the markers. Does not know: tokens, models or conversations. Built in notebook 05.
"""

# Where a reply ends even if the stop token does not come: the model has begun to write the other's turn.
# A model that was not tuned on the format often drops a bar, as the first version's prompt did ([Human], [AI]).
STOPS = tuple(f"[{left}{who}{right}]" for who in ("Human", "AI") for left in ("|", "") for right in ("|", ""))


def release(text, stops=STOPS):
    """(show, hold, closed) for reply text that is not on the screen yet. Built in notebook 05.

    show   : what is certain to belong to the reply.
    hold   : the tail that may be the start of a marker, and white space that may stand before one.
    closed : a whole marker was found; it and all that follows is gone.
    """
    found = min((text.find(stop) for stop in stops if stop in text), default=-1)
    if found >= 0:
        return text[:found].rstrip(), "", True
    start = next((i for i in range(len(text)) if any(stop.startswith(text[i:]) for stop in stops)), len(text))
    start = len(text[:start].rstrip())
    return text[:start], text[start:], False


class Screen:
    """What of a reply may be shown. `shown`: all that was; `closed`: a marker ended the reply.

    stops : the markers; () for a model that knows none, whose words are all its own.
    """

    def __init__(self, stops=STOPS):
        self.shown, self._held, self.closed, self._stops = "", "", False, stops

    def push(self, text):
        """Take new text; return the part that can be shown now."""
        self._held += text
        if not self.shown:
            self._held = self._held.lstrip()  # training text has one space after the marker
        show, self._held, self.closed = release(self._held, self._stops)
        self.shown += show
        return show
