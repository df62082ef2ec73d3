"""What can be counted: in a reply its end, echoes, loops and length; in dialogues the loss of a model.

Knows: replies, prompts, words. Does not know: which model wrote them, or whether a reply is true. Built in notebook 06.
"""

import numpy as np
import pandas as pd

from .. import corpus
from .intervals import Interval, bootstrap, rate

ECHO = 0.5  # share of a reply's trigrams that stand in the question, from which it counts as an echo
RATES = ("stopped", "leaked", "echo")


def measure(prompts, replies):
    """DataFrame, a row per reply, index: the prompt's id. Built in notebook 06.

    kind       : of the prompt.
    stopped    : the model closed its turn by the stop token. leaked : it began to write the other's turn instead.
    echo       : over half of the reply's word trigrams stand in the question.
    repetition : share of trigrams that stood in the reply before, 0 … 1. words, tokens : its length.
    """
    rows = [_row(prompt, reply) for prompt, reply in zip(prompts, replies, strict=True)]
    return pd.DataFrame(rows).set_index("id")


def _row(prompt, reply):
    return {
        "id": prompt.id,
        "kind": prompt.kind,
        "stopped": reply.end == "stop",
        "leaked": reply.end == "marker",
        "echo": corpus.contained(reply.text, prompt.question) > ECHO,
        "repetition": corpus.repeated_share(reply.text),
        "words": len(corpus.words(reply.text)),
        "tokens": reply.tokens,
    }


def intervals(table):
    """{column: Interval} of a table of `measure`: rates by Wilson, means of the others by the bootstrap."""
    columns = [name for name in table.columns if name != "kind"]
    return {name: rate(table[name]) if name in RATES else bootstrap(table[name]) for name in columns}


def distinct(replies, n=2):
    """distinct-n of all replies together: different runs of n words (1 to 3) as a share of all. See corpus.distinct."""
    return corpus.distinct([reply.text for reply in replies])[n]


def diversity(replies, words, n=2, draws=500, seed=0):
    """`Interval` of distinct-n in `words` words of replies that are drawn without replacement.

    words : the same number for all models that are compared, since a longer text repeats more; at most half of the
            smallest model's words, or the draws would all hold the same replies.
    No bootstrap: a sample with replacement holds some replies twice, and would look poorer than the replies are.
    """
    dice = np.random.default_rng(seed)
    texts = np.array([reply.text for reply in replies], dtype=object)
    drawn = [corpus.distinct(dice.permutation(texts), at=words)[n] for _ in range(draws)]
    return Interval(float(np.mean(drawn)), *(float(edge) for edge in np.percentile(drawn, [2.5, 97.5])))


def losses(model, dialogues, tokenizer, max_length):
    """DataFrame, a row per dialogue that teaches something: `nats` (sum of the losses) and `tokens` (learned ones).

    Only the assistant's tokens count, whatever the model was trained on. With one tokenizer and max_length all models
    get the same rows, so differences can be taken row by row. Raises CourseError where nothing can be learned.
    """
    from ..finetune.tokens import encode_all
    from ..finetune.training import loss_sums

    rows = encode_all(dialogues, tokenizer, max_length).rows
    sums = [loss_sums(model, [row], tokenizer.eos_token_id) for row in rows]
    return pd.DataFrame(sums, columns=["nats", "tokens"])


def token_loss(table):
    """Mean loss in nats per token: all nats by all tokens. table: of `losses`, or an array with its two columns."""
    nats, tokens = np.asarray(table, dtype=float).sum(axis=0)
    return nats / tokens


def loss_difference(before, after, draws=2000):
    """`Interval` of the change in loss, nats per token, paired: below 0 `after` is better. Tables of `losses`."""
    table = np.column_stack([after["nats"] - before["nats"], before["tokens"]])
    return bootstrap(table, token_loss, draws)
