"""Rules put to work: what each finds in a corpus, what cleaning removes and why, which dialogues are copies.

Knows: how rules are asked and counted. Does not know: what they look for; see rules.py and content_rules.py.
"""

import functools
import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from .. import common
from . import content_rules
from . import rules as form_rules
from .duplicates import near_duplicates
from .store import Dialogue

RULES = (*form_rules.FORM, *content_rules.CONTENT)
# Rules that object too often, or need to know more, to remove by: they say where to look. `clean` asks them on request.
SUSPICIONS = content_rules.SUSPICIONS


class Removed(NamedTuple):
    """A dialogue that `clean` set aside: which rule, and what it saw."""

    dialogue: Dialogue
    rule: str
    why: str


class Cleaned(NamedTuple):
    """What `clean` gives back: kept, [Dialogue]; removed, [Removed]. Together they are all that went in."""

    kept: list
    removed: list

    def counts(self):
        """`{rule: dialogues removed}`, the busiest rule first."""
        return dict(Counter(r.rule for r in self.removed).most_common())


class Cluster(NamedTuple):
    """Dialogues that say the same: the first one, and its copies as [(Dialogue, similarity to the first, 0 … 1)]."""

    first: Dialogue
    copies: list


def clean(dialogues, rules=RULES, duplicates=0.7):
    """Sort dialogues into kept and removed, both in the order they came. Built in notebook 03.

    rules      : functions of a dialogue that return "" when it is fine, else why not. The first to object is named.
                 Another limit: `functools.partial(loop, limit=0.2)`.
    duplicates : dialogues with at least this trigram Jaccard similarity to an earlier kept one are removed as
                 "near_duplicate", those with the very same messages as "exact_duplicate"; None looks for neither.
                 Below 0.6 some pairs are missed: see `near_duplicates`.
    """
    dialogues = list(dialogues)
    verdicts = [_judge(dialogue, rules) for dialogue in dialogues]
    # Duplicates are sought among the good ones only: a bad first copy must not cost us a good second one.
    good = [i for i, verdict in enumerate(verdicts) if verdict is None]
    if duplicates is not None:
        for i, copy in _copies([dialogues[i] for i in good], duplicates).items():
            verdicts[good[i]] = copy
    return Cleaned([d for d, v in zip(dialogues, verdicts, strict=True) if v is None], [v for v in verdicts if v])


def findings(dialogues, rules=RULES + SUSPICIONS):
    """`{rule name: {dialogue id: what it saw}}`, every rule asked about every dialogue. Built in notebook 03."""
    found = {rule_name(rule): {} for rule in rules}
    for dialogue in dialogues:
        for rule in rules:
            if why := rule(dialogue):
                found[rule_name(rule)][dialogue.id] = str(why)
    return found


def rule_table(dialogues, rules=RULES + SUSPICIONS):
    """What each rule finds, as a DataFrame with one row per rule. Built in notebook 03.

    hits    : dialogues that the rule objects to. share : of all dialogues, 0 … 1.
    only    : those that no other rule here objects to: what the corpus would keep without this rule.
    example : the first dialogue it objects to, and why.
    """
    import pandas as pd

    dialogues = list(dialogues)
    found = findings(dialogues, rules)
    per_dialogue = Counter(name for hits in found.values() for name in hits)
    rows = {
        rule: {
            "hits": len(hits),
            "only": sum(per_dialogue[name] == 1 for name in hits),
            "share": len(hits) / max(1, len(dialogues)),
            "example": next((f"{name}: {why}" for name, why in hits.items()), ""),
        }
        for rule, hits in found.items()
    }
    columns = ["hits", "only", "share", "example"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("rule")


def clusters(dialogues, threshold=0.7):
    """Groups of dialogues that say the same, as [Cluster], the largest first. Built in notebook 03.

    threshold : trigram Jaccard similarity to the first of the group; see `near_duplicates`.
    """
    dialogues, groups = list(dialogues), {}
    for i, (first, share) in near_duplicates(dialogues, threshold).items():
        groups.setdefault(first, []).append((dialogues[i], share))
    found = [Cluster(dialogues[first], copies) for first, copies in groups.items()]
    return sorted(found, key=lambda cluster: -len(cluster.copies))


def rule_name(rule):
    """A rule's name; that of the function inside where only a limit was changed (functools.partial)."""
    while isinstance(rule, functools.partial):
        rule = rule.func
    return getattr(rule, "__name__", "rule")


def write_removed(removed, path):
    """Write what `clean` set aside, one dialogue a line with "removed_by" and "why"; `read` reads it back."""
    lines = [json.loads(r.dialogue.to_json()) | {"removed_by": r.rule, "why": r.why} for r in removed]
    common.write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return Path(path)


def _judge(dialogue, rules):
    """Removed by the first rule that objects, or None."""
    for rule in rules:
        if why := rule(dialogue):
            return Removed(dialogue, rule_name(rule), str(why))
    return None


def _copies(dialogues, threshold):
    """`{index: Removed}` of those that repeat an earlier one."""
    removed = {}
    for i, (first, share) in near_duplicates(dialogues, threshold).items():
        exact = dialogues[i].messages == dialogues[first].messages
        kind, same = ("exact", "says word for word the same as") if exact else ("near", f"{share:.0%} in common with")
        removed[i] = Removed(dialogues[i], f"{kind}_duplicate", f"{same} {dialogues[first].id}")
    return removed
