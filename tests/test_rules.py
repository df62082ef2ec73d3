"""The rules of cleaning: what each meets and lets pass, and what is made of their findings."""

import functools
import random

import pytest

from baize_nb import common, corpus
from baize_nb.common import CourseError
from baize_nb.corpus import Dialogue, content_rules, language, rules


def talk(*contents, name="d-1", seed=None):
    """A dialogue of these messages, user first."""
    messages = [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(contents)]
    return Dialogue(name, contents[0] if seed is None else seed, messages=messages)


def answer(text):
    return talk("Can you help me?", text)


# ---- refusals and speaking as an AI


@pytest.mark.parametrize(
    "text", ["I'm sorry, but I can't help with that.", "I’m sorry, but I can’t assist.", "I cannot provide it."]
)
def test_refusals(text):
    assert rules.refusal(answer(text)) and not rules.as_an_ai(answer(text))


@pytest.mark.parametrize(
    "text", ["As an AI language model, I have no cat.", "Well, I'm just an AI.", "I am a large language model"]
)
def test_speaking_as_an_ai(text):
    assert rules.as_an_ai(answer(text)) and not rules.refusal(answer(text))


@pytest.mark.parametrize(
    "text",
    ["She works as an AI engineer.", "As an aid, use salt.", "It was a Thai ai dish.", "I can help you with that."],
)
def test_no_refusal_and_no_ai(text):
    assert rules.as_an_ai(answer(text)) == rules.refusal(answer(text)) == ""


# ---- the quick tests that stand in front must not change a verdict


def test_signs_in_front_of_a_pattern_lose_nothing():
    inside = [
        "[|Human|] x",
        "[ai] x",
        "<|im_start|>",
        "<|USER|>",
        "text\n  User : hi",
        "AI: hi",
        "ai assistant: x",
        "### Response",
    ]
    assert all(rules.role_marker(answer("Fine.\n" + text)) for text in inside)
    assert rules.role_marker(answer("The user\n: a list [of humans] ###")) == ""
    assert rules.role_marker(talk("Who is the user", ": that is you.")) == ""  # the marker only seems to cross messages


@pytest.mark.parametrize("limit", [0.0, 0.3, 0.6, 0.9])
def test_same_again_and_echo_are_what_the_measures_say(limit):
    rng = random.Random(limit)
    for _ in range(100):
        said = [" ".join(rng.choices(["a", "b", "c"], k=rng.randrange(0, 9))) or "a" for _ in range(6)]
        dialogue = talk(*said)
        pairs = [(i, j) for i in range(6) for j in range(i) if (i - j) % 2 == 0]
        assert bool(rules.same_again(dialogue, limit)) == any(
            corpus.overlap(said[i], said[j]) > limit for i, j in pairs
        )
        echoes = [corpus.contained(said[i + 1], said[i]) > limit for i in (0, 2, 4)]
        assert bool(rules.echo(dialogue, limit)) == any(echoes)
        assert bool(rules.loop(dialogue, limit)) == any(corpus.repeated_share(text) > limit for text in said)


def test_a_long_word_at_the_end_is_no_cut():
    assert rules.cut_off(answer("They live in Athe")) == "" and rules.cut_off(answer("And so did the"))
    assert rules.cut_off(answer("the")) and rules.cut_off(answer("It depends on which"))


def test_a_long_answer_that_stops_without_a_mark_is_cut():
    start = "They purr when they are calm, and sometimes when they are hurt. Nobody knows why. "
    assert "full stop" in rules.cut_off(answer(start + "One idea is that the sound helps their bones to grow"))
    whole = (
        "One idea is that the sound helps their bones.",
        "Ideas:\n\n- the sound helps their bones to grow well again",
    )
    assert [rules.cut_off(answer(start + end)) for end in whole] == ["", ""]
    assert rules.cut_off(answer("They purr when they are calm")) == ""
    assert rules.cut_off(answer(start + "Try this:\n\nprint(purr)\nx = y")) == ""


