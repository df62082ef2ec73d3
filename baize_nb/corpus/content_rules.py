"""What should not be in what is said: personal data, abuse, another language, another topic. Rules of one dialogue.

Knows: patterns, checksums, word lists. Does not know: whose number it is, who is meant, what is quoted, what is true.
A reason never repeats personal data: reasons are printed, counted and shown.
"""

import functools
import re
from pathlib import Path

from . import language
from .rules import cut

_EMAIL = re.compile(r"\b[\w.+-]{1,64}@(?:[a-z0-9-]{1,63}\.)+[a-z]{2,24}\b", re.IGNORECASE)
# RFC 2606 and 6761 keep these names for examples: nobody lives there.
_NOBODYS_MAIL = re.compile(r"@(?:[\w-]+\.)*(?:example(?:\.(?:com|org|net))?|test|invalid|localhost)$", re.IGNORECASE)
_PHONE = re.compile(
    r"(?<![\w+])\+[1-9](?:[ ()./-]{0,2}\d){7,14}(?!\d)"
    r"|(?<![\w.+/-])\(?[2-9]\d\d\)?[ .-]{1,2}[2-9]\d\d[ .-]\d{4}(?![\w/-])"
)
_FICTION = re.compile(r"55501\d\d$")  # numbers that North America keeps for films and books
_CARD = re.compile(r"(?<![\w.+-])[3-6](?:\d{12,18}|\d{3}(?:[ -]\d{4}){3}|\d{3}[ -]\d{6}[ -]\d{5})(?![\w-])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_KEY = re.compile(
    r"\bsk-[\w-]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bAKIA[A-Z0-9]{16}\b|\bAIza[\w-]{35}|\bxox[abprs]-[\w-]{10,}"
    r"|\bhf_[A-Za-z0-9]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY-----|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}"
)
_KEY_SIGNS = ("sk-", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "AKIA", "AIza", "xox", "hf_", "-----BEGIN", "eyJ")
_DIGITS = re.compile(r"\d[\d ()./-]{6}")
TOXIC_LIST = Path(__file__).with_name("toxic_words.txt")
_SHORT = 8  # words: below, a message is too short to tell its language


def personal_data(dialogue):
    """A message holds an e-mail address, a phone or card number, an IBAN or an access key.

    Cards and IBANs must pass their checksum; addresses at example.com and numbers kept for fiction are nobody's.
    Names and street addresses are not found, nor phone numbers without a +, North America's aside.
    """
    said = [m["content"] for m in dialogue.messages]
    if _personal("\n".join(said)):  # most dialogues have nothing of it: one look at the whole of them
        for i, content in enumerate(said, start=1):
            if what := _personal(content):
                return f"message {i} holds {what}"
    return ""


def _personal(text):
    """The kind of personal data in a text, or ""."""
    if "@" in text and any(not _NOBODYS_MAIL.search(found) for found in _EMAIL.findall(text)):
        return "an e-mail address"
    if any(sign in text for sign in _KEY_SIGNS) and _KEY.search(text):
        return "an access key"
    return _number(text) if _DIGITS.search(text) else ""


def _number(text):
    """Which kind of personal number stands in a text, or ""."""
    if any(_iban(found) for found in _IBAN.findall(text)):
        return "an IBAN"
    if any(_luhn(_digits(found)) for found in _CARD.findall(text)):
        return "a card number"
    if any(not _FICTION.search(_digits(found)) for found in _PHONE.findall(text)):
        return "a phone number"
    return ""


def _digits(text):
    return re.sub(r"\D", "", text)


def _luhn(digits):
    """Whether the last digit is right for a card number (ISO/IEC 7812): every second digit counts double."""
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 * (d > 9) for d in doubled) % 10 == 0


def _iban(found):
    """Whether the check digits are right (ISO 13616): moved to the end, letters as 10 … 35, it is 1 modulo 97.

    A word in capitals may follow and look like a part of it, so every beginning is tried.
    """
    parts = found.split(" ")
    beginnings = ["".join(parts[:n]) for n in range(1, len(parts) + 1)]
    numbers = [int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) for plain in beginnings if len(plain) > 14]
    return any(number % 97 == 1 for number in numbers)


def toxic(dialogue):
    """A word or phrase of a short list of abuse and threats (corpus/toxic_words.txt) is in a message.

    A list knows no context: it objects to a quotation and to advice against abuse, and lets every polite cruelty,
    every other spelling, dialect and language pass.
    """
    listed = _toxic_list()
    for i, message in enumerate(dialogue.messages, start=1):
        said = cut(message["content"])
        if not listed.keys().isdisjoint(said) and _says(said, listed):
            return f"message {i} has a word of the list of abuse"
    return ""


@functools.cache
def _toxic_list():
    """`{word: [words and phrases whose longest word it is]}` of the list."""
    listed = {}
    for line in TOXIC_LIST.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            listed.setdefault(max(cut(line), key=len), []).append(" ".join(cut(line)))
    return listed


def _says(said, listed):
    """Whether a listed word or phrase stands in the words `said`."""
    likely = [entry for word in set(said) & listed.keys() for entry in listed[word]]
    return any(f" {entry} " in f" {' '.join(said)} " for entry in likely)


def wrong_language(dialogue, expected="en", limit=0.1):
    """An answer is written in another language than `expected` ("en", "de", "ru" …; see language.SCRIPTS).

    Over 30 % of its letters are of another script, or the commonest words of another language take a larger share
    of it, by `limit` or more. Answers under 8 words get no verdict; a translation that was asked for is met too, and
    of mixed or mock language whatever the commonest words say.
    """
    for i, content in enumerate(dialogue.said_by("assistant"), start=1):
        foreign = language.foreign_share(content, expected)
        if foreign > 0.3:
            return f"{foreign:.0%} of the letters of answer {i} are of another script"
        if len(cut(content)) >= _SHORT:
            other, ahead = language.likelier(cut(content), expected)
            if ahead >= limit:
                return f"answer {i} looks like {other!r} ({ahead:.0%} more of its commonest words)"
    return ""


def drift(dialogue, limit=0.0):
    """A later question leaves the topic: at most `limit` of its content words stand in the seed, the first question
    or the exchange before it.

    Crude: a new topic in old words is missed, an old topic in new words is met. English.
    """
    start = f"{dialogue.seed}\n{dialogue.messages[0]['content']}"
    for turn in range(1, dialogue.turns):
        question = dialogue.messages[2 * turn]["content"]
        asked = language.content_words(question)
        before = [m["content"] for m in dialogue.messages[2 * turn - 2 : 2 * turn]]
        known = language.content_words("\n".join([start, *before]))
        if len(asked) > 1 and sum(word in known for word in asked) / len(asked) <= limit:
            new = [word for word in dict.fromkeys(cut(question)) if language.content_words(word)]
            return f"question {turn + 1} takes up no word of the talk before it ({', '.join(new[:4])})"
    return ""


CONTENT = (personal_data, toxic)
SUSPICIONS = (wrong_language, drift)
