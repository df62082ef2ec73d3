"""Browser: read dialogues one at a time; choose a source or a rule, search, step with buttons or the arrow keys."""

import re

import ipywidgets as widgets

from . import html
from .chat import Shown, button

ALL = "all sources"
ANY, OBJECTED, FINE = "whatever the rules say", "any rule objects", "no rule objects"


def page(dialogue, note: str = "", search: str = "") -> str:
    """Write one dialogue as HTML: who said what, with `search` marked. All text is escaped: a corpus may hold HTML."""
    facts = (dialogue.id, dialogue.source, dialogue.strategy, dialogue.model, f"ended: {dialogue.end or 'not said'}")
    parts = [f'<p class="bz-who">{html.plain(" · ".join(fact for fact in facts if fact))}</p>']
    if note:
        parts.append(f'<p class="bz-note">{html.plain(note)}</p>')
    for message in dialogue.messages:
        # Cut before escaping, so that no tag is hit; every second piece is what was searched.
        pieces = re.split(f"({re.escape(search)})", message["content"], flags=re.IGNORECASE) if search else []
        pieces = [html.plain(piece) for piece in pieces or [message["content"]]]
        pieces[1::2] = [f"<mark>{piece}</mark>" for piece in pieces[1::2]]
        parts.append(html.said(message["role"], message["role"], "".join(pieces), "bz-plain"))
    return f'{html.STYLE}<div class="bz-chat" role="region" aria-label="Dialogue">{"".join(parts)}</div>'


class Browser(Shown):
    """A widget over `dialogues`; show it by making it the last line of a cell.

    findings : `{rule: {dialogue id: what it saw}}`, from `corpus.findings`: gives a filter by rule, and shows above
               each dialogue what the rules saw in it.
    notes    : `{dialogue id: text}` to show above a dialogue as well.
    """

    def __init__(self, dialogues, findings: dict | None = None, notes: dict | None = None):
        self.dialogues, self.findings = list(dialogues), findings or {}
        self.words = f"A browser over {len(self.dialogues)} dialogues"
        self.notes = {name: [text] for name, text in (notes or {}).items()}
        for rule, hits in self.findings.items():
            for name, why in hits.items():
                self.notes.setdefault(name, []).append(f"{rule}: {why}")
        sources = sorted({d.source for d in self.dialogues if d.source})
        rules = [(choice, choice) for choice in (ANY, OBJECTED, FINE)]
        rules += [(f"{rule} ({len(hits)})", rule) for rule, hits in self.findings.items() if hits]
        self.source = widgets.Dropdown(options=[ALL, *sources], description="Source")
        self.rule = widgets.Dropdown(options=rules, description="Rule")
        self.search = widgets.Text(description="Search", placeholder="a word in any message", continuous_update=False)
        self.back = button("Previous", "arrow-left", "The dialogue before this one", lambda: self.go(-1))
        self.forth = button("Next", "arrow-right", "The dialogue after this one", lambda: self.go(+1))
        # The slider takes the arrow keys without a line of JavaScript of ours.
        self.position = widgets.IntSlider(1, 1, 1, readout=False, description="Go to", layout={"flex": "1 1 14em"})
        self.where, self.view = widgets.Label(), widgets.HTML()
        for part in (self.source, self.rule, self.search):
            part.observe(self._filter, "value")
        self.position.observe(self._show, "value")
        wrap = {"flex_flow": "row wrap", "max_width": "52em"}
        chosen = [self.source, self.rule, self.search] if self.findings else [self.source, self.search]
        step = widgets.HBox([self.back, self.forth, self.position, self.where], layout=wrap)
        self.box = widgets.VBox([widgets.HBox(chosen, layout=wrap), step, self.view])
        self._filter()

    def go(self, steps: int) -> None:
        """Move by `steps` dialogues, not past either end."""
        self.position.value = max(1, min(self.position.max, self.position.value + steps))

    def _filter(self, _change=None):
        needle, rule = self.search.value.strip().casefold(), self.rule.value
        objected = {name for hits in self.findings.values() for name in hits}
        self.found = [
            d
            for d in self.dialogues
            if self.source.value in (ALL, d.source)
            and (rule == ANY or (d.id in self.findings.get(rule, objected)) != (rule == FINE))
            and any(needle in m["content"].casefold() for m in d.messages)
        ]
        self.position.value, self.position.max = 1, max(1, len(self.found))
        self._show()

    def _show(self, _change=None):
        place = self.position.value
        self.position.disabled = len(self.found) < 2
        self.back.disabled, self.forth.disabled = place == 1, place >= len(self.found)
        self.where.value = f"{place} of {len(self.found)}" if self.found else "no dialogue"
        if not self.found:
            self.view.value = "<p>Nothing found. Clear the search box, or choose all sources and all rules.</p>"
            return
        dialogue = self.found[place - 1]
        self.view.value = page(dialogue, "\n".join(self.notes.get(dialogue.id, [])), self.search.value.strip())
