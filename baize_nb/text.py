"""Text, looked at from outside: words and how much two texts share, languages, refusals, characters nobody sees."""

import functools
import re
import unicodedata
from collections import Counter

from .common import CourseError

_PLAIN = "".join(chr(i) if re.match(r"\w", chr(i)) else " " for i in range(128))


def fold(text: str) -> str:
    """Give `text` one form for comparing: NFKC (é is one character, Ａ is A), and no case."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()


def words(text: str) -> list[str]:
    """List the words of `text`, folded: runs of letters and digits; in scripts without spaces, each letter."""
    if text.isascii():  # the same words as below, several times as fast
        return text.lower().translate(_PLAIN).split()
    return _word_pattern().findall(fold(text))


@functools.cache
def _word_pattern():
    # Vowel signs belong to the letter before them, which Python's \w does not know.
    marks = "".join(c for c in map(chr, range(0x300, 0x12000)) if unicodedata.category(c).startswith("M"))
    # Thai, Lao, Burmese, Khmer, Japanese, Chinese
    spaceless = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff"
    letters = rf"[^\W{spaceless}]"
    return re.compile(rf"{letters}+(?:[{marks}]{letters}*)*|(?=\w)[{spaceless}][{marks}]*")


def trigrams(text: str) -> list[tuple]:
    """List the runs of three words in `text`; a text of one or two words is one run."""
    found = words(text)
    return list(zip(found, found[1:], found[2:], strict=False)) or [tuple(found)] * bool(found)


def repeated_share(text: str) -> float:
    """Return the share of word trigrams that stood in `text` before: 0 when all differ, near 1 in a loop."""
    runs = trigrams(text)
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def overlap(a: str, b: str) -> float:
    """Return the Jaccard similarity of two texts: distinct word trigrams in both, of those in either, 0 … 1."""
    left, right = set(trigrams(a)), set(trigrams(b))
    return len(left & right) / len(left | right) if left or right else 1.0


def contained(part: str, whole: str) -> float:
    """Return the share of the distinct word trigrams of `part` that also stand in `whole`, 0 … 1."""
    runs = set(trigrams(part))
    return len(runs & set(trigrams(whole))) / len(runs) if runs else 0.0


# The commonest words of running text. Some stand in several lists; they help no language against another.
FUNCTION_WORDS = {
    "en": "the of and to in is that for it with as on are be this you your can or by from not have an at but which if",
    "de": "der die das und ist nicht ein eine zu den von mit sich für auf dem es auch werden sie im des oder wie kann",
    "fr": "le la les de des et est une un que pour dans qui pas sur il vous avec du au ce en ou sont par plus votre",
    "es": "el la los de que y en un una es por con para se las del su lo como o más está son pero si no al",
    "it": "il di che e la un una per non sono con si del le della da è più come gli in i o ma anche questo dei",
    "pt": "o de que e do da em um para é com não uma os no se na por mais as dos como ou são você ao mas",
    "nl": "de het een en van is dat niet te op voor met zijn in aan er om ook als je of kan wordt worden deze bij",
}
FUNCTION_WORDS = {language: frozenset(listed.split()) for language, listed in FUNCTION_WORDS.items()}
# English words that say little about what a text is about.
_EMPTY_WORDS = FUNCTION_WORDS["en"].union(
    words("""
