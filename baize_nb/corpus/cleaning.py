"""What cleaning removes: rules, each a function of one dialogue that returns "" or what it saw, and near copies.

A rule knows what a fault looks like, not whether an answer is true: none here can tell. Limits were chosen by eye on
the embedded teacher's dialogues; phrases are English ones.
"""

import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from .. import common, text
from .dialogue import Dialogue
from .duplicates import near_duplicates

Rule = Callable[[Dialogue], str]


@functools.lru_cache(maxsize=256)  # most rules look at the same message one after the other: cut it up once
def _words(content):
    return tuple(text.words(content))


@functools.lru_cache(maxsize=256)
def _runs(content):
    """(number of word trigrams, the different ones as a frozenset) of a message; see text.trigrams."""
    said = _words(content)
    runs = frozenset(zip(said, said[1:], said[2:], strict=False)) or frozenset([said] * bool(said))
    return max(len(said) - 2, len(runs)), runs


def _numbered(dialogue):
    """(number from 1, content) of each message."""
    return [(i, m["content"]) for i, m in enumerate(dialogue.messages, start=1)]


# ---- rules of form


def no_words(dialogue: Dialogue) -> str:
    """Object to a message that has no letter and no digit in it."""
    return next((f"message {i} has no word in it" for i, m in _numbered(dialogue) if not _words(m)), "")


_MARKER = re.compile(
    r"\[\|?(?:human|ai)\|?\]|<\|im_(?:start|end)\|>|<\|(?:user|assistant|system|endoftext)\|>"
    r"|^\s*(?:human|user|assistant|ai|ai assistant)\s*:|^\s*###\s*(?:instruction|response|human|assistant)\b",
    re.IGNORECASE | re.MULTILINE,
)
# Patterns without regard to case are slow: signs that each of them needs stand in front, here and below.
_MARKER_SIGNS = ("[human", "[|human", "[ai", "[|ai", "<|", "human", "user", "assistant", "ai:", "ai ", "###")


def role_marker(dialogue: Dialogue) -> str:
    """Object to a role marker inside a message: the teacher wrote the next turn too, or it breaks the format."""
    whole = "\n".join([m["content"] for m in dialogue.messages]).lower()
    if any(sign in whole for sign in _MARKER_SIGNS):
        for i, content in _numbered(dialogue):
            if found := _MARKER.search(content):
                return f"message {i} contains {found.group().strip()!r}"
    return ""


def refusal(dialogue: Dialogue) -> str:
    """Object to an answer that declines: on a harmless seed, that teaches to refuse."""
    found = map(text.refuses, dialogue.said_by("assistant"))
    return next((f"an answer says {said!r}" for said in found if said), "")


_AN_AI = re.compile(
    r"\b(?:as|i am|i['’]m)(?: just| only)? an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"(?! (?:developer|engineer|expert|researcher|scientist|specialist|student)\b)",
    re.IGNORECASE,
)
_AN_AI_SIGNS = (" an ai", " artificial int", " language model")


def as_an_ai(dialogue: Dialogue) -> str:
    """Object to an answer that speaks of itself as an AI, which no person asked about."""
    answers = dialogue.said_by("assistant")
    whole = "\n".join(answers).lower()
    if any(sign in whole for sign in _AN_AI_SIGNS):
        found = map(_AN_AI.search, answers)
        return next((f"an answer says {hit.group()!r}" for hit in found if hit), "")
    return ""


_THOUGHTS = re.compile(
    r"</?(?:think|thinking|thoughts?|reasoning|reflection|scratchpad)>|\[/?think\]|◁/?think▷"
    r"|<\|channel\|>\s*analysis|<\|(?:begin|end)_of_thought\|>"
    r"|\A\W*(?:(?:okay|ok|alright|hmm|well)[,.…]* )?(?:so,? )?"
    r"(?:the user (?:is asking|asks|asked|wants|wrote|says|said|just|seems)"
    r"|(?:first, )?(?:i|we) need to (?:figure|think|respond|answer|reply|produce)"
    r"|let me (?:think|figure|work) (?:about|through|this|out|step))",
    re.IGNORECASE,
)


