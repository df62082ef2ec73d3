"""What the widgets put on a page as HTML that can do no harm: a model's Markdown, bubbles, the status line.

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
SCHEMES = {"http", "https", "mailto"}

# A single newline breaks the line. An image would fetch its address: it stays text.
_PARSER = MarkdownIt("commonmark", {"html": False, "breaks": True})
_PARSER.enable(["table", "strikethrough"]).disable("image")


def render(text: str) -> str:
    """Render `text`, read as Markdown with tables; no raw HTML, no images, links only to the web or to mail."""

    def absolute(tag, name, value):  # a link without a scheme leads to the notebook server itself, so it leads nowhere
        return value if name != "href" or value.split(":")[0].lower() in SCHEMES else None

    return nh3.clean(
        _PARSER.render(mark_hidden(text)),
        tags=TAGS,
        attributes={"*": set(), "a": {"href"}, "ol": {"start"}},  # "*": nh3 would let a title and a language pass
        attribute_filter=absolute,
        set_tag_attribute_values={"a": {"target": "_blank"}},  # a link must not take the notebook's place
        url_schemes=SCHEMES,
        link_rel="noopener noreferrer",
    )


def plain(text) -> str:
    """Write `text` as it stands, every special character escaped."""
    return html.escape(mark_hidden(str(text)))


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
.bz-chat {line-height: 1.45; padding: 2px 8px; color: var(--jp-content-font-color1, inherit);
  --bz-line: 1px solid var(--jp-border-color2, rgba(128, 128, 128, .35))}
.bz-chat .bz-who {font-size: .8em; margin: .7em .2em .15em; color: var(--jp-content-font-color2, inherit)}
.bz-chat .bz-bubble {padding: .45em .8em; border-radius: 8px; overflow: hidden; overflow-wrap: anywhere;
  width: fit-content; max-width: min(44em, 100%); box-sizing: border-box; border: var(--bz-line)}
.bz-chat .bz-plain, .bz-chat pre, .bz-chat pre code {white-space: pre-wrap; overflow-wrap: anywhere}
.bz-chat .bz-user {margin-left: auto; text-align: right}
.bz-chat .bz-user .bz-bubble {margin-left: auto; text-align: start;
  background: var(--jp-layout-color2, rgba(128, 128, 128, .18))}
.bz-chat .bz-bubble * {margin-block: .3em; font-size: 1em}
.bz-chat pre, .bz-chat code {font-family: var(--jp-code-font-family, monospace); color: inherit;
  background: var(--jp-cell-editor-background, rgba(128, 128, 128, .12))}
.bz-chat a {color: var(--jp-content-link-color, inherit); text-decoration: underline}
.bz-chat table {display: block; overflow-x: auto}
.bz-chat .bz-note {font-size: .8em; font-style: italic; white-space: pre-wrap}
.bz-chat mark {background: #fde68a; color: #000; text-decoration: underline}
.bz-text textarea {field-sizing: content; min-height: 3.2em; max-height: 10em}
.bz-sides {display: grid; gap: 0 8px; grid-template-columns: repeat(auto-fit, minmax(min(17em, 100%), 1fr))}
.bz-sides > .bz-assistant {min-width: 0}
</style>"""
EMPTY = '<p class="bz-who">No messages yet. Ask something.</p>'
ENDED = {  # how a reply ended, in words
    "stop": "the model closed its turn",
    "marker": "ended where the model began your next turn",
    "limit": "cut at the token limit",
    "filter": "cut by the endpoint's filter",
    "stopped": "stopped",
}


@functools.lru_cache(maxsize=1024)  # a finished bubble is rendered once, however often the page is repainted
def bubble(name: str, role: str, content: str, end: str | None = None) -> str:
    """Write one message. What a person typed is shown as typed; a model's Markdown is rendered, safely."""
    if role == "user":
        return said("You", role, plain(content), "bz-plain")
    cut = f'<div class="bz-note">{ENDED[end]}</div>' if end in ("limit", "filter", "stopped") else ""
    return said(name, role, render(content or "*(no words)*")) + cut


def said(who: str, role: str, body: str, style: str = "") -> str:
    """Write one message whose body is safe HTML already."""
    who = f'<div class="bz-who">{plain(who)}</div>'
    return f'<div class="bz-{plain(role)}">{who}<div class="bz-bubble {style}" dir="auto">{body}</div></div>'


def conversation(bubbles: list[str], writing: bool = False) -> str:
    """Put bubbles, or a sentence of ours, into one box. writing : a screen reader waits until it is whole."""
    about = f'role="log" aria-label="Conversation" aria-busy="{str(writing).lower()}"'
    return f'<div class="bz-chat" {about}>{"".join(bubbles)}</div>'


def status(text: str, problem: bool = False) -> str:
    """Write the status line."""
    color = "var(--jp-error-color1, #b91c1c)" if problem else "var(--jp-content-font-color2, inherit)"
    role = "alert" if problem else "status"
    return f'<span role="{role}" style="font-size: .9em; overflow-wrap: anywhere; color: {color}">{plain(text)}</span>'
