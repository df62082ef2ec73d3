"""A corpus on disk and in numbers: what is read is what was written, what is counted is what a plain loop counts."""

import gc
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smalltalk import dialogue
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from baize_nb import common, corpus, plots, seeds
from baize_nb.common import CourseError
from baize_nb.corpus import Dialogue, counting, facts
from baize_nb.plots import corpus as figures

# ---- on disk


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=6).filter(lambda x: len(x) % 2 == 0))
def test_any_text_survives_a_line(texts):
    line = dialogue(*texts).to_json()
    assert "\n" not in line and Dialogue.from_json(line) == dialogue(*texts)


def test_what_is_written_is_read_and_a_failed_write_leaves_the_old_corpus(tmp_path):
    dialogues = [
        dialogue("Why?", "So."),
        dialogue("Zwei\nZeilen?\r\n", 'Ja: "ü" \u2028 [x] 猫', id="d-2", end="length"),
    ]
    path = corpus.write(dialogues, tmp_path / "corpus.jsonl")
    assert corpus.read(path) == dialogues
    path.write_text(json.dumps(dialogues[0].to_record() | {"later": 1}))
    assert corpus.read(path) == dialogues[:1], "fields of a later version are passed over"
    before = path.read_bytes()
    for write in (corpus.write, corpus.write_sharegpt, corpus.write_parquet):
        with pytest.raises(AttributeError):
            write([dialogue("new?", "yes."), None], path)
        assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["corpus.jsonl"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"id": "b", "messages": ', "torn"),
        ('{"id": "b", "messages": \n', "Expecting value"),
        ("[1]\n", "not an object"),
        ('{"id": "b"}\n', "no messages"),
        ('{"messages": [{"role": "user", "content": "x"}]}\n', "no id"),
        ('{"id": 7, "messages": [{"role": "user", "content": "x"}]}\n', "'id' is a int"),
        ('{"id": "b", "messages": [{"role": "assistant", "content": "x"}]}\n', "expected 'user'"),
        ('{"id": "b", "messages": [{"role": "user", "content": "x"}]}\n', "no answer"),
        ('{"id": "b", "messages": ["hello", "you"]}\n', "message 0"),
        (
            '{"id": "d", "messages": [{"role":"user","content":"x"},{"role":"assistant","content":"y"}]}\n',
            "earlier line",
        ),
        ("\udcff\n", "utf-8"),
    ],
)
def test_a_faulty_line_is_named(tmp_path, line, expected):
    path = tmp_path / "corpus.jsonl"
    path.write_text(dialogue("Why?", "So.").to_json() + "\n\n" + line, errors="surrogateescape")
    with pytest.raises(CourseError, match=rf"corpus\.jsonl:3 is no dialogue: .*{expected}.* Fix or remove"):
        corpus.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CourseError, match=r"Cannot read .*none"):
        corpus.read(tmp_path / "none.jsonl")


# ---- tokens


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


PARTS = ["a", " ", "  ", "\n", "\t", "1", "'s", "don't", "<|end|>", "<s>", "é", "\x1c", "\x85", "\u3000", "\0", "."]
ANY = st.text(max_size=30) | st.lists(st.sampled_from(PARTS)).map("".join)