def thoughts(dialogue: Dialogue) -> str:
    """Object to an answer that shows a reasoning model's thoughts: <think> and its kin, "Okay, the user asks …"."""
    found = map(_THOUGHTS.search, dialogue.said_by("assistant"))
    return next((f"an answer thinks aloud: {hit.group().strip()!r}" for hit in found if hit), "")


def loop(dialogue: Dialogue, limit: float = 0.3) -> str:
    """Object to a message that goes round in circles: over `limit` of its word trigrams stood in it before."""
    for i, content in _numbered(dialogue):
        total, runs = _runs(content)
        if total - len(runs) > limit * total:
            return f"{1 - len(runs) / total:.0%} of the trigrams of message {i} repeat"
    return ""


def same_again(dialogue: Dialogue, limit: float = 0.6) -> str:
    """Object to a speaker who says again what they said before: over `limit` of the trigrams in common (Jaccard)."""
    for role in ("user", "assistant"):
        said = [_runs(content)[1] for content in dialogue.said_by(role)]
        for later in range(1, len(said)):
            share = max(len(said[later] & earlier) / max(1, len(said[later] | earlier)) for earlier in said[:later])
            if share > limit:
                return f"{role} message {later + 1} repeats an earlier one ({share:.0%} in common)"
    return ""


_ANSWERING = re.compile(
    r"^(?:sure|certainly|of course|absolutely|here (?:is|are)|here's|you (?:can|could|should|may)"
    r"|I'm (?:glad|happy) to|I am (?:glad|happy) to|that's a great)\b",
    re.IGNORECASE,
)
_LIST_ITEM = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s", re.MULTILINE)


def not_a_question(dialogue: Dialogue, limit: int = 60) -> str:
    """Object to a user turn after the seed that reads like an answer: over `limit` words, a list, "Sure, …"."""
    for i, content in enumerate(dialogue.said_by("user")[1:], start=2):
        if len(_words(content)) > limit:
            return f"user turn {i} is {len(_words(content))} words long"
        if "\n" in content and len(_LIST_ITEM.findall(content)) > 1:
            return f"user turn {i} is a list"
        if found := _ANSWERING.match(content):
            return f"user turn {i} begins like an answer: {found.group()!r}"
    return ""


def echo(dialogue: Dialogue, limit: float = 0.5) -> str:
    """Object to an answer that hands the question back: over `limit` of its trigrams stand in the question."""
    for turn in range(dialogue.turns):
        question, answer = (_runs(dialogue.messages[2 * turn + side]["content"])[1] for side in (0, 1))
        share = len(answer & question) / len(answer) if answer else 0.0
        if share > limit:
            return f"{share:.0%} of answer {turn + 1} stands in its question"
    return ""


_UNFINISHED = re.compile(
    r"(?:[,(\[{–—]|\b(?:a|an|the|of|to|for|with|and|or|but|from|into|than|that|which|your|their|its|is|are))$",
    re.IGNORECASE,
)


def cut_off(dialogue: Dialogue, limit: int = 20) -> str:
    """Object to a message that stops in mid-sentence or inside a code block; a trimmed answer that ends whole is fine.

    In mid-sentence: after a word that wants another one; or, in an answer of over `limit` words whose last line is
    prose, without any mark at its end. The first user turn is the seed, often a title: it is left alone.
    """
    for i, content in _numbered(dialogue)[1:]:
        end = content.rstrip()
        if found := _UNFINISHED.search(end[-8:]):  # the longest word looked for, and what stands before it
            return f"message {i} ends with {found.group()!r}"
        if content.count("```") % 2:
            return f"message {i} ends inside a code block"
        if i % 2 == 0 and end[-1:].isalpha() and len(_words(content)) > limit:
            line = end.splitlines()[-1]
            structured = _LIST_ITEM.match(line) or line.lstrip().startswith(("#", "|"))
            if len(_words(line)) > 7 and not structured:
                return f"message {i} ends without a full stop"
    return ""


# ---- rules of content. A reason never repeats personal data: reasons are printed, counted and shown.

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


def personal_data(dialogue: Dialogue) -> str:
    """Object to an e-mail address, a phone number (with a +, or American), a card number, an IBAN or an access key.

    Cards and IBANs must pass their checksum; addresses at example.com and numbers kept for fiction are nobody's.
    """
    if _personal("\n".join([m["content"] for m in dialogue.messages])):  # most have nothing: one look at the whole
        for i, content in _numbered(dialogue):
            if what := _personal(content):
                return f"message {i} holds {what}"
    return ""


