"""The corpus card: one page that travels with a corpus and says what it is, what is wrong with it and what for.

Knows: the manifest, the counts, the rules. Does not know: whether a statement in the corpus is true, or what a
teacher's terms of use allow; the card says so. Built in notebook 03.
"""

import hashlib
import html
import json
import re
from collections import Counter
from pathlib import Path

from .. import common
from ..common import CourseError
from .cleaning import RULES, SUSPICIONS, clusters, rule_table
from .counting import ends, message_words, stats

USES = (
    "Learning how chat corpora are made, inspected and cleaned.",
    "Fine-tuning experiments whose results stay experiments.",
)
NOT_FOR = (
    "Advice to anybody, above all in medicine, law or money.",
    "A source of facts, or a test of what a model knows.",
)


def card(dialogues, path, rules=RULES + SUSPICIONS, uses=USES, not_for=NOT_FOR, notes=()):
    """Write the card of the corpus at `path` beside it; return the card's path: `train.card.md` for train.jsonl.

    dialogues : what stands in the corpus. How it was made comes from its manifest, where it has one.
    rules     : see `rule_table`. uses, not_for : sentences on what it may and may not serve for.
    notes     : more sentences for "What is wrong with it", for instance what was found by reading.

    The figures lie in `train.card/`, under names that change with their content: an old card keeps its own until the
    new one stands whole. Raises CourseError where there is no corpus to describe or the disk does not let us.
    """
    path = Path(path)
    if not dialogues or not path.is_file():
        raise CourseError(f"There are no dialogues in {common.show(path)} to describe. Write the corpus first.")
    table = rule_table(dialogues, rules)
    folder = path.with_suffix(".card")
    sections = (
        _head(dialogues, path),
        _made(dialogues, read_manifest(path)),
        _size(dialogues, folder),
        _wrong(dialogues, table, notes, folder),
        _purpose(dialogues, uses, not_for),
    )
    text = "\n\n".join(sections) + "\n"
    common.write_text(path.with_suffix(".card.md"), text)
    for old in folder.glob("*.png"):
        if old.name not in text:
            old.unlink()
    return path.with_suffix(".card.md")


def read_manifest(path):
    """The manifest beside an artifact as a dict; an empty one where there is none that can be read."""
    try:
        found = json.loads(common.manifest_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _head(dialogues, path):
    """Title, the warning, and which file is meant."""
    models = _listed(d.model for d in dialogues) or "a model whose name was not kept"
    return (
        f"# Corpus card: {_plain(path.name)}\n\n"
        f"> **A language model wrote these dialogues, both sides of them** ({models}). Nobody checked what they say; "
        "much of it may be wrong, however fluent it sounds.\n\n"
        f"{len(dialogues):,} dialogues · {sum(d.turns for d in dialogues):,} turns · "
        f"{_all_words(dialogues):,} words · {path.stat().st_size:,} bytes · SHA-256 `{common.sha256(path)}`"
    )


def _made(dialogues, manifest):
    """How, from what, when."""
    settings = manifest.get("settings") if isinstance(manifest.get("settings"), dict) else {}
    facts = {
        "strategy": _listed(d.strategy for d in dialogues),
        **{name: settings.get(name) for name in ("sampling", "max_turns", "answer_tokens", "persona")},
        **{name: manifest.get(name) for name in ("made_by", "made_at", "profile", "rules")},
        "made from": [s.get("path") for s in manifest.get("sources", []) if isinstance(s, dict)],
    }
    lines = [f"- {name.replace('_', ' ')}: {_plain(_short(value))}" for name, value in facts.items() if value]
    if not manifest:
        lines.append("- There is no manifest beside it: how it was made is not known.")
    return "## Made how, from what\n\n" + "\n".join(lines)


def _size(dialogues, folder):
    """The table of `stats`, with the seeds' licences, and a figure."""
    from ..plots import corpus as figures

    table = stats(dialogues)
    licences = {source: _listed(d.license for d in dialogues if d.source == source) for source in table.index}
    columns = {"dialogues": ",.0f", "turns": ".1f", "user words": ".1f", "assistant words": ".1f"}
    rows = [
        [_plain(source), *(f"{table.loc[source, c]:{form}}" for c, form in columns.items()), licences.get(source, "")]
        for source in table.index
    ]
    user, assistant = (message_words(dialogues, role) for role in ("user", "assistant"))
    alt = "Two histograms: words per user message, words per assistant message."
    figure = _picture(figures.words_by_role(user, assistant), folder, "words", alt)
    over = ", ".join(f"{_plain(end)} {n:,}" for end, n in ends(dialogues).items())
    head = ["source", *columns, "licence of the seeds"]
    return f"## How big\n\nWords and turns are means.\n\n{_table(head, rows)}\n\nHow dialogues end: {over}.\n\n{figure}"


def _wrong(dialogues, table, notes, folder):
    """What the rules find, copies, the notes; and what no rule can find."""
    from ..plots import corpus as figures

    rows = [
        [rule, f"{r.hits:,}", f"{r.share:.1%}", _plain(_short(r.example))] for rule, r in table.iterrows() if r.hits
    ]
    silent = ", ".join(table.index[table.hits == 0]) or "none"
    copies = clusters(dialogues)
    parts = [
        "## What is wrong with it",
        _table(["rule", "dialogues", "share", "for example"], rows) if rows else "",
        f"Rules that found nothing: {silent}. A rule knows patterns only; none of them knows what is true.",
        f"Near duplicates: {sum(len(c.copies) for c in copies):,} dialogues in {len(copies):,} clusters.",
        "\n".join(f"- {_plain(note)}" for note in notes),
    ]
    if rows:
        found = table[table.hits > 0]
        drawn = figures.hits(found.only.to_dict(), (found.hits - found.only).to_dict())
        parts.append(_picture(drawn, folder, "rules", "Bars: the dialogues of the table above, rule by rule."))
    return "\n\n".join(part for part in parts if part)


def _purpose(dialogues, uses, not_for):
    """What it may serve for, what not, and whose terms apply."""
    licences = _listed(d.license for d in dialogues) or "not said"
    return (
        "## What it may be used for\n\n" + "\n".join(f"- {_plain(use)}" for use in uses) + "\n\nNot for:\n\n"
        "" + "\n".join(f"- {_plain(use)}" for use in not_for) + "\n\n"
        f"Licences of the seeds: {licences}. The terms of the model that wrote it apply as well: look them up before "
        "you pass it on, or train a model on it that others use."
    )


def _picture(fig, folder, name, alt):
    """Save a figure as `folder`/name-<hash>.png; return the Markdown that shows it on the card beside the folder."""
    from ..plots import png

    data = png(fig)
    file = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:8]}.png"
    with common.atomic_write(file) as temporary:
        temporary.write_bytes(data)
    return f"![{alt}]({folder.name.replace(' ', '%20')}/{file.name})"


def _table(head, rows):
    """A Markdown table of texts that are escaped already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _listed(values):
    """The different values that are not empty, the commonest first, escaped, as "a, b"."""
    return ", ".join(_plain(value) for value, _ in Counter(v for v in values if v).most_common())


def _plain(text):
    """Text that Markdown shows as it stands: a corpus may hold anything, HTML and links included."""
    flat = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", flat)


def _short(value, limit=160):
    """A fact in one line of at most `limit` characters."""
    if isinstance(value, dict):
        value = ", ".join(f"{k} {v}" for k, v in value.items())
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _all_words(dialogues):
    return sum(sum(message_words(dialogues, role)) for role in ("user", "assistant"))