# ---- personal data


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to jane.doe@mail.somewhere.org.", "e-mail"),
        ("My number is +49 30 12345678.", "phone"),
        ("Call (212) 555-7890 2 times.", "phone"),
        ("Card: 4111-1111-1111-1111", "card"),
        ("Amex 378282246310005", "card"),
        ("Pay to DE89 3704 0044 0532 0130 00 NOW", "IBAN"),
        ("GB82WEST12345698765432", "IBAN"),
        ("key = sk-proj-abcdefghijklmnopqrstuvwx", "key"),
        ("AKIAIOSFODNN7EXAMPLE", "key"),
        ("-----BEGIN RSA PRIVATE KEY-----", "key"),
        ("token ghp_abcdefghijklmnopqrstuvwxyz0123456789", "key"),
    ],
)
def test_personal_data_is_found_and_not_repeated(text, kind):
    why = content_rules.personal_data(answer(text))
    assert kind in why and why.startswith("message 2")
    assert not any(part in why for part in text.split() if len(part) > 3 and any(c.isdigit() or c == "@" for c in part))


@pytest.mark.parametrize(
    "text",
    [
        "Write to user@example.com or a@b.test.",
        "The @property decorator, e.g. x@y, a @ b.",
        "Call 212-555-0134.",
        "Call 123-456-7890.",
        "4111 1111 1111 1112",
        "DE89 3704 0044 0532 0130 01",
        "In 2024-01-01 00:00:00.000000 and 1700000000000 ms.",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
        "0.123456789012345678 and 192.168.100.200, 10/12/2023 - 11/12/2023",
        "x = 00101101110 + 12345678",
        "a right skirt, a task-force, sk-learn",
    ],
)
def test_ordinary_numbers_are_nobodys(text):
    assert content_rules.personal_data(answer(text)) == ""


# ---- abuse


def test_the_list_of_abuse_is_readable_and_every_entry_is_met():
    entries = [x for x in content_rules.TOXIC_LIST.read_text(encoding="utf-8").splitlines() if x and x[0] != "#"]
    assert len(entries) > 30 and entries == sorted(set(entries), key=entries.index)
    for entry in entries:
        assert content_rules.toxic(answer(f"Well, {entry.upper()}!")), entry
    assert content_rules.toxic(answer("Kill the process yourself, and shut it. Go up.")) == ""


# ---- language

TEXTS = {
    "en": "The heart is a muscle that pumps blood to all of the body, and it is in the chest.",
    "de": "Das Herz ist ein Muskel, der das Blut in den ganzen Körper pumpt, und es liegt in der Brust.",
    "fr": "Le cœur est un muscle qui pompe le sang dans tout le corps, et il est dans la poitrine.",
    "es": "El corazón es un músculo que bombea la sangre a todo el cuerpo y está en el pecho.",
    "it": "Il cuore è un muscolo che pompa il sangue in tutto il corpo, e si trova nel petto della persona.",
    "pt": "O coração é um músculo que bombeia o sangue para todo o corpo e não para no peito de uma pessoa.",
    "nl": "Het hart is een spier die het bloed door het hele lichaam pompt, en het zit in de borst.",
    "ru": "Сердце это мышца, которая качает кровь по всему телу.",
    "ja": "心臓は全身に血液を送り出す筋肉です。",
}


@pytest.mark.parametrize("expected", TEXTS)
@pytest.mark.parametrize("written", TEXTS)
def test_languages_are_told_apart(expected, written):
    assert bool(content_rules.wrong_language(answer(TEXTS[written]), expected=expected)) == (expected != written)


@pytest.mark.parametrize(
    "text", ["Bonjour!", "```python\nfor i in range(10):\n    print(i)\n```", "non non non non non non non non", "42"]
)
def test_short_texts_and_code_get_no_verdict(text):
    assert content_rules.wrong_language(answer(text)) == ""


