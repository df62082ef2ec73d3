"""The rules of cleaning: what each meets and lets pass, and what is made of what they find; words in many scripts."""

import functools
import json
import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smalltalk import dialogue

from baize_nb import common, corpus, text
from baize_nb.common import CourseError
from baize_nb.corpus import cleaning

QUESTION, ANSWER = "Why do cats purr?", "They purr when they are calm, and sometimes when they are hurt."
WHY = "They purr when they are calm, and sometimes when they are hurt. Nobody knows why. "
LOOP = "Signs are coughing, wheezing, coughing, wheezing, coughing, wheezing, coughing, wheezing."


def answer(said):
    return dialogue("Can you help me?", said)


# ---- rules of form

NOT = "I'm sorry for any confusion, but as a medical assistant, I only help with health."
BAD = {  # rule: answers, or whole dialogues, that it alone removes
    "no_words": ["… !"],
    "role_marker": [
        *("They are calm.\n" + x for x in ("[|Human|] And dogs?", "[ai] x", "<|im_start|>", "<|USER|>", "  User : hi")),
        "### Response",
        [QUESTION, ANSWER, "You are a helpful assistant. Can you help me with this?", "Gladly."],
    ],
    "refusal": [
        "I'm sorry, but I can't help with cats.",
        "I’m sorry, but I can’t assist.",
        "I cannot answer that.",
        "I'm afraid I'm unable to list any cats.",
        "Sorry, but I'm not equipped to handle cats.",
        NOT,
    ],
    "as_an_ai": ["As an AI language model, I have no cat.", "Well, I'm just an AI."],
    "thoughts": [
        "<think>Cats … calm?</think>They are calm.",
        "Okay, so the user is asking about cats. They are calm.",
        "Let me think about this. Cats purr when they are calm.",
        "It is so.\n◁think▷ Is it?",
        "<|channel|>analysis A question on cats.",
    ],
    "loop": [LOOP],
    "same_again": [[QUESTION, ANSWER, "And at night?", ANSWER]],
    "not_a_question": [
        [QUESTION, ANSWER, "You can also watch how the tail moves.", "Yes, tails tell a lot."],
        [QUESTION, ANSWER, " ".join(f"w{i}" for i in range(61)), "Yes."],
    ],
    "echo": [["Explain why the sky is blue.", "The sky is blue."]],
    "cut_off": ["They purr because of the", "the", WHY + "One idea is that the sound helps their bones to grow"],
    "personal_data": ["Ask jane@somewhere.org."],
    "toxic": ["Shut up!"],
}


@pytest.mark.parametrize(("rule", "said"), [(rule, said) for rule, found in BAD.items() for said in found])
def test_a_fault_is_removed_by_its_rule_alone(rule, said):
    bad = dialogue(*said) if isinstance(said, list) else dialogue(QUESTION, said)
    cleaned = corpus.clean([bad, dialogue(QUESTION, ANSWER, id="good")])
    assert [d.id for d in cleaned.kept] == ["good"] and [r.rule for r in cleaned.removed] == [rule]
    assert cleaned.removed[0].why == getattr(cleaning, rule)(bad)


@pytest.mark.parametrize(
    "said",
    [
        "Use a slice:\n\n```python\nx = [1, 2]\nprint(x[::-1])\n```",
        "It depends on what the user wants: speed or room.",
        "The user\n: a list [of humans] ###",
        "I am sorry to hear that. Rest, and drink a lot of water.",
        "Sorry for the confusion: cats purr. As a vet, I see it each day.",
        "猫は落ち着いているとき、のどを鳴らします。",
        "She works as an AI engineer. As an aid, use salt. It was a Thai ai dish.",
        "I can help you with that.",
        "I think that the user of a drill needs glasses. <thin> is no tag. First, we need to boil water.",
        WHY + "One idea is that the sound helps their bones.",
        WHY + "Ideas:\n\n- the sound helps their bones to grow well again",
        WHY + "Try this:\n\nprint(purr)\nx = y",
        "Write to user@example.com or a@b.test. The @property decorator, e.g. x@y, a @ b.",
        "4111 1111 1111 1112 and DE89 3704 0044 0532 0130 01",
        "In 2024-01-01 00:00:00.000000 and 1700000000000 ms.",
        "0.123456789012345678 and 192.168.100.200, 10/12/2023 - 11/12/2023; x = 00101101110 + 12345678.",
        "a right skirt, a task-force, sk-learn",
        "Kill the process yourself, and shut it. Go up.",
    ],
)
def test_ordinary_answers_are_kept(said):
    assert corpus.clean([answer(said)]).removed == []


