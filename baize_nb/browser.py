"""A widget to read dialogues one at a time: choose a source or a rule, search, step with buttons or the arrow keys.

Knows: ipywidgets and how to show a dialogue safely. Does not know: files, or what the rules look for.
Everything a teacher wrote is escaped: a corpus may hold HTML, and a widget shows HTML as it is given.
Keys: Tab reaches every part; on the slider, the arrow keys step, Page Up and Down leap, Home and End go to the ends.
"""

import html
import re

import ipywidgets as widgets

ALL = "all sources"
ANY, OBJECTED, FINE = "whatever the rules say", "any rule objects", "no rule objects"

# JupyterLab's own colours where it has them, so that a dark theme stays dark; plain ones elsewhere (Colab).
_STYLE = """<style>
.bz-dialogue {max-width: 46em; line-height: 1.45; color: var(--jp-content-font-color1, inherit)}
.bz-dialogue .bz-head, .bz-dialogue .bz-role {font-size: .85em; color: var(--jp-content-font-color2, inherit)}
.bz-dialogue .bz-note {margin: .4em 0; padding: .3em .7em; border: 1px solid #c2410c; border-radius: 4px;
  white-space: pre-wrap; overflow-wrap: anywhere}
.bz-dialogue .bz-said {margin: .5em 0; padding: .4em .8em; border-left: 3px solid var(--jp-border-color1, #bbb);
  white-space: pre-wrap; overflow-wrap: anywhere}
.bz-dialogue .bz-assistant {margin-left: 1.6em; border-left: 3px double var(--jp-content-font-color2, #777)}
.bz-dialogue mark {padding: 0; background: #fde68a; color: #000; text-decoration: underline}
</style>"""


def page(dialogue, note="", search=""):
    """One dialogue as HTML: who said what, with `search` marked. All text is escaped."""
    facts = (dialogue.id, dialogue.source, dialogue.strategy, dialogue.model, f"ended: {dialogue.end or 'not said'}")
    parts = [f'<p class="bz-head">{_escape(" · ".join(fact for fact in facts if fact))}</p>']
    if note:
        parts.append(f'<p class="bz-note">{_escape(note)}</p>')
    for message in dialogue.messages:
        role = message["role"]
        parts.append(
            f'<div class="bz-said bz-{_escape(role)}"><span class="bz-role">{_escape(role)}</span>\n'
            f"{_marked(message['content'], search)}</div>"
        )
    return f'{_STYLE}<div class="bz-dialogue" role="region" aria-label="Dialogue">{"".join(parts)}</div>'


class Browser:
    """A widget over `dialogues`; show it by making it the last line of a cell. Built in notebook 03.

    findings : `{rule: {dialogue id: what it saw}}`, from `corpus.findings`: gives a filter by rule, and shows above
               each dialogue what the rules saw in it.
    notes    : `{dialogue id: text}` to show above a dialogue as well.

    Its parts can be driven from code: `source`, `rule`, `search`, `position`, `back`, `forth`, `where`, `view`.
    """

    def __init__(self, dialogues, findings=None, notes=None):
        self.dialogues, self.findings = list(dialogues), findings or {}
        self.notes = {name: [text] for name, text in (notes or {}).items()}
        for rule, hits in self.findings.items():
            for name, why in hits.items():
                self.notes.setdefault(name, []).append(f"{rule}: {why}")
        self.found = self.dialogues
        self._build()
        self._filter()

    def _build(self):
        """The parts, and what they call."""
        sources = sorted({d.source for d in self.dialogues if d.source})
        rules = [(choice, choice) for choice in (ANY, OBJECTED, FINE)]
        rules += [(f"{rule} ({len(hits)})", rule) for rule, hits in self.findings.items() if hits]
        self.source = widgets.Dropdown(options=[ALL, *sources], description="Source")
        self.rule = widgets.Dropdown(options=rules, description="Rule")
        self.search = widgets.Text(description="Search", placeholder="a word in any message", continuous_update=False)
        self.back = _button("Previous", "arrow-left", "The dialogue before this one")
        self.forth = _button("Next", "arrow-right", "The dialogue after this one")
        # The slider takes the arrow keys without a line of JavaScript of ours.
        self.position = widgets.IntSlider(1, 1, 1, readout=False, description="Go to", layout={"flex": "1 1 14em"})
        self.position.tooltip = "Which dialogue; the arrow keys step"
        self.where, self.view = widgets.Label(), widgets.HTML()
        for part in (self.source, self.rule, self.search):
            part.observe(self._filter, "value")
        self.position.observe(self._show, "value")
        self.back.on_click(lambda _: self.go(-1))
        self.forth.on_click(lambda _: self.go(+1))
        wrap = {"flex_flow": "row wrap", "max_width": "52em"}
        chosen = [self.source, self.rule, self.search] if self.findings else [self.source, self.search]
        step = widgets.HBox([self.back, self.forth, self.position, self.where], layout=wrap)
        self.box = widgets.VBox([widgets.HBox(chosen, layout=wrap), step, self.view])

    def _repr_mimebundle_(self, **_):
        """What a notebook shows; the words are for where widgets can't be shown, such as GitHub's pages."""
        shown = self.box._repr_mimebundle_()
        return {**shown, "text/plain": f"A browser over {len(self.dialogues)} dialogues: run this cell to use it."}

    def go(self, steps):
        """Move by `steps` dialogues, not past either end."""
        self.position.value = max(1, min(self.position.max, self.position.value + steps))

    def _filter(self, _change=None):
        """Keep the dialogues of the chosen source and rule that contain the searched words, and show the first."""
        needle = self.search.value.strip().casefold()
        self.found = [
            d
            for d in self.dialogues
            if self.source.value in (ALL, d.source)
            and self._ruled(d.id)
            and any(needle in m["content"].casefold() for m in d.messages)
        ]
        self.position.value, self.position.max = 1, max(1, len(self.found))
        self._show()

    def _ruled(self, name):
        """Whether the dialogue called `name` is wanted, by what the rules say of it."""
        if self.rule.value == ANY:
            return True
        if self.rule.value in (OBJECTED, FINE):
            return any(name in hits for hits in self.findings.values()) == (self.rule.value == OBJECTED)
        return name in self.findings[self.rule.value]

    def _show(self, _change=None):
        """Bring the page in step with the position."""
        place = self.position.value
        self.position.disabled = len(self.found) < 2
        self.back.disabled, self.forth.disabled = place == 1, place >= len(self.found)
        if not self.found:
            self.where.value, self.view.value = (
                "no dialogue",
                "<p>Nothing found. Clear the search box, or choose all sources and all rules.</p>",
            )
            return
        dialogue = self.found[place - 1]
        self.where.value = f"{place} of {len(self.found)}"
        self.view.value = page(dialogue, "\n".join(self.notes.get(dialogue.id, [])), self.search.value.strip())


def _button(label, icon, tooltip):
    return widgets.Button(description=label, icon=icon, tooltip=tooltip, layout={"width": "8em", "flex": "0 0 auto"})


def _escape(text):
    return html.escape(str(text))


def _marked(text, search):
    """`text` escaped, with every occurrence of `search` in <mark>. Cut before escaping, so that no tag is hit."""
    if not search:
        return _escape(text)
    pieces = re.split(f"({re.escape(search)})", text, flags=re.IGNORECASE)
    return "".join(f"<mark>{_escape(p)}</mark>" if i % 2 else _escape(p) for i, p in enumerate(pieces))
