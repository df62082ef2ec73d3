"""What cleaning removes: rules, each a function of one dialogue that returns "" or what it saw, and near copies.

No rule knows what is true. Limits were chosen by eye on the embedded teacher's dialogues; phrases are English ones.
"""

import functools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rensa import RMinHash

from .. import common, text
from .dialogues import Dialogue

Rule = Callable[[Dialogue], str]
words = functools.lru_cache(maxsize=256)(text.words)  # most rules look at the same message one after the other


def _contains(dialogue, pattern, role=None):
    """What stands where in the first message, of this role, that a pattern meets; "" for none."""
    for i, message in enumerate(dialogue.messages, start=1):
        found = pattern.search(message["content"])
        if found and role in (None, message["role"]):
            return f"message {i} contains {found[0].strip()!r}"
    return ""


# ---- rules of form


def no_words(dialogue: Dialogue) -> str:
    """Object to a message that has no letter and no digit in it."""
    for i, message in enumerate(dialogue.messages, start=1):
        if not words(message["content"]):
            return f"message {i} has no word in it"
    return ""


MARKER = re.compile(
    r"\[\|?(?:human|ai)\|?\]|<\|im_(?:start|end)\|>|<\|(?:user|assistant|system|endoftext)\|>"
    r"|^\s*(?:human|user|assistant|ai|ai assistant)\s*:|^\s*###\s*(?:instruction|response|human|assistant)\b"
    r"|\byou are an? (?:helpful|friendly|useful|honest|polite|ai|virtual)(?:,? (?:and )?\w+)? assistant\b",
    re.IGNORECASE | re.MULTILINE,
)


def role_marker(dialogue: Dialogue) -> str:
    """Object to a role marker or a system prompt inside a message: the teacher wrote what is not its part."""
    return _contains(dialogue, MARKER)


def refusal(dialogue: Dialogue) -> str:
    """Object to an answer that declines: on a harmless seed, that teaches to refuse."""
    return _contains(dialogue, text.REFUSAL, "assistant")


AN_AI = re.compile(
    r"\b(?:as|i am|i['’]m)(?: just| only)? an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"(?! (?:developer|engineer|expert|researcher|scientist|specialist|student)\b)",
    re.IGNORECASE,
)


def as_an_ai(dialogue: Dialogue) -> str:
    """Object to an answer that speaks of itself as an AI, which no person asked about."""
    return _contains(dialogue, AN_AI, "assistant")


THOUGHTS = re.compile(
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
    return _contains(dialogue, THOUGHTS, "assistant")


def loop(dialogue: Dialogue, limit: float = 0.3) -> str:
    """Object to a message that goes round in circles: over `limit` of its word trigrams stood in it before."""
    for i, message in enumerate(dialogue.messages, start=1):
        share = text.repeated_share(message["content"])
        if share > limit:
            return f"{share:.0%} of the trigrams of message {i} repeat"
    return ""


def same_again(dialogue: Dialogue, limit: float = 0.6) -> str:
    """Object to a speaker who says again what they said before: over `limit` of the trigrams in common (Jaccard)."""
    for role in ("user", "assistant"):
        said = dialogue.said_by(role)
        for later in range(1, len(said)):
            share = max(text.overlap(said[later], earlier) for earlier in said[:later])
            if share > limit:
                return f"{role} message {later + 1} repeats an earlier one ({share:.0%} in common)"
    return ""


ANSWERING = re.compile(
    r"^(?:sure|certainly|of course|absolutely|here (?:is|are)|here's|you (?:can|could|should|may)"
    r"|I'm (?:glad|happy) to|I am (?:glad|happy) to|that's a great)\b",
    re.IGNORECASE,
)
LIST_ITEM = re.compile(r"^\s*(?:\d+[.)]|[-*•])\s", re.MULTILINE)


def not_a_question(dialogue: Dialogue, limit: int = 60) -> str:
    """Object to a user turn after the seed that reads like an answer: over `limit` words, a list, "Sure, …"."""
    for i, content in enumerate(dialogue.said_by("user")[1:], start=2):
        if len(words(content)) > limit:
            return f"user turn {i} is {len(words(content))} words long"
        if len(LIST_ITEM.findall(content)) > 1:
            return f"user turn {i} is a list"
        if found := ANSWERING.match(content):
            return f"user turn {i} begins like an answer: {found.group()!r}"
    return ""


def echo(dialogue: Dialogue, limit: float = 0.5) -> str:
    """Object to an answer that hands the question back: over `limit` of its trigrams stand in the question."""
    questions, answers = (dialogue.said_by(role) for role in ("user", "assistant"))
    for i, (question, answer) in enumerate(zip(questions, answers, strict=True), start=1):
        share = text.contained(answer, question)
        if share > limit:
            return f"{share:.0%} of answer {i} stands in its question"
    return ""


UNFINISHED = re.compile(
    r"(?:[,(\[{–—]|\b(?:a|an|the|of|to|for|with|and|or|but|from|into|than|that|which|your|their|its|is|are))$",
    re.IGNORECASE,
)


def cut_off(dialogue: Dialogue, limit: int = 20) -> str:
    """Object to a message, but for the seed, that stops in mid-sentence or inside a code block.

    In mid-sentence: after a word that wants another one; or, in an answer of over `limit` words whose last line is
    prose, without any mark at its end.
    """
    for i, message in enumerate(dialogue.messages[1:], start=2):
        content, end = message["content"], message["content"].rstrip()
        if found := UNFINISHED.search(end[-8:]):  # the longest word looked for, and what stands before it
            return f"message {i} ends with {found.group()!r}"
        if content.count("```") % 2:
            return f"message {i} ends inside a code block"
        if message["role"] == "assistant" and end[-1:].isalpha() and len(words(content)) > limit:
            line = end.splitlines()[-1]
            structured = LIST_ITEM.match(line) or line.lstrip().startswith(("#", "|"))
            if len(words(line)) > 7 and not structured:
                return f"message {i} ends without a full stop"
    return ""


# ---- rules of content. A reason never repeats personal data: reasons are printed, counted and shown.


def _luhn(found):
    """Whether the last digit is right for a card number (ISO/IEC 7812): every second digit counts double."""
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(re.sub(r"\D", "", found)[::-1])]
    return sum(d - 9 * (d > 9) for d in doubled) % 10 == 0


