"""A corpus on disk and in numbers: what is read is what was written, what is counted is what a plain loop counts."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smalltalk import dialogue

from baize_nb import common, corpus, models, plots, seeds
from baize_nb.common import CourseError
from baize_nb.corpus import facts, statistics
from baize_nb.plots import corpus as figures


@pytest.fixture(scope="module")
def shipped():
    return corpus.read(common.DATA / "corpus" / "corpus.jsonl")


@pytest.fixture(scope="module")
def tokenizer():
    return models.load_tokenizer()


# ---- on disk


def test_what_is_written_is_read_and_a_failed_write_leaves_the_old_corpus(tmp_path):
    dialogues = [dialogue("Why?", "So."), dialogue("Zwei\nZeilen?\r\n", 'Ja: "ü" \u2028 [x] 猫', id="d-2", end="x")]
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
        ("[1]\n", "not an object"),
        ('{"id": "b"}\n', "no messages"),
        ('{"messages": [{"role": "user", "content": "x"}]}\n', "no id"),
        ('{"id": 7, "messages": [{"role": "user", "content": "x"}]}\n', "'id' is a int"),
        ('{"id": "b", "messages": [{"role": "assistant", "content": "x"}]}\n', "expected 'user'"),
        ('{"id": "b", "messages": [{"role": "user", "content": "x"}]}\n', "no answer"),
        ('{"id": "b", "messages": ["hello", "you"]}\n', "message 0"),
        (dialogue("x", "y").to_json(), "earlier line"),
        ("\udcff\n", "utf-8"),
    ],
)
def test_a_faulty_line_is_named(tmp_path, line, expected):
    path = tmp_path / "corpus.jsonl"
    path.write_text(dialogue("Why?", "So.").to_json() + "\n\n" + line, errors="surrogateescape")
    with pytest.raises(CourseError, match=rf"corpus\.jsonl:3 is no dialogue: .*{expected}.* Fix or remove"):
        corpus.read(path)


# ---- counts

PARTS = ["a", " ", "  ", "\n", "\t", "1", "'s", "don't", "<|im_end|>", "é", "\x1c", "\x85", "\u3000", "\0", "."]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(max_size=30) | st.lists(st.sampled_from(PARTS)).map("".join), max_size=6))
def test_tokens_counted_by_parts_are_the_tokens(tokenizer, texts):
    assert statistics.cuts_at_spaces(tokenizer)
    expected = [len(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
    known = {}
    assert statistics.count_tokens(texts, tokenizer, known) == expected
    assert statistics.count_tokens(texts[::-1], tokenizer, known) == expected[::-1]


def test_measure_counts_what_a_plain_loop_counts(shipped, tokenizer):
    measured = corpus.measure(iter(shipped), tokenizer)
    table = corpus.stats(measured)
    for source in {d.source for d in shipped}:
        said = [text for d in shipped if d.source == source for text in d.said_by("user")]
        counted = sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in said)
        assert table.loc[source, "user tokens"] == pytest.approx(counted / len(said))
        assert table.loc[source, "user words"] == pytest.approx(sum(len(corpus.words(x)) for x in said) / len(said))
    everything = [word for d in shipped for m in d.messages for word in corpus.words(m["content"])]
    assert measured.growth[-1] == (len(everything), len(set(everything)))
    total, distinct = measured.growth[3]
    assert len(set(everything[:total])) == distinct


def test_stats_count_words_turns_and_ends():
    one = dialogue("a b", "c d e f", source="quora-style", end="max_turns")
    two = dialogue("a", "b", "c", "d", id="d-2", source="medquad-style", usage={"trimmed": 1}, end="no_question")
    table = corpus.stats([one, two])
    assert list(table.index) == ["medquad-style", "quora-style", "all"] and "tokens" not in table
    assert table.loc["all", ["dialogues", "turns", "user words", "assistant words"]].tolist() == [2, 1.5, 4 / 3, 2]
    assert table.loc["medquad-style", ["trimmed answers", "ended by limit"]].tolist() == [0.5, 0]
    measured = corpus.measure([one, two])
    assert corpus.stats(measured).equals(table)
    assert corpus.by_turn(measured).values.tolist() == [[2, 1.5, 2.5], [1, 1, 1]]
    assert corpus.by_turn(measured, turns=2).values.tolist() == [[1, 1, 1], [1, 1, 1]], "the same dialogues in each"
    beside = corpus.beside_paper(corpus.stats([one, dialogue("a", "b", id="x", source="own")]))
    assert beside.loc["quora-style", "paper dialogues"] == 54_456
    assert beside.loc[["own", "all"], "paper length"].isna().all()
    assert corpus.ends([one, one, dialogue("a", "b")]) == {"max_turns": 2, "(not said)": 1}
    asked = dialogue("What is wool?", "Hair.", "What is felt?", "Wool.", seed="What is wool?")
    assert corpus.measure([asked]).first_words == {"what is": 1}, "the seed is a person's"
    empty = corpus.measure([])
    assert corpus.stats(empty).loc["all"].sum() == 0 and empty.growth == [] and corpus.heaps(empty) == (0, 0)


def test_distinct_counts_runs_within_messages():
    assert corpus.distinct(["a b a b", "a b"]) == {1: 2 / 6, 2: 2 / 4, 3: 2 / 2}
    assert corpus.distinct(["a b c d", "a b"], at=4) == {1: 1, 2: 1, 3: 1}
    assert corpus.distinct(["a b c d", "a b"], at=5)[1] == 4 / 5


# ---- claims beside references

COLD = seeds.Seed("1", "What causes a cold?", "m", "x", reference="Viruses cause colds, 200 kinds. It takes 7 days.")
SALT = seeds.Seed("2", "Is salt bad?", "m", "x", reference="Much salt raises the blood pressure.")


def test_support_is_a_share_of_content_words_and_numbers_are_counted_apart():
    assert facts.support("Viruses cause a cold.", COLD.reference) == pytest.approx(1)
    assert facts.support("Viruses eat cheese.", COLD.reference) == pytest.approx(1 / 3)
    assert facts.support("It is what it is.", COLD.reference) == facts.support("", "") == 0
    claim = "1. There are 1,000 kinds.\n2. They pass in 7 or 7.5 days, in 7 or 12."
    assert facts.unsupported_numbers(claim, COLD.reference + " 1000") == ["7.5", "12"]


def test_the_worst_claims_come_first_and_are_shown_escaped(shipped, monkeypatch):
    evil = "<script>alert('viruses')</script> & viruses"
    pool = [
        dialogue("what causes  a COLD?", evil, id="good"),
        dialogue("Is tea good?", "Yes.", id="no reference"),
        dialogue("Is salt bad?", "Cheese is made in 12 caves.", id="bad"),
    ]
    claims = facts.compare(pool, [COLD, SALT, seeds.Seed("3", "Is tea good?", "m", "x")])
    assert [(c.id, c.numbers, c.reference) for c in claims] == [
        ("bad", ["12"], SALT.reference),
        ("good", [], COLD.reference),
    ]
    assert claims[0].found == 0 and facts.table(claims).index.tolist() == ["bad", "good"]
    assert facts.table([]).empty and facts.compare([], [COLD]) == []
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    facts.show(claims)
    page = shown[0].data
    assert "<script" not in page and "<b>viruses</b>" in page and "&amp;" in page
    claims = facts.compare(shipped, seeds.load("medquad"))
    assert len(claims) > 20 and claims[0].found < 0.2 < claims[-1].found


# ---- figures


@pytest.mark.parametrize(
    "figure",
    [
        lambda: figures.words_by_role([3, 9, 12], [20, 40, 95]),
        lambda: figures.repetition([0, 0.1, 0.7], 0.3),
        lambda: figures.by_turn([14, 12], [52, 58]),
        lambda: figures.growth([(100, 60), (1000, 300)], 2.3, 0.7),
        lambda: figures.counts({"what is": 3}, "How questions begin", "questions"),
    ],
)
def test_figures_draw(figure):
    drawn = figure()
    assert plots.png(drawn).startswith(b"\x89PNG") and all(ax.get_xlabel() for ax in drawn.axes)