@settings(deadline=None, max_examples=200)
@given(st.lists(ANY, max_size=6))
def test_tokens_counted_by_parts_are_the_tokens(tokenizer, texts):
    count = counting.token_counter(tokenizer)
    expected = [len(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    assert count(texts) == expected and count(texts[::-1]) == expected[::-1]


def test_parts_are_taken_only_where_that_is_certain(shipped, tokenizer):
    other = bpe(shipped)
    other.normalizer = normalizers.Strip()
    assert counting.cuts_at_spaces(tokenizer)
    for odd in (bpe(shipped, add_prefix_space=True), bpe(shipped, use_regex=False), other):
        assert not counting.cuts_at_spaces(odd)
        texts = ["  two words ", "and more"]
        assert counting.token_counter(odd)(texts) == [len(odd.encode(text)) for text in texts]
    padded = bpe(shipped)
    padded.enable_padding(length=64)
    padded.enable_truncation(2)
    assert counting.token_counter(padded)(["a b c d e", ""]) == [5, 0]
    assert padded.padding["length"] == 64, "the caller's tokenizer is as it was"


# ---- counts


def test_measure_counts_what_a_plain_loop_counts(shipped, tokenizer, monkeypatch):
    monkeypatch.setattr(counting, "MEMORY", 50)  # so that it is cleared on the way
    measured = corpus.measure(iter(shipped), tokenizer)
    for (source, role), side in measured.sides.items():
        said = [text for d in shipped if d.source == source for text in d.said_by(role)]
        assert side["messages"] == len(said) and side["characters"] == sum(map(len, said))
        assert side["words"] == sum(len(corpus.words(text)) for text in said)
        assert side["tokens"] == sum(len(tokenizer.encode(text)) for text in said)
    assert len(measured.sides) == 8 and measured.ends == corpus.ends(shipped)
    assert sum(measured.by_turn.values(), start=type(side)()) == sum(measured.sides.values(), start=type(side)())
    everything = [word for d in shipped for m in d.messages for word in corpus.words(m["content"])]
    assert measured.growth[-1] == (len(everything), len(set(everything)))
    total, distinct = measured.growth[3]
    assert len(set(everything[:total])) == distinct
    with pytest.raises(AttributeError):
        corpus.measure([None])
    assert gc.isenabled()


def test_stats_count_words_turns_and_ends():
    one = dialogue("a b", "c d e f", source="quora-style", end="max_turns")
    two = dialogue("a", "b", "c", "d", id="d-2", source="medquad-style", usage={"trimmed": 1}, end="no_question")
    table = corpus.stats([one, two])
    assert list(table.index) == ["medquad-style", "quora-style", "all"]
    assert table.loc["all", ["dialogues", "turns", "user words", "assistant words"]].tolist() == [2, 1.5, 4 / 3, 2]
    assert table.loc["medquad-style", ["trimmed answers", "ended by limit"]].tolist() == [0.5, 0]
    assert corpus.by_turn(corpus.measure([one, two])).loc[2].tolist() == [1, 1, 1]
    beside = corpus.beside_paper(corpus.stats([one, dialogue("a", "b", id="x", source="own")]))
    assert beside.loc["quora-style", "paper dialogues"] == 54_456
    assert beside.loc[["own", "all"], "paper length"].isna().all()
    assert corpus.ends([one, one, dialogue("a", "b")]) == {"max_turns": 2, "(not said)": 1}


def test_stats_has_tokens_only_when_asked(tokenizer):
    pool = [dialogue("a b", "c d")]
    assert "tokens" not in corpus.stats(pool)
    assert corpus.stats(pool, tokenizer).loc["all", "user tokens"] == len(tokenizer.encode("a b"))
    assert corpus.stats(corpus.measure(pool)).equals(corpus.stats(pool))


def test_first_words_leave_the_seed_out():
    pool = [
        dialogue("What is wool?", "Hair.", "What is felt?", "Wool.", seed="What is wool?"),
        dialogue("What is silk?", "A thread.", "Why?", "Because.", id="d-2", seed="silk"),
    ]
    assert corpus.measure(pool).first_words == {"what is": 2, "why": 1}


def test_nothing_can_be_counted():
    measured = corpus.measure([])
    assert corpus.stats(measured).loc["all"].sum() == 0 and corpus.by_turn(measured).empty
    assert measured.growth == [] and corpus.heaps(measured) == (0, 0)
    assert corpus.length_candidates(measured).index.tolist() == ["the paper"]
    assert corpus.distinct([]) == {1: 0, 2: 0, 3: 0} and corpus.rule_table([]).hits.sum() == 0


def test_distinct_counts_runs_within_messages():
    assert corpus.distinct(["a b a b", "a b"]) == {1: 2 / 6, 2: 2 / 4, 3: 2 / 2}
    assert corpus.distinct(["a b c d", "a b"], at=4) == {1: 1, 2: 1, 3: 1}
    assert corpus.distinct(["a b c d", "a b"], at=5)[1] == 4 / 5


def test_heaps_finds_the_law_a_text_was_made_by():
    rng, said, seen = random.Random(0), [], 0
    for n in range(1, 40_001):
        new = seen < 3 * n**0.6
        seen += new
        said.append(f"w{seen if new else rng.randint(1, seen)}")
    pool = [dialogue(" ".join(said[i : i + 20]), " ".join(said[i + 20 : i + 40])) for i in range(0, 40_000, 40)]
    k, b = corpus.heaps(corpus.measure(pool))
    assert b == pytest.approx(0.6, abs=0.03) and k == pytest.approx(3, rel=0.2)


def test_candidates_for_the_papers_length_stand_beside_it(tokenizer):
    pool = [
        dialogue(" ".join(["ab"] * 12), " ".join(["ab"] * 60), source="quora-style"),
        dialogue(" ".join(["ab"] * 12), " ".join(["ab"] * 60), source="medquad-style"),
        dialogue(*["x " * 500] * 2, source="alpaca-style"),  # no self-chat: not compared
    ]
    table = corpus.length_candidates(corpus.measure(pool, tokenizer))
    assert [*table.columns] == ["Quora", "MedQuAD", "off by"]
    assert table.loc["the paper"].tolist() == [35.9, 35.8, 1]
    assert table.index[1] == "words per message" and table.loc["words per message", "Quora"] == 36
    assert table.loc["words per dialogue", "off by"] == pytest.approx(72 / 35.85, rel=1e-3)
    assert len(table) == 16 and table["off by"].iloc[1:].is_monotonic_increasing
    assert len(corpus.length_candidates(corpus.measure(pool))) == 11


# ---- claims beside references

COLD = seeds.Seed(
    "1", "What causes a cold?", "m", "x", reference="Viruses cause colds, 200 kinds. They pass in 7 days."
)
SALT = seeds.Seed("2", "Is salt bad?", "m", "x", reference="Much salt raises the blood pressure.")


def test_support_is_a_share_of_content_words_and_numbers_are_counted_apart():
    assert facts.support("Viruses cause a cold.", COLD.reference) == pytest.approx(1)
    assert facts.support("Viruses eat cheese.", COLD.reference) == pytest.approx(1 / 3)
    assert facts.support("It is what it is.", COLD.reference) == facts.support("", "") == 0
    claim = "1. There are 1,000 kinds.\n2. They pass in 7 or 7.5 days, in 7 or 12."
    assert facts.unsupported_numbers(claim, COLD.reference + " 1000") == ["7.5", "12"]
    references = [s.reference for s in seeds.load("medquad") if s.reference]
    assert len(references) == 240 and {facts.support(r, r) for r in references} == {1.0}


def test_the_worst_claims_come_first_and_what_has_no_reference_is_left_out(shipped):
    pool = [
        dialogue("what causes  a COLD?", "Viruses, 200 kinds of them.", id="good"),
        dialogue("Is tea good?", "Yes.", id="no reference"),
        dialogue("Is salt bad?", "Cheese is made in 12 caves.", id="bad"),
    ]
    bad, good = facts.compare(pool, [COLD, SALT, seeds.Seed("3", "Is tea good?", "m", "x")])
    assert (bad.id, bad.found, bad.numbers) == ("bad", 0, ["12"])
    assert (good.id, good.numbers, good.reference) == ("good", [], COLD.reference)
    assert facts.table([bad, good]).index.tolist() == ["bad", "good"]
    assert facts.table([]).empty and facts.compare([], [COLD]) == []
    claims = facts.compare(shipped, seeds.load("medquad"))
    assert len(claims) > 20 and claims[0].found < 0.2 < claims[-1].found


def test_shown_claims_are_escaped_and_shared_words_are_bold():
    evil = "<script>alert('viruses')</script> & viruses"
    claims = facts.compare([dialogue("What causes a cold?", evil)], [COLD])
    page, plain = facts.bundle(claims, width=60).values()
    assert "<script" not in page and "<b>viruses</b>" in page and "&amp;" in page
    assert "<script>alert" in plain and "REFERENCE: Viruses cause" in plain
    assert max(map(len, plain.splitlines())) <= 60


# ---- figures


@pytest.mark.parametrize(
    "figure",
    [
        lambda: figures.words_by_role([3, 9, 12], [20, 40, 95]),
        lambda: figures.repetition([0, 0.1, 0.7], 0.3),
        lambda: figures.hits({"loop": 2, "echo": 0}, {"loop": 1, "echo": 3}),
        lambda: figures.hits({}, {}),
        lambda: figures.by_turn([14, 12], [52, 58]),
        lambda: figures.growth([(100, 60), (1000, 300)], 2.3, 0.7),
        lambda: figures.counts({"what is": 3}, "How questions begin", "questions"),
    ],
)
def test_figures_draw_with_much_and_with_nothing(figure):
    drawn = figure()
    assert plots.png(drawn).startswith(b"\x89PNG") and all(ax.get_xlabel() for ax in drawn.axes)