def test_the_rules_let_every_seed_and_every_reference_of_the_course_pass():
    lines = [json.loads(x) for f in sorted((common.DATA / "seeds").glob("*.jsonl")) for x in f.open(encoding="utf-8")]
    pool = [dialogue(x["text"], x.get("reference") or "Yes.", id=x["id"]) for x in lines]
    assert len(pool) > 900
    assert [(d.id, rule.__name__) for d in pool for rule in corpus.RULES if rule(d)] == []


@pytest.mark.parametrize("limit", [0.0, 0.3, 0.6, 0.9])
def test_loop_same_again_and_echo_are_what_the_measures_say(limit):
    rng = random.Random(limit)
    for _ in range(100):
        said = [" ".join(rng.choices(["a", "b", "c"], k=rng.randrange(1, 9))) for _ in range(6)]
        pairs = [(i, j) for i in range(6) for j in range(i) if (i - j) % 2 == 0]
        again = any(corpus.overlap(said[i], said[j]) > limit for i, j in pairs)
        assert bool(cleaning.same_again(dialogue(*said), limit)) == again
        echoes = [corpus.contained(said[i + 1], said[i]) > limit for i in (0, 2, 4)]
        assert bool(cleaning.echo(dialogue(*said), limit)) == any(echoes)
        assert bool(cleaning.loop(dialogue(*said), limit)) == any(corpus.repeated_share(x) > limit for x in said)


# ---- rules of content


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Write to jane.doe@mail.somewhere.org.", "e-mail"),
        ("My number is +49 30 12345678.", "phone"),
        ("Call (212) 555-7890 2 times.", "phone"),
        ("Card: 4111-1111-1111-1111", "card"),
        ("Pay to DE89 3704 0044 0532 0130 00 NOW", "IBAN"),
        ("GB82WEST12345698765432", "IBAN"),
        ("key = sk-proj-abcdefghijklmnopqrstuvwx", "key"),
        ("-----BEGIN RSA PRIVATE KEY-----", "key"),
        ("token ghp_abcdefghijklmnopqrstuvwxyz0123456789", "key"),
    ],
)
def test_personal_data_is_found_and_not_repeated(said, kind):
    why = cleaning.personal_data(answer(said))
    assert kind in why and why.startswith("message 2")
    assert not any(part in why for part in said.split() if len(part) > 3 and any(c.isdigit() or c == "@" for c in part))


TEXTS = {
    "en": "The heart is a muscle that pumps blood to all of the body, and it is in the chest.",
    "de": "Das Herz ist ein Muskel, der das Blut in den ganzen Körper pumpt, und es liegt in der Brust.",
    "fr": "Le cœur est un muscle qui pompe le sang dans tout le corps, et il est dans la poitrine.",
    "pt": "O coração é um músculo que bombeia o sangue para todo o corpo e não para no peito de uma pessoa.",
    "ru": "Сердце это мышца, которая качает кровь по всему телу.",
    "ja": "心臓は全身に血液を送り出す筋肉です。",
}


def test_languages_are_told_apart():
    pairs = [(expected, written) for expected in TEXTS for written in TEXTS]
    assert [p for p in pairs if bool(cleaning.wrong_language(answer(TEXTS[p[1]]), p[0])) != (p[0] != p[1])] == []
    for said in ("Bonjour!", "```python\nfor i in range(10):\n    print(i)\n```", "non " * 8, "42"):
        assert cleaning.wrong_language(answer(said)) == "", "short texts and code get no verdict"
    with pytest.raises(CourseError, match="'tlh' is no language"):
        cleaning.wrong_language(answer("nuqneH"), expected="tlh")


def test_drift():
    start = (QUESTION, "They are calm.")
    assert cleaning.drift(dialogue(*start, "Do cats purr in pain?", "Some.")) == ""
    assert "question 2" in cleaning.drift(dialogue(*start, "How is concrete mixed?", "With water."))


def test_the_table_counts_hits_and_what_only_one_rule_sees():
    said = {"two": LOOP[:-1] + " and", "one": "Because of the", "fine": "So."}
    pool = [dialogue("Why?", x, id=name) for name, x in said.items()]
    table = corpus.rule_table(pool, [cleaning.loop, cleaning.cut_off, cleaning.echo])
    assert table[["hits", "only"]].values.tolist() == [[1, 0], [2, 1], [0, 0]]
    assert table.share.tolist() == pytest.approx([1 / 3, 2 / 3, 0])
    assert table.example["cut_off"].startswith("two: message 2 ends") and table.example["echo"] == ""
    found = {"cut_off": {d.id: cleaning.cut_off(d) for d in pool[:2]}}
    assert corpus.findings(pool, [cleaning.cut_off]) == found