def _personal(content):
    """The kind of personal data in a text, or ""."""
    if "@" in content and any(not _NOBODYS_MAIL.search(found) for found in _EMAIL.findall(content)):
        return "an e-mail address"
    if any(sign in content for sign in _KEY_SIGNS) and _KEY.search(content):
        return "an access key"
    if _DIGITS.search(content):
        if any(map(_iban, _IBAN.findall(content))):
            return "an IBAN"
        if any(map(_luhn, _CARD.findall(content))):
            return "a card number"
        if any(not _FICTION.search(re.sub(r"\D", "", found)) for found in _PHONE.findall(content)):
            return "a phone number"
    return ""


def _luhn(found):
    """Whether the last digit is right for a card number (ISO/IEC 7812): every second digit counts double."""
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(re.sub(r"\D", "", found)[::-1])]
    return sum(d - 9 * (d > 9) for d in doubled) % 10 == 0


def _iban(found):
    """Whether the check digits are right (ISO 13616): moved to the end, letters as 10 … 35, it is 1 modulo 97."""
    parts = found.split(" ")  # a word in capitals may follow and look like a part of it, so every beginning is tried
    beginnings = ["".join(parts[:n]) for n in range(1, len(parts) + 1)]
    return any(int("".join(str(int(c, 36)) for c in p[4:] + p[:4])) % 97 == 1 for p in beginnings if len(p) > 14)


TOXIC_LIST = Path(__file__).with_name("toxic_words.txt")


@functools.cache
def _toxic_list():
    """`{word: [words and phrases whose longest word it is]}` of the list."""
    listed = {}
    for line in TOXIC_LIST.read_text(encoding="utf-8").splitlines():
        for entry in line.split(", ") if not line.startswith("#") else ():
            listed.setdefault(max(entry.split(), key=len), []).append(entry)
    return listed


def toxic(dialogue: Dialogue) -> str:
    """Object to a word or phrase of a short list of abuse and threats (toxic_words.txt).

    A list knows no context: it objects to a quotation, and lets every polite cruelty and every other language pass.
    """
    listed = _toxic_list()
    for i, content in _numbered(dialogue):
        said = _words(content)
        likely = [entry for word in listed.keys() & set(said) for entry in listed[word]]
        if likely and any(f" {entry} " in f" {' '.join(said)} " for entry in likely):
            return f"message {i} has a word of the list of abuse"
    return ""


def wrong_language(dialogue: Dialogue, expected: str = "en", limit: float = 0.1) -> str:
    """Object to an answer in another language than `expected` ("en", "de", "ru" …; see text.SCRIPTS).

    Over 30 % of its letters are of another script, or the commonest words of another language take a larger share
    of it, by `limit` or more. Answers under 8 words get no verdict; a translation that was asked for is met too.
    """
    for i, content in enumerate(dialogue.said_by("assistant"), start=1):
        foreign = text.foreign_share(content, expected)
        if foreign > 0.3:
            return f"{foreign:.0%} of the letters of answer {i} are of another script"
        if len(_words(content)) >= 8:
            other, ahead = text.likelier_language(_words(content), expected)
            if ahead >= limit:
                return f"answer {i} looks like {other!r} ({ahead:.0%} more of its commonest words)"
    return ""


def drift(dialogue: Dialogue, limit: float = 0.0) -> str:
    """Object to a later question that leaves the topic: at most `limit` of its content words stand in the seed, the
    first question or the exchange before it. Crude: an old topic in new words is met. English.
    """
    start = f"{dialogue.seed}\n{dialogue.messages[0]['content']}"
    for turn in range(1, dialogue.turns):
        question = dialogue.messages[2 * turn]["content"]
        asked = text.content_words(question)
        before = [m["content"] for m in dialogue.messages[2 * turn - 2 : 2 * turn]]
        known = text.content_words("\n".join([start, *before]))
        if len(asked) > 1 and sum(word in known for word in asked) / len(asked) <= limit:
            new = [word for word in dict.fromkeys(_words(question)) if text.content_words(word)]
            return f"question {turn + 1} takes up no word of the talk before it ({', '.join(new[:4])})"
    return ""