def _iban(found):
    """Whether the check digits are right (ISO 13616): moved to the end, letters as 10 … 35, it is 1 modulo 97."""
    parts = found.split(" ")  # a word in capitals may follow and look like a part of it, so every beginning is tried
    for n in range(1, len(parts) + 1):
        number = "".join(parts[:n])
        moved = number[4:] + number[:4]
        if len(number) > 14 and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1:
            return True
    return False


PERSONAL = {
    "an e-mail address": r"(?i)\b[\w.+-]{1,64}@(?:[a-z0-9-]{1,63}\.)+[a-z]{2,24}\b",
    "an access key": r"\bsk-[\w-]{20,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bAKIA[A-Z0-9]{16}\b|\bAIza[\w-]{35}"
    r"|\bxox[abprs]-[\w-]{10,}|\bhf_[A-Za-z0-9]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}",
    "an IBAN": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b",
    "a card number": r"(?<![\w.+-])[3-6](?:\d{12,18}|\d{3}(?:[ -]\d{4}){3}|\d{3}[ -]\d{6}[ -]\d{5})(?![\w-])",
    "a phone number": r"(?<![\w+])\+[1-9](?:[ ()./-]{0,2}\d){7,14}(?!\d)"
    r"|(?<![\w.+/-])\(?[2-9]\d\d\)?[ .-]{1,2}[2-9]\d\d[ .-]\d{4}(?![\w/-])",
}
# RFC 2606 and 6761 keep these names for examples, North America the numbers 555-01.. for films and books.
NOBODYS_MAIL = r"(?i)@(?:[\w-]+\.)*(?:example(?:\.(?:com|org|net))?|test|invalid|localhost)$"
CHECKS = {
    "an e-mail address": lambda found: not re.search(NOBODYS_MAIL, found),
    "an IBAN": _iban,
    "a card number": _luhn,
    "a phone number": lambda found: not re.search(r"55501\d\d$", re.sub(r"\D", "", found)),
}


def personal_data(dialogue: Dialogue) -> str:
    """Object to an e-mail address, a phone number (with a +, or American), a card number, an IBAN or an access key."""
    for i, message in enumerate(dialogue.messages, start=1):
        for kind, pattern in PERSONAL.items():
            if any(map(CHECKS.get(kind, bool), re.findall(pattern, message["content"]))):
                return f"message {i} holds {kind}"
    return ""


_lines = Path(__file__).with_name("toxic_words.txt").read_text(encoding="utf-8").splitlines()
ABUSE = [entry for line in _lines if not line.startswith("#") for entry in line.split(", ")]
TOXIC = re.compile(rf"\b(?:{'|'.join(ABUSE)})\b")


