"""A conversation as HTML: bubbles, notes, the status line, and the colours of all of it.

Knows: which part of a page is ours and which is somebody's text. Does not know: ipywidgets or sessions.
Every text goes through markdown.py, last of all; what stands here around it holds nothing that anybody typed.
"""

from .. import markdown

_NOTES = {"limit": "cut at the token limit", "stopped": "stopped here"}

# One handler on the box around all bubbles, a constant: it copies the block of code that follows the button. Nothing in
# a bubble can have a handler of its own. execCommand also works where a notebook is not served by https; if it is
# forbidden, the code is selected and the person presses the keys.
_COPY = (
    "const b = event.target.closest('.bz-copy'); if (b) { const r = document.createRange(), s = getSelection(); "
    "r.selectNodeContents(b.nextElementSibling); s.removeAllRanges(); s.addRange(r); "
    "b.textContent = document.execCommand('copy') ? 'Copied' : 'Now press Ctrl+C'; }"
)

# JupyterLab's own colours where it has them, so that a dark theme stays dark; see-through greys elsewhere.
STYLE = """<style>
.bz-chat {line-height: 1.45; padding: 2px 8px; color: var(--jp-content-font-color1, inherit)}
.bz-chat .bz-who {font-size: .8em; margin: .7em .2em .15em; color: var(--jp-content-font-color2, inherit)}
.bz-chat .bz-bubble {padding: .45em .8em; border-radius: 8px; overflow: hidden; overflow-wrap: anywhere;
  width: fit-content; max-width: min(44em, 100%); box-sizing: border-box;
  border: 1px solid var(--jp-border-color2, rgba(128, 128, 128, .35))}
.bz-chat .bz-user {margin-left: auto; text-align: right}
.bz-chat .bz-user .bz-bubble {margin-left: auto; text-align: start; white-space: pre-wrap;
  background: var(--jp-layout-color2, rgba(128, 128, 128, .18))}
.bz-chat .bz-bubble > :first-child {margin-top: 0}
.bz-chat .bz-bubble > :last-child {margin-bottom: 0}
.bz-chat .bz-bubble p, .bz-chat .bz-bubble ul, .bz-chat .bz-bubble ol, .bz-chat .bz-bubble table {margin: .4em 0}
.bz-chat .bz-bubble ul, .bz-chat .bz-bubble ol {padding-left: 1.6em}
.bz-chat .bz-bubble h1, .bz-chat .bz-bubble h2, .bz-chat .bz-bubble h3 {font-size: 1.1em; margin: .5em 0}
.bz-chat pre {overflow-x: auto; margin: 0 0 .4em; padding: .5em .7em; border-radius: 4px; line-height: 1.35;
  background: var(--jp-cell-editor-background, rgba(128, 128, 128, .12)); color: inherit}
.bz-chat pre, .bz-chat pre code {white-space: pre-wrap; word-break: normal; overflow-wrap: anywhere}
.bz-chat th {text-align: start}
.bz-chat code {font-family: var(--jp-code-font-family, monospace); font-size: .92em; background: none; color: inherit}
.bz-chat .bz-copy {display: block; margin: .4em 0 2px auto; padding: 0 .6em; font: inherit; font-size: .8em;
  border: 1px solid var(--jp-border-color1, rgba(128, 128, 128, .5)); border-radius: 4px; cursor: pointer;
  background: none; color: inherit}
.bz-chat .bz-copy:focus-visible {outline: 2px solid var(--jp-brand-color1, currentColor)}
.bz-chat a {color: var(--jp-content-link-color, inherit); text-decoration: underline}
.bz-chat table {border-collapse: collapse; display: block; overflow-x: auto}
.bz-chat blockquote {margin: .4em 0; padding-left: .8em; border-left: 3px solid var(--jp-border-color1, #999)}
.bz-chat td, .bz-chat th {border: 1px solid var(--jp-border-color2, rgba(128, 128, 128, .35)); padding: .15em .5em}
.bz-chat .bz-note {font-size: .8em; font-style: italic; margin: .1em .3em; opacity: .8}
.bz-chat .bz-empty {color: var(--jp-content-font-color2, inherit)}
.bz-sides {display: grid; gap: 0 8px; grid-template-columns: repeat(auto-fit, minmax(min(17em, 100%), 1fr))}
.bz-sides > .bz-assistant {min-width: 0}
</style>"""


def bubble(name, role, content, end=None):
    """One message as HTML. What a person typed is shown as typed; a model's Markdown is rendered, safely."""
    who = "You" if role == "user" else markdown.plain(name)
    body = markdown.plain(content) if role == "user" else markdown.render(content or "*(no words)*", copy=True)
    note = f'<div class="bz-note">{_NOTES[end]}</div>' if end in _NOTES else ""
    said = f'<div class="bz-bubble" dir="auto">{body}</div>'
    return f'<div class="bz-{role}"><div class="bz-who">{who}</div>{said}{note}</div>'


def conversation(bubbles, writing=False):
    """A list of bubbles as one box. writing : a screen reader waits with it until it is whole."""
    busy = str(writing).lower()
    return (
        f'<div class="bz-chat" role="log" aria-label="Conversation" aria-busy="{busy}" onclick="{_COPY}">'
        f"{''.join(bubbles)}</div>"
    )


def empty(text):
    """A box with a sentence of ours where no message is yet."""
    return conversation([f'<p class="bz-empty">{text}</p>'])


def sides(replies):
    """Bubbles side by side; one above the other where the page is narrow."""
    return f'<div class="bz-sides">{"".join(replies)}</div>'


def tally(counts, ties):
    """Votes as a table. counts, ties : from Votes.tally and Votes.ties."""
    rows = [(markdown.plain(name), f"better {won} of {shown}") for name, (shown, won) in counts.items()]
    rows += [("the same", ties["same"]), ("both bad", ties["bad"])]
    cells = "".join(f'<tr><th scope="row">{name}</th><td>{count}</td></tr>' for name, count in rows)
    return f'<div class="bz-chat"><table aria-label="Votes so far">{cells}</table></div>'


def line(text, problem=False):
    """The status line as HTML."""
    color = "var(--jp-error-color1, #b91c1c)" if problem else "var(--jp-content-font-color2, inherit)"
    role = "alert" if problem else "status"
    return (
        f'<span role="{role}" style="font-size: .9em; overflow-wrap: anywhere; color: {color}">'
        f"{markdown.plain(text)}</span>"
    )
