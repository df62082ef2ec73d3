"""Statistics: what is counted is what a plain loop counts, and the tables say it in the paper's form."""

import gc
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from baize_nb import common, corpus
from baize_nb.corpus import Dialogue, tokencount


def talk(*contents, name="d-1", source="quora-style", **fields):
    messages = [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(contents)]
    return Dialogue(name, source=source, messages=messages, **fields)


@pytest.fixture(scope="module")
def shipped():
    return corpus.read(common.DATA / "corpus" / "corpus.jsonl")


def bpe(shipped, **cut):
    """A byte-level BPE tokenizer of 600 tokens, made from the shipped corpus; it knows two special tokens."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(**{"add_prefix_space": False, **cut})
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, special_tokens=["<|end|>", "<s>"])
    made.train_from_iterator((m["content"] for d in shipped[:60] for m in d.messages), trainer)
    return made


@pytest.fixture(scope="module")
def tokenizer(shipped):
    return bpe(shipped)


# ---- words

ANY = st.text(max_size=30) | st.lists(
    st.sampled_from(
        ["a", " ", "  ", "\n", "\t", "1", "'s", "don't", "<|end|>", "<s>", "é", "\x1c", "\x85", "\u3000", "\0", "."]
    )
).map("".join)


@settings(deadline=None, max_examples=300)
@given(ANY)
def test_words_of_plain_text_are_those_of_any_text(text):
    assert corpus.words(text) == corpus.words(text + " 猫")[:-1]  # never ASCII, so read by the other way


# ---- tokens


@settings(deadline=None, max_examples=300)
@given(st.lists(ANY, max_size=6))
def test_tokens_counted_by_parts_are_the_tokens(shipped, tokenizer, texts):
    count = tokencount.token_counter(tokenizer)
    assert isinstance(count, tokencount._ByParts)
    expected = [len(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    assert count(texts) == expected
    assert count(texts[::-1]) == expected[::-1]


def test_the_shipped_corpus_has_the_same_tokens_either_way(shipped, tokenizer, monkeypatch):
    monkeypatch.setattr(tokencount, "_MEMORY", 50)  # so that the memory is cleared on the way
    texts = [m["content"] for d in shipped for m in d.messages]
    count = tokencount.token_counter(tokenizer)
    found = [n for i in range(0, len(texts), 40) for n in count(texts[i : i + 40])]
    assert found == [len(tokenizer.encode(text)) for text in texts]


def test_parts_are_taken_only_where_that_is_certain(shipped, tokenizer):
    assert tokencount.cuts_at_spaces(tokenizer)
    assert not tokencount.cuts_at_spaces(bpe(shipped, add_prefix_space=True))
    assert not tokencount.cuts_at_spaces(bpe(shipped, use_regex=False))
    other = bpe(shipped)
    other.normalizer = normalizers.Strip()
    assert not tokencount.cuts_at_spaces(other)
    texts = ["  two words ", "and more"]
    assert tokencount.token_counter(other)(texts) == [len(other.encode(text)) for text in texts]


def test_padding_left_switched_on_counts_nothing(shipped):
    made = bpe(shipped)
    made.enable_padding(length=64)
    made.enable_truncation(2)
    assert tokencount.token_counter(made)(["a b c d e", ""]) == [5, 0]
    assert made.padding["length"] == 64, "the caller's tokenizer is as it was"


# ---- one pass


def test_measure_counts_what_a_plain_loop_counts(shipped, tokenizer):
    measured = corpus.measure(iter(shipped), tokenizer)
    for (source, role), side in measured.sides.items():
        said = [text for d in shipped if d.source == source for text in d.said_by(role)]
        assert side.messages == len(said)
        assert side.characters == sum(map(len, said))
        assert side.word_sum == sum(len(corpus.words(text)) for text in said)
        assert side.tokens == sum(len(tokenizer.encode(text)) for text in said)
        assert side.quantile(0.5) == sorted(len(corpus.words(text)) for text in said)[(len(said) - 1) // 2]
    assert len(measured.sides) == 8
    assert measured.ends == Counter(corpus.ends(shipped))
    assert sum(side.tokens for side in measured.by_turn.values()) == sum(s.tokens for s in measured.sides.values())
    everything = [word for d in shipped for m in d.messages for word in corpus.words(m["content"])]
    assert measured.growth[-1] == (len(everything), len(set(everything)))
    total, distinct = measured.growth[3]
    assert len(set(everything[:total])) == distinct


def test_the_garbage_collector_comes_back():
    with pytest.raises(AttributeError):
        corpus.measure([None])
    assert gc.isenabled()


def test_first_words_leave_the_seed_out():
    pool = [
        talk("What is wool?", "Hair.", "What is felt?", "Wool.", seed="What is wool?"),
        talk("What is silk?", "A thread.", "Why?", "Because.", name="d-2", seed="silk"),
    ]
    assert corpus.measure(pool).first_words == {"what is": 2, "why": 1}


def test_length_by_source_and_role_and_by_turn(tokenizer):
    pool = [
        talk("a b", "c d e", "f", "g"),
        talk("a", "b c d e f", name="d-2", source="own"),
        talk("a b c", "d", name="d-3"),
    ]
    measured = corpus.measure(pool, tokenizer)
    table = corpus.lengths(measured)
    assert [*table.index][-2:] == [("all", "user"), ("all", "assistant")]
    assert table.loc[("quora-style", "user"), ["messages", "words", "median words", "longest tenth from"]].tolist() == [
        3,
        2,
        2,
        3,
    ]
    assert table.loc[("all", "assistant"), ["messages", "words", "characters"]].tolist() == [4, 2.5, 4]
    assert (table["tokens"] >= table["words"]).all()
    turns = corpus.by_turn(measured)
    assert turns.loc[1].tolist() == [3, 2, 3] and turns.loc[2].tolist() == [1, 1, 1]


def test_nothing_can_be_counted():
    measured = corpus.measure([])
    assert corpus.stats(measured).loc["all"].sum() == 0
    assert corpus.lengths(measured)["messages"].sum() == 0 and corpus.by_turn(measured).empty
    assert measured.growth == [] and corpus.heaps(measured) == (0, 0)
    assert corpus.length_candidates(measured).index.tolist() == ["the paper"]
    assert corpus.distinct([]) == {1: 0, 2: 0, 3: 0}


def test_stats_has_tokens_only_when_asked(tokenizer):
    pool = [talk("a b", "c d")]
    assert "tokens" not in corpus.stats(pool)
    assert corpus.stats(pool, tokenizer).loc["all", "user tokens"] == len(tokenizer.encode("a b"))
    assert corpus.stats(corpus.measure(pool)).equals(corpus.stats(pool))


# ---- variety


def test_distinct_counts_runs_within_messages():
    assert corpus.distinct(["a b a b", "a b"]) == {1: 2 / 6, 2: 2 / 4, 3: 2 / 2}
    assert corpus.distinct(["a b c d", "a b"], at=4) == {1: 1, 2: 1, 3: 1}
    assert corpus.distinct(["a b c d", "a b"], at=5)[1] == 4 / 5


def test_heaps_finds_the_law_a_text_was_made_by():
    rng, said, seen = random.Random(0), [], 0
    for n in range(1, 40_001):
        if seen < 3 * n**0.6:
            seen += 1
            said.append(f"w{seen}")
        else:
            said.append(f"w{rng.randint(1, seen)}")
    pool = [
        talk(" ".join(said[i : i + 20]), " ".join(said[i + 20 : i + 40]), name=str(i)) for i in range(0, 40_000, 40)
    ]
    k, b = corpus.heaps(corpus.measure(pool))
    assert b == pytest.approx(0.6, abs=0.03) and k == pytest.approx(3, rel=0.2)


# ---- the paper


def test_candidates_for_the_papers_length_stand_beside_it(tokenizer):
    pool = [
        talk(" ".join(["ab"] * 12), " ".join(["ab"] * 60), name="1"),
        talk(" ".join(["ab"] * 12), " ".join(["ab"] * 60), name="2", source="medquad-style"),
        talk(*["x " * 500] * 2, name="3", source="alpaca-style"),  # no self-chat: not compared
    ]
    table = corpus.length_candidates(corpus.measure(pool, tokenizer))
    assert [*table.columns] == ["Quora", "MedQuAD", "off by"]
    assert table.loc["the paper"].tolist() == [35.9, 35.8, 1]
    assert table.index[1] == "words per message" and table.loc["words per message", "Quora"] == 36
    assert table.loc["words per dialogue", "off by"] == pytest.approx(72 / 35.85, rel=1e-3)
    assert table.loc["words per user message", "off by"] == pytest.approx(35.85 / 12, rel=1e-3)
    assert len(table) == 16 and table["off by"].iloc[1:].is_monotonic_increasing
    assert len(corpus.length_candidates(corpus.measure(pool))) == 11