def test_another_limit_keeps_the_rules_name_and_suspicions_remove_only_when_asked():
    said = "To plant basil, fill a pot with soil. To plant mint, fill a pot with soil. Water both."
    strict = functools.partial(cleaning.loop, limit=0.15)
    assert [r.rule for r in corpus.clean([answer(said)], [strict]).removed] == ["loop"]
    german = dialogue("How is it?", TEXTS["de"])
    assert corpus.clean([answer(said), german]).removed == []
    assert [r.rule for r in corpus.clean([german], corpus.SUSPICIONS).removed] == ["wrong_language"]


def test_the_first_good_copy_is_kept_and_copies_are_told_apart():
    wool = "Wool keeps its warmth when it is wet, because its fibres hold air in small pockets between them"
    said = {"cut": wool + " and", "a": wool + ".", "c": wool + ".", "d": wool + " always."}
    pool = [dialogue("Why wool?", x, id=name) for name, x in said.items()]
    cleaned = corpus.clean([*pool, dialogue("Why ice?", "It floats.", id="b")])
    assert [d.id for d in cleaned.kept] == ["a", "b"]
    assert cleaned.counts() == {"cut_off": 1, "exact_duplicate": 1, "near_duplicate": 1}
    assert [r.why.split()[-1] for r in cleaned.removed[1:]] == ["a", "a"]
    ((first, copies),) = corpus.clusters(pool[1:])
    assert first.id == "a" and [d.id for d, _ in copies] == ["c", "d"]
    assert copies[0][1] == 1 and 0.7 < copies[1][1] < 1


def test_few_of_the_shipped_dialogues_are_removed_and_written_with_the_reason(tmp_path):
    shipped = corpus.read(common.DATA / "corpus" / "corpus.jsonl")
    cleaned = corpus.clean(shipped)
    assert 0 < len(cleaned.removed) < len(shipped) / 5
    path = corpus.write_removed(cleaned.removed, tmp_path / "removed.jsonl")
    assert corpus.read(path) == [r.dialogue for r in cleaned.removed]
    line, first = json.loads(path.read_text().split("\n")[0]), cleaned.removed[0]
    assert (line["removed_by"], line["why"]) == (first.rule, first.why)
    assert corpus.clean(cleaned.kept).kept == cleaned.kept


def test_words_are_folded_and_keep_their_marks():
    assert corpus.words("Don't stop, 2 cats: 猫犬") == ["don", "t", "stop", "2", "cats", "猫", "犬"]
    assert corpus.words("हिन्दी में") == ["हिन्दी", "में"] and len(corpus.words("ล้าง ฯ។")) == 4
    assert corpus.words("ＷＨＡＴ ｉｓ") == ["what", "is"]
    assert corpus.words(unicodedata.normalize("NFD", "Käse über")) == ["käse", "über"]
    assert text.content_words("The vaccines, a vaccination and 3 doses of it") == {"vaccin": 2, "dose": 1}


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=30), st.text(max_size=30))
def test_measures_of_any_text(a, b):
    assert corpus.words(a + " 猫")[:-1] == corpus.words(a), "ASCII is read by another way"
    assert 0 <= corpus.overlap(a, b) == corpus.overlap(b, a) <= 1 == corpus.overlap(a, a)
    assert corpus.repeated_share("a b c a b c") == pytest.approx(1 / 4)
    assert corpus.repeated_share("one two") == corpus.repeated_share("") == 0


def test_hidden_characters_are_marked_or_removed_and_emoji_flags_and_joiners_stay():
    flag = "\U0001f3f4" + "".join(chr(0xE0000 + ord(c)) for c in "gbsct") + "\U000e007f"
    for said in (flag, "👨‍👩‍👧", "🏴‍☠️", "❤️", "1️⃣", "👍🏽", "می‌خواهم", "สวัสดี\u200bครับ"):
        assert text.mark_hidden(said) == text.remove_hidden(said) == said
    said = "a\u200bb\u202e\U000e0061" + flag[:-1]
    assert text.mark_hidden(said).startswith("a⟨U+200B⟩b⟨U+202E⟩⟨U+E0061⟩") and text.mark_hidden(said).count("⟨") == 8
    assert text.remove_hidden(said + "שלום\u200f Donau\u00ad") == "ab🏴שלום Donau"
