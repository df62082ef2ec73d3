"""A model's Markdown as HTML that is safe to put on a page.

Knows: markdown-it-py and nh3. Does not know: chats or widgets.
Three locks: characters that nobody sees are shown as marks, HTML in the text is escaped before it is rendered, and what
comes out may hold only the tags named here. A model can be led to write any text at all, and `ipywidgets.HTML` puts on
the page whatever it is given.
"""

import functools
import html
import re

_BLOCKS = {"p", "br", "hr", "pre", "blockquote", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6"}
_TABLES = {"table", "thead", "tbody", "tr", "th", "td"}
TAGS = _BLOCKS | _TABLES | {"strong", "em", "s", "code", "a"}
ATTRIBUTES = {"*": set(), "a": {"href"}, "ol": {"start"}}  # "*": nh3 would let a title and a language pass
SCHEMES = {"http", "https", "mailto"}

# Control characters, zero-width ones, bidi embeddings, overrides and isolates, invisible tags, half characters: with
# them a text can look other than it is. The joiners and the left-to-right marks stay: Persian, Hebrew, emoji use them.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


def render(text, copy=False):
    """HTML of `text`, read as Markdown with tables; no raw HTML, no images, links only to the web or to mail.

    copy : a button of class `bz-copy` before each block of code. What a click does is up to the page around it.
    """
    import nh3

    return nh3.clean(
        _parser(copy).render(visible(text)),
        tags=TAGS | {"button"} if copy else TAGS,
        attributes=ATTRIBUTES,
        attribute_filter=_only_absolute_links,
        set_tag_attribute_values={
            "a": {"target": "_blank"},  # a link must not take the notebook's place
            "button": {"type": "button", "class": "bz-copy", "aria-label": "Copy this code"},
        },
        url_schemes=SCHEMES,
        link_rel="noopener noreferrer",
    )


def plain(text):
    """HTML of `text` as it stands, every special character escaped."""
    return html.escape(visible(text))


def visible(text):
    """`text` with each hidden or reordering character shown as a mark, such as ⟨U+202E⟩."""
    return _HIDDEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)


def _only_absolute_links(tag, name, value):
    """nh3's filter of attributes: a link without a scheme leads to the notebook server itself, so it leads nowhere."""
    relative = name == "href" and value.split(":")[0].lower() not in SCHEMES
    return None if relative else value


@functools.cache
def _parser(copy):
    """CommonMark and tables; a single newline breaks the line. An image would fetch its address: it stays text."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    if copy:
        parser.add_render_rule("fence", _fence)
        parser.add_render_rule("code_block", _code_block)
    return parser.disable("image")


def _fence(renderer, tokens, index, options, env):
    """A fenced block with its button."""
    return f"<button>Copy</button>{renderer.fence(tokens, index, options, env)}"


def _code_block(renderer, tokens, index, options, env):
    """An indented block with its button."""
    return f"<button>Copy</button>{renderer.code_block(tokens, index, options, env)}"