def test_an_unknown_language_is_named():
    with pytest.raises(CourseError, match="'tlh' is no language"):
        content_rules.wrong_language(answer("nuqneH"), expected="tlh")


def test_content_words_are_crude_stems():
    assert language.content_words("The vaccines, a vaccination and 3 doses of it") == {"vaccin": 2, "dose": 1}


# ---- drift


def test_drift():
    start = ("Why do cats purr at night?", "They are calm.")
    assert content_rules.drift(talk(*start, "Do cats purr in pain?", "Some.")) == ""
    assert content_rules.drift(talk(*start, "Can you tell me more?", "Yes.")) == ""
    assert "question 2" in content_rules.drift(talk(*start, "How is concrete mixed?", "With water."))
    back = talk(*start, "Are they calm because of food?", "Of sleep.", "And do they purr loud?", "It is.")
    assert content_rules.drift(back) == ""
    half = talk(*start, "Do cats like wet concrete pavements?", "No.")
    assert content_rules.drift(half) == "" and content_rules.drift(half, limit=0.5)


# ---- what is made of them


def test_the_table_counts_hits_and_what_only_one_rule_sees():
    loop = "Signs are coughing, wheezing, coughing, wheezing, coughing, wheezing, coughing, wheezing and"
    pool = [
        talk("Why?", loop, name="two"),
        talk("Why?", "Because of the", name="one"),
        talk("Why?", "So.", name="fine"),
    ]
    table = corpus.rule_table(pool, [rules.loop, rules.cut_off, rules.echo])
    assert table[["hits", "only"]].values.tolist() == [[1, 0], [2, 1], [0, 0]]
    assert table.share.tolist() == pytest.approx([1 / 3, 2 / 3, 0])
    assert table.example["cut_off"].startswith("two: message 2 ends") and table.example["echo"] == ""
    assert corpus.findings(pool, [rules.cut_off]) == {"cut_off": {d.id: rules.cut_off(d) for d in pool[:2]}}


def test_an_empty_corpus_has_a_table():
    assert corpus.rule_table([]).hits.sum() == 0


def test_another_limit_keeps_the_rules_name():
    strict = functools.partial(rules.loop, limit=0.15)
    dialogue = talk("More.", "To plant basil, fill a pot with soil. To plant mint, fill a pot with soil. Water both.")
    assert [r.rule for r in corpus.clean([dialogue], [strict]).removed] == ["loop"]
    assert corpus.clean([dialogue], [rules.loop]).removed == []


def test_suspicions_remove_only_when_asked():
    german = talk("How is it?", TEXTS["de"])
    assert corpus.clean([german]).removed == []
    assert [r.rule for r in corpus.clean([german], corpus.SUSPICIONS).removed] == ["wrong_language"]


def test_clusters_and_kinds_of_copies():
    text = "Wool keeps its warmth when it is wet, because its fibres hold air in small pockets between them"
    pool = [
        talk("Why wool?", text + ".", name="a"),
        talk("Why ice?", "It floats.", name="b"),
        talk("Why wool?", text + ".", name="c"),
        talk("Why wool?", text + " always.", name="d"),
    ]
    (cluster,) = corpus.clusters(pool)
    assert cluster.first.id == "a" and [d.id for d, _ in cluster.copies] == ["c", "d"]
    assert cluster.copies[0][1] == 1 and 0.7 < cluster.copies[1][1] < 1
    assert corpus.clean(pool).counts() == {"exact_duplicate": 1, "near_duplicate": 1}


def test_few_of_the_shipped_dialogues_are_removed():
    shipped = corpus.read(common.DATA / "corpus" / "corpus.jsonl")
    cleaned = corpus.clean(shipped)
    assert 0 < len(cleaned.removed) < len(shipped) / 5
    assert [d.id for d in corpus.clean(cleaned.kept).kept] == [d.id for d in cleaned.kept]