# ---- rules put to work

FORM = (no_words, role_marker, refusal, as_an_ai, thoughts, loop, same_again, not_a_question, echo, cut_off)
RULES = (*FORM, personal_data, toxic)
# Rules that object too often, or need to know more, to remove by: they say where to look. `clean` asks them on request.
SUSPICIONS = (wrong_language, drift)


class Removed(NamedTuple):
    """A dialogue that `clean` set aside: which rule, and what it saw."""

    dialogue: Dialogue
    rule: str
    why: str


class Cleaned(NamedTuple):
    """What `clean` gives back; together the two are all that went in."""

    kept: list[Dialogue]
    removed: list[Removed]

    def counts(self) -> dict[str, int]:
        """Count the dialogues that each rule removed, the busiest first."""
        return dict(Counter(r.rule for r in self.removed).most_common())


class Cluster(NamedTuple):
    """Dialogues that say the same: the first one, and its copies with their similarity to the first, 0 … 1."""

    first: Dialogue
    copies: list[tuple[Dialogue, float]]


def clean(dialogues: Iterable[Dialogue], rules: Sequence[Rule] = RULES, duplicates: float | None = 0.7) -> Cleaned:
    """Sort dialogues into kept and removed, both in the order they came.

    rules      : functions of a dialogue that return "" when it is fine, else why not. The first to object is named.
                 Another limit: `functools.partial(loop, limit=0.2)`.
    duplicates : trigram Jaccard similarity to an earlier kept one from which on a dialogue is removed as
                 "near_duplicate", or as "exact_duplicate" where its messages are the very same; None looks for neither.
    """
    dialogues = list(dialogues)
    verdicts = [None] * len(dialogues)
    for i, dialogue in enumerate(dialogues):
        for rule in rules:
            if why := rule(dialogue):
                verdicts[i] = Removed(dialogue, rule_name(rule), str(why))
                break
    if duplicates is not None:
        # Sought among the good ones only: a bad first copy must not cost us a good second one.
        good = [i for i, verdict in enumerate(verdicts) if verdict is None]
        pool = [dialogues[i] for i in good]
        for copy, (first, share) in near_duplicates(pool, duplicates).items():
            exact = pool[copy].messages == pool[first].messages
            kind, same = (
                ("exact", "says word for word the same as") if exact else ("near", f"{share:.0%} in common with")
            )
            verdicts[good[copy]] = Removed(pool[copy], f"{kind}_duplicate", f"{same} {pool[first].id}")
    return Cleaned([d for d, v in zip(dialogues, verdicts, strict=True) if v is None], [v for v in verdicts if v])


def rule_name(rule: Rule) -> str:
    """Name a rule as tables and manifests do, under any functools.partial around it."""
    while isinstance(rule, functools.partial):
        rule = rule.func
    return getattr(rule, "__name__", "rule")


def write_removed(removed: Iterable[Removed], path) -> Path:
    """Write what `clean` set aside, one dialogue a line with "removed_by" and "why"; `read` reads it back."""
    lines = (r.dialogue.to_record() | {"removed_by": r.rule, "why": r.why} for r in removed)
    return common.write_pieces(path, (json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def findings(dialogues: Iterable[Dialogue], rules: Sequence[Rule] = RULES + SUSPICIONS) -> dict[str, dict[str, str]]:
    """Ask every rule about every dialogue: `{rule name: {dialogue id: what it saw}}`."""
    found = {rule_name(rule): {} for rule in rules}
    for dialogue in dialogues:
        for rule in rules:
            if why := rule(dialogue):
                found[rule_name(rule)][dialogue.id] = str(why)
    return found


def clusters(dialogues: Iterable[Dialogue], threshold: float = 0.7) -> list[Cluster]:
    """Group dialogues of this trigram Jaccard similarity to the first of the group, the largest group first."""
    dialogues, groups = list(dialogues), {}
    for i, (first, share) in near_duplicates(dialogues, threshold).items():
        groups.setdefault(first, []).append((dialogues[i], share))
    found = [Cluster(dialogues[first], copies) for first, copies in groups.items()]
    return sorted(found, key=lambda cluster: -len(cluster.copies))
