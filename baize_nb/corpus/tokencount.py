"""How many tokens texts have, by any tokenizer; fast where the tokenizer cuts its text at spaces anyway.

Knows: how a byte-level BPE tokenizer (GPT-2's, SmolLM2's …) cuts its text first. Does not know: corpora.

Such a tokenizer never joins what stands on both sides of a place where white space begins, so the tokens of a text
are those of its parts, summed up; and a part, most often a word, has to be taken to the tokenizer only once.
"""

import json
import math
import re

_MEMORY = 1_000_000  # parts whose count is remembered
_ODD = re.compile(r"(?:^|\s)$")


def token_counter(tokenizer):
    """A function from a list of texts to their numbers of tokens, without special tokens around them.

    tokenizer : of transformers or tokenizers, or None: then the function answers 0 each.
    """
    if tokenizer is None:
        return lambda texts: [0] * len(texts)
    fast = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(fast, "encode_batch_fast"):
        return lambda texts: [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    # A copy, without the padding and truncation that an earlier call may have left switched on.
    fast = type(fast).from_str(fast.to_str())
    fast.no_padding()
    fast.no_truncation()

    def count(texts):
        return [len(found) for found in fast.encode_batch_fast(texts, add_special_tokens=False)]

    return _ByParts(count) if cuts_at_spaces(fast) else count


def cuts_at_spaces(tokenizer):
    """Whether the tokens of a text are those of its parts, when it is cut in front of spaces that follow a non-space.

    tokenizer : of the tokenizers library. Judged by how it is built, not by samples; False where that is not certain.
    """
    made = json.loads(tokenizer.to_str())
    cut, model = made["pre_tokenizer"] or {}, made["model"]
    return (
        cut.get("type") == "ByteLevel"
        and cut["use_regex"]
        and not cut["add_prefix_space"]
        and not made["normalizer"]
        and model["type"] == "BPE"
        and not (model["dropout"] or model["continuing_subword_prefix"] or model["end_of_word_suffix"])
        and not any(t["lstrip"] or t["rstrip"] or t["single_word"] or " " in t["content"] for t in made["added_tokens"])
    )


class _ByParts:
    """Counts by cutting texts in front of their spaces and remembering each part's count."""

    def __init__(self, count):
        self.count, self.first, self.later = count, {}, {}  # of parts at the beginning, of parts behind a space

    def __call__(self, texts):
        cut = [text.split(" ") for text in texts]
        self._learn(self.first, {parts[0] for parts in cut}, "")
        self._learn(self.later, set().union(*cut), " ")
        later = self.later.__getitem__
        found = [sum(map(later, parts)) - later(parts[0]) + self.first[parts[0]] for parts in cut]
        odd = [i for i, n in enumerate(found) if n != n]
        for i, n in zip(odd, self.count([texts[i] for i in odd]), strict=True):
            found[i] = n
        return found

    def _learn(self, known, parts, space):
        """Add the counts of new parts; those that a space inside of white space would follow have none."""
        if len(known) > _MEMORY:
            known.clear()
        new = list(parts - known.keys())
        counts = self.count([space + part for part in new])
        known.update((part, math.nan if _ODD.search(part) else n) for part, n in zip(new, counts, strict=True))
