"""A model's Markdown as HTML that is safe to put on a page.

Knows: markdown-it-py and nh3. Does not know: chats or widgets.
Two locks: HTML in the text is escaped before it is rendered, and what comes out may hold only the tags named here.
A model can be led to write any text at all, and `ipywidgets.HTML` puts on the page whatever it is given.
"""

import functools
import html

_BLOCKS = {"p", "br", "hr", "pre", "blockquote", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6"}
_TABLES = {"table", "thead", "tbody", "tr", "th", "td"}
TAGS = _BLOCKS | _TABLES | {"strong", "em", "s", "code", "a"}
ATTRIBUTES = {"a": {"href"}, "ol": {"start"}}
SCHEMES = {"http", "https", "mailto"}


def render(text):
    """HTML of `text`, read as Markdown with tables; no raw HTML, no images, links only to the web or to mail."""
    import nh3

    return nh3.clean(
        _parser().render(text),
        tags=TAGS,
        attributes=ATTRIBUTES,
        set_tag_attribute_values={"a": {"target": "_blank"}},  # a link must not take the notebook's place
        url_schemes=SCHEMES,
        link_rel="noopener noreferrer",
    )


def plain(text):
    """HTML of `text` as it stands, every special character escaped."""
    return html.escape(text)


@functools.cache
def _parser():
    """CommonMark and tables; a single newline breaks the line. An image would fetch its address: it stays text."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"]).disable("image")
