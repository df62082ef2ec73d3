"""Function words: which language a text is in, and which of its words carry what it says.

Knows: the commonest words of seven languages, the scripts of some more. Does not know: grammar, or what a word means.
Short texts, code, names and lists have few function words: no verdict can be had of them.
"""

import unicodedata
from collections import Counter

from ..common import CourseError
from .text import words

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

_SPOKEN_IN = {}
for _language, _listed in FUNCTION_WORDS.items():
    for _word in _listed:
        _SPOKEN_IN.setdefault(_word, []).append(_language)

# Languages that their script tells apart, by the first word of its letters' Unicode names.
SCRIPTS = {
    **dict.fromkeys(FUNCTION_WORDS, ("LATIN",)),
    "ar": ("ARABIC",),
    "el": ("GREEK",),
    "he": ("HEBREW",),
    "hi": ("DEVANAGARI",),
    "ja": ("HIRAGANA", "KATAKANA", "CJK"),
    "ko": ("HANGUL",),
    "ru": ("CYRILLIC",),
    "zh": ("CJK",),
}

# English words that say little about what a text is about. With FUNCTION_WORDS["en"] they are all that is passed over.
_LITTLE = frozenset(
    words(
        """
        a about after again all also am any anything because been before being best between both could did different
        do does doing don done during each else even ever every example few first get gets give go going good got
        had has he help her here him his how however i into its just know less like ll look lot made make makes many
        may me mean might more most much must my need new no now off often one only other our out over own people
        possible please put re really s same say see she should so some something still such sure t take tell than
        their them then there these they thing things think those through time to too two under up us use used using
        usually ve very want was way ways we well were what when where whether while who why will without won work
        would yes yet
        """
    )
)
_STEM = 6  # letters kept of a word: vaccine, vaccines and vaccination are one


def content_words(text):
    """How often each content word stands in `text`, as a Counter: function words aside, without a last s, cut to six
    letters. English.

    A crude stem: "vaccine" and "vaccination" meet, and so do "universe" and "university". Numbers are not words here.
    """
    found = (w for w in words(text) if len(w) > 2 and not w.isdigit())
    kept = (w for w in found if w not in FUNCTION_WORDS["en"] and w not in _LITTLE)
    return Counter(w.removesuffix("s")[:_STEM] for w in kept)


def foreign_share(text, language):
    """Share of letters in `text` that are not of the script in which `language` is written, 0 … 1."""
    scripts = _scripts(language)
    if text.isascii():
        return 0.0 if "LATIN" in scripts or not any(map(str.isalpha, text)) else 1.0
    letters = [c for c in text if c.isalpha()]
    foreign = sum(n for c, n in Counter(letters).items() if not unicodedata.name(c, "").startswith(scripts))
    return foreign / len(letters) if letters else 0.0


def likelier(said, language):
    """(another language, by how much it is ahead): the one whose function words take the largest share of the words
    `said`, and how much larger it is than the share of `language`, 0 … 1. ("", 0.0) where none is ahead.

    A language takes part with three different words at least: one word repeated (non-, de, die) is no language.
    """
    _scripts(language)
    met = {}
    for word in said:
        for spoken in _SPOKEN_IN.get(word, ()):
            met.setdefault(spoken, []).append(word)
    shares = {k: len(found) / len(said) for k, found in met.items() if k == language or len(set(found)) > 2}
    other = max(shares, key=shares.get, default=language)
    ahead = shares.get(other, 0.0) - shares.get(language, 0.0)
    return (other, ahead) if ahead > 0 else ("", 0.0)


def _scripts(language):
    """The scripts of a language by its two letters. Raises CourseError for one that is not listed."""
    if language not in SCRIPTS:
        raise CourseError(f"{language!r} is no language that can be told here. Known: {', '.join(sorted(SCRIPTS))}.")
    return SCRIPTS[language]
