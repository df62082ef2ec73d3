"""Claims beside references: the score, the ranking, and that nothing a teacher wrote becomes HTML."""

import pytest

from baize_nb import common, corpus, plots, seeds
from baize_nb.corpus import Dialogue, facts
from baize_nb.plots import corpus as figures

COLD = seeds.Seed(
    "m-1", "What causes a cold?", "m", "x", reference="Viruses cause colds, about 200 kinds. They pass in 7 days."
)
SALT = seeds.Seed("m-2", "Is salt bad?", "m", "x", reference="Much salt raises the blood pressure.")
PLAIN = seeds.Seed("m-3", "Is tea good?", "m", "x")


def talk(seed, answer, name="d"):
    messages = [{"role": "user", "content": seed}, {"role": "assistant", "content": answer}]
    return Dialogue(name, seed, messages=messages)


def test_support_is_a_share_of_content_words():
    assert facts.support("Viruses cause a cold.", COLD.reference) == pytest.approx(1)
    assert facts.support("Viruses eat cheese.", COLD.reference) == pytest.approx(1 / 3)
    assert facts.support("It is what it is.", COLD.reference) == facts.support("", "") == 0


def test_a_claim_and_its_opposite_score_the_same():
    assert facts.support("Salt raises blood pressure.", SALT.reference) == facts.support(
        "Salt does not raise blood pressure.", SALT.reference.replace("raises", "raise")
    )


def test_numbers_are_counted_apart():
    claim = "1. There are 1,000 kinds.\n2. They pass in 7 or 7.5 days, in 7 or 12."
    assert facts.unsupported_numbers(claim, COLD.reference + " 1000") == ["7.5", "12"]


def test_the_worst_come_first_and_what_has_no_reference_is_left_out():
    pool = [
        talk("what causes  a COLD?", "Viruses, 200 kinds of them.", "good"),
        talk("Is tea good?", "Yes.", "no reference"),
        talk("Is salt bad?", "Cheese is made in 12 caves.", "bad"),
        talk("Another question?", "Yes.", "no seed"),
    ]
    bad, good = facts.compare(pool, [COLD, SALT, PLAIN])
    assert (bad.id, bad.found, bad.numbers) == ("bad", 0, ["12"])
    assert (good.id, good.numbers, good.reference) == ("good", [], COLD.reference)
    assert facts.table([bad, good]).index.tolist() == ["bad", "good"]
    assert facts.table([]).empty and facts.compare([], [COLD]) == []


def test_every_bundled_reference_supports_itself():
    references = [s.reference for s in seeds.load("medquad") if s.reference]
    assert len(references) == 240
    assert {facts.support(r, r) for r in references} == {1.0}
    assert not any(facts.unsupported_numbers(r, r) for r in references)


def test_shipped_claims_rank_below_their_own_references():
    shipped = corpus.read(common.DATA / "corpus" / "corpus.jsonl")
    claims = facts.compare(shipped, seeds.load("medquad"))
    assert len(claims) > 20 and claims[0].found < 0.2 < claims[-1].found


def test_shown_text_is_escaped_and_shared_words_are_bold():
    evil = "<script>alert('viruses')</script> & viruses"
    claims = facts.compare([talk("What causes a cold?", evil)], [COLD])
    page = facts.side_by_side(claims)
    assert "<script" not in page and "<b>viruses</b>" in page and "&amp;" in page
    plain = facts.one_below_the_other(claims, width=60)
    assert evil.split()[0] in plain and "REFERENCE: Viruses cause" in plain
    assert max(map(len, plain.splitlines())) <= 60


@pytest.mark.parametrize(
    "figure",
    [
        lambda: figures.hits({"loop": 2, "echo": 0}, {"loop": 1, "echo": 3}),
        lambda: figures.hits({}, {}),
        lambda: figures.by_turn([14, 12], [52, 58]),
        lambda: figures.by_turn([], []),
        lambda: figures.growth([(100, 60), (1000, 300)], 2.3, 0.7),
        lambda: figures.growth([], 0.0, 0.0),
        lambda: figures.counts({"what is": 3}, "How questions begin", "questions"),
        lambda: figures.counts({}, "How questions begin"),
    ],
)
def test_new_figures_draw_with_much_and_with_nothing(figure):
    drawn = figure()
    assert plots.png(drawn).startswith(b"\x89PNG")
    assert all(ax.get_xlabel() for ax in drawn.axes)
