"""What the widgets put on a page as HTML that can do no harm: a model's Markdown, bubbles, the status line, votes.

Three locks: characters that nobody sees are shown as marks, HTML in the text is escaped before it is rendered, and what
comes out may hold only the tags named here. A model can be led to write any text at all, and `ipywidgets.HTML` puts on
the page whatever it is given.
"""

import functools
import html

import nh3
from markdown_it import MarkdownIt

from ..text import mark_hidden

_BLOCKS = {"p", "br", "hr", "pre", "blockquote", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6"}
_TABLES = {"table", "thead", "tbody", "tr", "th", "td"}
TAGS = _BLOCKS | _TABLES | {"strong", "em", "s", "code", "a"}
ATTRIBUTES = {"*": set(), "a": {"href"}, "ol": {"start"}}  # "*": nh3 would let a title and a language pass
SCHEMES = {"http", "https", "mailto"}


def render(text: str, copy: bool = False) -> str:
    """Render `text`, read as Markdown with tables; no raw HTML, no images, links only to the web or to mail.

    copy : a button of class `bz-copy` before each block of code. What a click does is up to the page around it.
    """

    def absolute(tag, name, value):  # a link without a scheme leads to the notebook server itself, so it leads nowhere
        return value if name != "href" or value.split(":")[0].lower() in SCHEMES else None

    return nh3.clean(
        _parser(copy).render(mark_hidden(text)),
        tags=TAGS | {"button"} if copy else TAGS,
        attributes=ATTRIBUTES,
        attribute_filter=absolute,
        set_tag_attribute_values={
            "a": {"target": "_blank"},  # a link must not take the notebook's place
            "button": {"type": "button", "class": "bz-copy", "aria-label": "Copy this code"},
        },
        url_schemes=SCHEMES,
        link_rel="noopener noreferrer",
    )


def plain(text) -> str:
    """Write `text` as it stands, every special character escaped."""
    return html.escape(mark_hidden(str(text)))


@functools.cache
def _parser(copy):
    """CommonMark and tables; a single newline breaks the line. An image would fetch its address: it stays text."""
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    for kind in ("fence", "code_block") if copy else ():
        block = getattr(parser.renderer, kind)
        parser.renderer.rules[kind] = lambda *token, block=block: f"<button>Copy</button>{block(*token)}"
    return parser.disable("image")


# One handler on the box around all bubbles, a constant: it copies the block of code that follows the button. Nothing in
# a bubble can have a handler of its own. execCommand also works where a notebook is not served by https; if it is
# forbidden, the code is selected and the person presses the keys.
_COPY = (
    "const b = event.target.closest('.bz-copy'); if (b) { const r = document.createRange(), s = getSelection(); "
    "r.selectNodeContents(b.nextElementSibling); s.removeAllRanges(); s.addRange(r); "
    "b.textContent = document.execCommand('copy') ? 'Copied' : 'Now press Ctrl+C'; }"
)

# Enter in the field `.bz-text` of a row sends, Shift+Enter begins a new line: a Textarea of ipywidgets knows no keys.
# A constant too: it runs when it is put on the page. It writes a mark behind the message, for which the kernel looks. A
# message of its own would overtake the last letters: the page tells of letters when the kernel has taken those before.
ENTER = "\x03"
KEYS = """<img src="data:," alt="" hidden onerror="
const listen = tries => {
  const field = this.closest('.bz-row')?.querySelector('.bz-text textarea');
  if (!field) return tries && setTimeout(listen, 100, tries - 1);
  field.dataset.lmSuppressShortcuts = 'true';
  field.onkeydown = event => {
    if (event.key !== 'Enter' || event.isComposing) return;
    event.stopPropagation();
    if (event.shiftKey) return;
    event.preventDefault();
    const typed = field.value;
    field.value += '\\x03';
    field.dispatchEvent(new Event('input', {bubbles: true}));
    field.value = typed;
  };
};
listen(50);">"""

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
.bz-text textarea {field-sizing: content; min-height: 3.2em; max-height: 10em}
.bz-sides {display: grid; gap: 0 8px; grid-template-columns: repeat(auto-fit, minmax(min(17em, 100%), 1fr))}
.bz-sides > .bz-assistant {min-width: 0}
</style>"""
EMPTY = '<p class="bz-empty">No messages yet. Ask something.</p>'


@functools.lru_cache(maxsize=1024)  # a finished bubble is rendered once, however often the page is repainted
def bubble(name: str, role: str, content: str, end: str | None = None) -> str:
    """Write one message. What a person typed is shown as typed; a model's Markdown is rendered, safely."""
    who = "You" if role == "user" else plain(name)
    body = plain(content) if role == "user" else render(content or "*(no words)*", copy=True)
    note = {"limit": "cut at the token limit", "filter": "cut by a filter", "stopped": "stopped here"}.get(end)
    note = f'<div class="bz-note">{note}</div>' if note else ""
    said = f'<div class="bz-bubble" dir="auto">{body}</div>'
    return f'<div class="bz-{role}"><div class="bz-who">{who}</div>{said}{note}</div>'


def conversation(bubbles: list[str], writing: bool = False) -> str:
    """Put bubbles, or a sentence of ours, into one box. writing : a screen reader waits until it is whole."""
    busy = str(writing).lower()
    return (
        f'<div class="bz-chat" role="log" aria-label="Conversation" aria-busy="{busy}" onclick="{_COPY}">'
        f"{''.join(bubbles)}</div>"
    )


def votes(cast: list[dict], names) -> str:
    """Write a table of votes: how often each model was better, of the times it was shown; and the ties.

    names : models that come first, in this order.
    """
    won = {name: [] for name in names}
    for vote in cast:
        for side in ("left", "right"):
            won.setdefault(vote[side], []).append(vote["choice"] == side)
    rows = [(plain(name), f"better {sum(hits)} of {len(hits)}") for name, hits in won.items()]
    ties = {"the same": "same", "both bad": "bad"}
    rows += [(words, sum(vote["choice"] == choice for vote in cast)) for words, choice in ties.items()]
    cells = "".join(f'<tr><th scope="row">{name}</th><td>{count}</td></tr>' for name, count in rows)
    return f'<div class="bz-chat"><table aria-label="Votes so far">{cells}</table></div>'


def status(text: str, problem: bool = False) -> str:
    """Write the status line."""
    color = "var(--jp-error-color1, #b91c1c)" if problem else "var(--jp-content-font-color2, inherit)"
    role = "alert" if problem else "status"
    return f'<span role="{role}" style="font-size: .9em; overflow-wrap: anywhere; color: {color}">{plain(text)}</span>'