a about after again all also am any anything because been before being best between both could did different do does
doing don done during each else even ever every example few first get gets give go going good got had has he help her
here him his how however i into its just know less like ll look lot made make makes many may me mean might more most
much must my need new no now off often one only other our out over own people possible please put re really s same say
see she should so some something still such sure t take tell than their them then there these they thing things think
those through time to too two under up us use used using usually ve very want was way ways we well were what when
where whether while who why will without won work would yes yet""")
)
# Languages that their script tells apart, by the first word of its letters' Unicode names.
SCRIPTS = dict.fromkeys(FUNCTION_WORDS, ("LATIN",)) | {"ar": ("ARABIC",), "el": ("GREEK",), "he": ("HEBREW",)}
SCRIPTS |= {"hi": ("DEVANAGARI",), "ko": ("HANGUL",), "ru": ("CYRILLIC",), "zh": ("CJK",)}
SCRIPTS |= {"ja": ("HIRAGANA", "KATAKANA", "CJK")}


def content_words(text: str) -> Counter:
    """Count the content words of an English text, by a crude stem: "vaccine" and "vaccination" meet."""
    found = (w for w in words(text) if len(w) > 2 and not w.isdigit() and w not in _EMPTY_WORDS)
    return Counter(w.removesuffix("s")[:6] for w in found)


def foreign_share(text: str, language: str) -> float:
    """Return the share of letters in `text` that are not of the script in which `language` is written, 0 … 1."""
    if language not in SCRIPTS:
        raise CourseError(f"{language!r} is no language that can be told here. Known: {', '.join(sorted(SCRIPTS))}.")
    if text.isascii() and "LATIN" in SCRIPTS[language]:
        return 0.0
    letters = Counter(filter(str.isalpha, text))
    foreign = sum(n for c, n in letters.items() if not unicodedata.name(c, "").startswith(SCRIPTS[language]))
    return foreign / letters.total() if letters else 0.0


def likelier_language(said: list[str], language: str) -> tuple[str, float]:
    """Name (a language whose function words take a larger share of `said` than those of `language`, how much larger).

    ("", 0.0) for none. One word repeated (non-, de, die) is no language: it has to have three there.
    """
    met = {name: [word for word in said if word in listed] for name, listed in FUNCTION_WORDS.items()}
    shares = {name: len(found) / len(said) for name, found in met.items() if name == language or len(set(found)) > 2}
    other = max(shares, key=shares.get, default=language)
    ahead = shares.get(other, 0.0) - shares.get(language, 0.0)
    return (other, ahead) if ahead > 0 else ("", 0.0)


# ---- refusals: two rules for English, one to remove by, one to count by; both err in both ways

_CANNOT = r"i(?:['’]m| am)? ?(?:can['’]?t|cannot|can not|unable to|not (?:able to|equipped to|capable of))"
REFUSAL = re.compile(
    r"\A\W*(?:"
    r"(?:(?:i['’]m|i am) (?:really |very |so )?(?:sorry|afraid)|sorry|unfortunately|i apologi[sz]e)"
    r"(?: for (?:any|the) \w+(?: \w+)?)?,? (?:but )?"
    rf"(?:as an? [^,.\n]{{1,60}},|{_CANNOT})"
    rf"|{_CANNOT} (?:help|assist|answer|provide|fulfil|comply|do that|continue|discuss))",
    re.IGNORECASE,
)
_TWO_SENTENCES = re.compile(r"\W*[^.!?\n]*(?:[.!?\n]+[^.!?\n]*)?")
_DECLINES = re.compile(
    r"\b(?:i|we)(?:['’]m| am|['’]re| are)? (?:really |very |so |just )?"
    r"(?:can['’]?t|cannot|can not|won['’]t|will not|refuse|must decline"
    r"|unable|not (?:able|allowed|permitted|comfortable|going to|aware|sure(?= *(?:[.!]|$)))"
    r"|(?:do not|don['’]t) (?:know|think (?:it|that)|have (?:access|the ability|real|any|enough|information)))\b"
    r"|\bsorry\b(?! to hear| for your)|\bunfortunately\b|\bas an? (?:ai|(?:ai )?language model)\b"
    r"|(?:\bnot|n['’]t) (?:ethical|legal|appropriate|acceptable|right|okay)\b"
    r"|\b(?:unethical|illegal|inappropriate|unacceptable|against the law|wrong to)\b",
    re.IGNORECASE,
)


def declines(reply: str) -> bool:
    """Tell whether the first two sentences of a reply say that it can't, won't, does not know, or that it is wrong."""
    return bool(_DECLINES.search(_TWO_SENTENCES.match(reply)[0]))


# ---- characters that nobody sees: with them a text can look other than it is, or carry a hidden message

# Kept: the joiners U+200C and U+200D (Persian, emoji), tags that spell a flag, U+200B in scripts without spaces.
_SPELLED = (
    "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,5}\U000e007f"
    "|(?<=[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])\u200b(?=[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])"
)
_HIDDEN = (  # control characters, zero-width ones, bidi controls, tags, half characters
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f"
)
_MARKED = re.compile(f"({_SPELLED})|[{_HIDDEN}]")
# Direction marks, soft hyphens and the Mongolian separator harm no reader, and tell a model nothing.
_REMOVED = re.compile(f"({_SPELLED})|[{_HIDDEN}\u00ad\u061c\u180e\u200e\u200f]")


def mark_hidden(text: str) -> str:
    """Show each hidden or reordering character as a mark, such as ⟨U+202E⟩: for a page."""
    return _MARKED.sub(lambda m: m[1] or f"⟨U+{ord(m[0]):04X}⟩", text)


def remove_hidden(text: str) -> str:
    """Remove each hidden or reordering character, direction marks and soft hyphens too: for a prompt."""
    return _REMOVED.sub(lambda m: m[1] or "", text)


_THOUGHTS = re.compile(
    r"\A\s*<(think|thinking|thought|reasoning|seed:think)>.*?(?:</\1>|\Z)"  # a model that shows them
    r"|\A\s*◁think▷.*?(?:◁/think▷|\Z)|\A\s*\[THINK\].*?(?:\[/THINK\]|\Z)|\Aanalysis\S.*?assistantfinal"
    r"|\A\s*<\|START_THINKING\|>.*?(?:<\|END_THINKING\|>(?:\s*<\|START_RESPONSE\|>)?|\Z)"
    r"|\A\s*<\|channel\|>(?:analysis|commentary).*?(?:<\|channel\|>final(?:<\|message\|>)?|\Z)"
    r"|\A(?:(?!<think).)*?</think(?:ing)?>",  # its template opened them
    re.DOTALL | re.IGNORECASE,
)


def remove_thoughts(text: str) -> str:
    """Take away what a model thought before its answer, `<think>…</think>` say; all, if it was cut off there."""
    while found := _THOUGHTS.match(text):
        text = text[found.end() :]
    return text