def toxic(dialogue: Dialogue) -> str:
    """Object to a word or phrase of a short list of abuse and threats (toxic_words.txt). A list knows no context."""
    for i, message in enumerate(dialogue.messages, start=1):
        if TOXIC.search(" ".join(words(message["content"]))):
            return f"message {i} has a word of the list of abuse"
    return ""


def wrong_language(dialogue: Dialogue, expected: str = "en", limit: float = 0.1) -> str:
    """Object to an answer in another language than `expected` ("en", "de", "ru" …; see text.SCRIPTS).

    Over 30 % of its letters are of another script, or the commonest words of another language take a larger share
    of it, by `limit` or more. Answers under 8 words get no verdict; a translation that was asked for is met too.
    """
    for i, answer in enumerate(dialogue.said_by("assistant"), start=1):
        foreign = text.foreign_share(answer, expected)
        if foreign > 0.3:
            return f"{foreign:.0%} of the letters of answer {i} are of another script"
        if len(words(answer)) >= 8:
            other, ahead = text.likelier_language(words(answer), expected)
            if ahead >= limit:
                return f"answer {i} looks like {other!r} ({ahead:.0%} more of its commonest words)"
    return ""


def drift(dialogue: Dialogue, limit: float = 0.0) -> str:
    """Object to a later question of which at most `limit` of the content words stand in the talk before it.

    Crude: an old topic in new words is met. English.
    """
    said = [message["content"] for message in dialogue.messages]
    for i in range(2, len(said), 2):
        asked = text.content_words(said[i])
        known = text.content_words("\n".join([dialogue.seed, said[0], *said[i - 2 : i]]))
        if len(asked) > 1 and sum(word in known for word in asked) / len(asked) <= limit:
            new = [word for word in dict.fromkeys(words(said[i])) if text.content_words(word)]
            return f"question {i // 2 + 1} takes up no word of the talk before it ({', '.join(new[:4])})"
    return ""


RULES = (no_words, role_marker, refusal, as_an_ai, thoughts, loop, same_again, not_a_question, echo, cut_off)
RULES += (personal_data, toxic)
# Rules that object too often, or need to know more, to remove by: they say where to look. `clean` asks them on request.
SUSPICIONS = (wrong_language, drift)


# ---- near copies: found without comparing every pair, judged by comparing the pair

# MinHash (rensa) makes a sketch of each text: 128 numbers, in 32 bands of 4. Texts with a band in common are
# candidates; the exact Jaccard similarity of their word trigrams decides. A pair at 0.7 shares no band once in 5,000
# times, one at 0.8 once in 10 million, one at 0.5 once in 8: those are missed.
PERMUTATIONS, BANDS = 128, 32


def whole_text(dialogue: Dialogue) -> str:
    """Return all messages of a dialogue as one text."""
    return "\n".join([message["content"] for message in dialogue.messages])


def trigrams(said: str) -> set[str]:
    """Return the different word trigrams of a text; where it has no word, of emoji say, its pieces."""
    return {" ".join(run) for run in text.trigrams(said)} or set(said.split())


def sketch(items: Iterable, said: Callable = whole_text) -> np.ndarray:
    """Make sketches, of shape (items, 32): a 64-bit number for each band. said : function from an item to its text."""
    found, items = [np.empty((0, BANDS), np.uint64)], iter(items)
    while batch := [trigrams(said(item)) for item in islice(items, 2000)]:
        rows = RMinHash.digest_matrix_from_token_sets(batch, PERMUTATIONS, 0).to_rows()
        parts = np.array(rows, np.uint64).reshape(len(batch), BANDS, -1)  # (batch, bands, 4)
        numbers = np.tile(np.arange(BANDS, dtype=np.uint64), (len(batch), 1))  # the same four mean another number
        for column in range(parts.shape[2]):
            numbers = (numbers + parts[:, :, column]) * np.uint64(0x9E3779B97F4A7C15)
        found.append(numbers)
    return np.concatenate(found)


def similar(items: Iterable, said: Callable, threshold: float, stays: Callable, sketches=None) -> Iterator:
    """Yield (index, {index of an earlier item: similarity}) of each item that is as similar to one, or more so.

    items : a list, or a `stream`, which is read twice: memory grows by 256 bytes an item and the candidates.
    stays : function of such a pair, which may be empty: whether later items are compared with this one.
    """
    if iter(items) is items:
        items = list(items)
    bands = sketch(items, said) if sketches is None else sketches
    values, counts = np.unique(bands, return_counts=True)
    shared = np.isin(bands, values[counts > 1])
    table, runs = defaultdict(list), {}  # {band: indexes that stay}, {index: its trigrams}
    for i, item in enumerate(items):
        mine = bands[i][shared[i]].tolist()
        if not mine:
            continue
        own, found = trigrams(said(item)), {}
        for j in {j for band in mine for j in table[band]}:
            either = len(own | runs[j])
            share = len(own & runs[j]) / either if either else 1.0
            if share >= threshold:
                found[j] = share
        if stays(i, found):
            runs[i] = own
            for band in mine:
                table[band].append(i)
        if found:
            yield i, found


