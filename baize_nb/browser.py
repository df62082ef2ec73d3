"""A widget to read dialogues one at a time: choose a source, search, step back and forth.

Knows: ipywidgets and how to show a dialogue safely. Does not know: files, or what is wrong with a dialogue.
Everything a teacher wrote is escaped: a corpus may hold HTML, and a widget shows HTML as it is given.
"""

import html
import re

import ipywidgets as widgets

ALL = "all sources"

# JupyterLab's own colours where it has them, so that a dark theme stays dark; plain ones elsewhere (Colab).
_STYLE = """<style>
.bz-dialogue {max-width: 46em; line-height: 1.45; color: var(--jp-content-font-color1, inherit)}
.bz-dialogue .bz-head, .bz-dialogue .bz-role {font-size: .85em; color: var(--jp-content-font-color2, #555)}
.bz-dialogue .bz-note {margin: .4em 0; padding: .3em .7em; border: 1px solid #c2410c; border-radius: 4px}
.bz-dialogue .bz-said {margin: .5em 0; padding: .4em .8em; border-left: 3px solid var(--jp-border-color1, #bbb);
  white-space: pre-wrap; overflow-wrap: anywhere}
.bz-dialogue .bz-assistant {margin-left: 1.6em; border-left: 3px double var(--jp-content-font-color2, #555)}
.bz-dialogue mark {padding: 0}
</style>"""


def browse(dialogues, notes=None):
    """A widget over `dialogues`; show it by making it the last line of a cell. Built in notebook 03.

    notes : `{dialogue id: text}` to show above a dialogue, for instance why it was removed.
    """
    return Browser(dialogues, notes).box


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
    return f'{_STYLE}<div class="bz-dialogue">{"".join(parts)}</div>'


class Browser:
    """The browser's parts, for those who want to drive it from code: `source`, `search`, `back`, `forth`, `view`."""

    def __init__(self, dialogues, notes=None):
        self.dialogues, self.notes = list(dialogues), notes or {}
        self.found, self.position = self.dialogues, 0
        sources = sorted({d.source for d in self.dialogues if d.source})
        self.source = widgets.Dropdown(options=[ALL, *sources], description="Source")
        self.search = widgets.Text(description="Search", placeholder="a word in any message", continuous_update=False)
        self.back = widgets.Button(description="Previous", icon="arrow-left", layout={"width": "8em"})
        self.forth = widgets.Button(description="Next", icon="arrow-right", layout={"width": "8em"})
        self.where = widgets.Label()
        self.view = widgets.HTML()
        self.source.observe(self._filter, "value")
        self.search.observe(self._filter, "value")
        self.back.on_click(lambda _: self.go(-1))
        self.forth.on_click(lambda _: self.go(+1))
        choose = widgets.HBox([self.source, self.search], layout={"flex_flow": "row wrap"})
        step = widgets.HBox([self.back, self.forth, self.where])
        self.box = widgets.VBox([choose, step, self.view])
        self._show()

    def go(self, steps):
        """Move by `steps` dialogues, not past either end."""
        self.position = max(0, min(len(self.found) - 1, self.position + steps))
        self._show()

    def _filter(self, _change=None):
        """Keep the dialogues of the chosen source that contain the searched words, and show the first."""
        wanted, needle = self.source.value, self.search.value.strip().casefold()
        self.found = [
            d
            for d in self.dialogues
            if wanted in (ALL, d.source) and any(needle in m["content"].casefold() for m in d.messages)
        ]
        self.position = 0
        self._show()

    def _show(self):
        self.back.disabled = self.position == 0
        self.forth.disabled = self.position >= len(self.found) - 1
        if not self.found:
            self.where.value, self.view.value = "no dialogue", "<p>Nothing found. Clear the search box.</p>"
            return
        dialogue = self.found[self.position]
        self.where.value = f"{self.position + 1} of {len(self.found)}"
        self.view.value = page(dialogue, self.notes.get(dialogue.id, ""), self.search.value.strip())


def _escape(text):
    return html.escape(str(text))


def _marked(text, search):
    """`text` escaped, with every occurrence of `search` in <mark>. Cut before escaping, so that no tag is hit."""
    if not search:
        return _escape(text)
    pieces = re.split(f"({re.escape(search)})", text, flags=re.IGNORECASE)
    return "".join(f"<mark>{_escape(p)}</mark>" if i % 2 else _escape(p) for i, p in enumerate(pieces))