def near_duplicates(dialogues: Iterable[Dialogue], threshold: float = 0.7, sketches=None) -> dict:
    """Find dialogues that say what an earlier one says: `{index: (index of the earlier one, similarity)}`.

    A duplicate is compared with those before it that are none themselves, so that each cluster keeps its first.
    """
    found = {}
    for i, earlier in similar(dialogues, whole_text, threshold, lambda i, found: not found, sketches):
        first = max(earlier, key=lambda j: (earlier[j], -j))
        found[i] = (first, earlier[first])
    return found


def connected(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return {index: the smallest index that pairs lead to} for every index in a pair."""
    root = {}

    def find(i):
        while root.setdefault(i, i) != i:
            root[i] = i = root[root[i]]  # shorter for the next time
        return i

    for one, other in pairs:
        low, high = sorted((find(one), find(other)))
        root[high] = low
    return {i: find(i) for i in list(root)}


class Removed(NamedTuple):
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


def clean(dialogues: Iterable[Dialogue], rules: Sequence[Rule] = RULES, duplicates: float | None = 0.7) -> Cleaned:
    """Sort dialogues into kept and removed, both in the order they came.

    rules      : functions of a dialogue that return "" when it is fine, else why not. The first to object is named.
                 Another limit: `functools.partial(loop, limit=0.2)`.
    duplicates : trigram Jaccard similarity to an earlier kept one from which on a dialogue is removed as
                 "near_duplicate", or as "exact_duplicate" where its messages are the very same; None looks for neither.
    """
    dialogues = list(dialogues)
    removed = {}
    for i, dialogue in enumerate(dialogues):
        for rule in rules:
            if why := rule(dialogue):
                removed[i] = Removed(dialogue, rule_name(rule), str(why))
                break
    if duplicates is not None:
        # Sought among the good ones only: a bad first copy must not cost us a good second one.
        good = [i for i in range(len(dialogues)) if i not in removed]
        pool = [dialogues[i] for i in good]
        for copy, (first, share) in near_duplicates(pool, duplicates).items():
            rule, why = "near_duplicate", f"{share:.0%} in common with {pool[first].id}"
            if pool[copy].messages == pool[first].messages:
                rule, why = "exact_duplicate", f"says word for word the same as {pool[first].id}"
            removed[good[copy]] = Removed(pool[copy], rule, why)
    kept = [d for i, d in enumerate(dialogues) if i not in removed]
    return Cleaned(kept, [removed[i] for i in sorted(removed)])


def rule_name(rule: Rule) -> str:
    """Name a rule as tables and manifests do, under any functools.partial around it."""
    while isinstance(rule, functools.partial):
        rule = rule.func
    return getattr(rule, "__name__", "rule")


def write_removed(removed: Iterable[Removed], path) -> Path:
    """Write what `clean` set aside, one dialogue a line with "removed_by" and "why"; `read` reads it back."""
    lines = [r.dialogue.to_record() | {"removed_by": r.rule, "why": r.why} for r in removed]
    return common.write_text(path, [json.dumps(line, ensure_ascii=False) + "\n" for line in lines])


def findings(dialogues: Iterable[Dialogue], rules: Sequence[Rule] = RULES + SUSPICIONS) -> dict[str, dict[str, str]]:
    """Ask every rule about every dialogue: `{rule name: {dialogue id: what it saw}}`."""
    found = {rule_name(rule): {} for rule in rules}
    for dialogue in dialogues:
        for rule in rules:
            if why := rule(dialogue):
                found[rule_name(rule)][dialogue.id] = str(why)
    return found


def clusters(dialogues: Iterable[Dialogue], threshold: float = 0.7) -> list[tuple[Dialogue, list]]:
    """Group dialogues that say the same: [(the first, [(a copy, its similarity to the first, 0 … 1)])]."""
    dialogues, groups = list(dialogues), defaultdict(list)
    for i, (first, share) in near_duplicates(dialogues, threshold).items():
        groups[first].append((dialogues[i], share))
    return [(dialogues[first], copies) for first, copies in groups.items()]
