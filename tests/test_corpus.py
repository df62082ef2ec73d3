"""The corpus: what is read is what was written, faults are named, rules object to faults and to nothing else."""

import json
import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baize_nb import common, corpus, plots
from baize_nb.common import CourseError
from baize_nb.corpus import Dialogue, rules
from baize_nb.plots import corpus as figures

QUESTION, ANSWER = "Why do cats purr?", "They purr when they are calm, and sometimes when they are hurt."


def talk(*contents, name="d-1", seed=None, source="quora-style"):
    """A dialogue of these messages, user first."""
    messages = [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(contents)]
    seed = contents[0] if seed is None else seed
    return Dialogue(name, seed, source, "Apache-2.0", "open-header", "m", messages, {"requests": 3}, "max_turns")


def many(n, source="quora-style"):
    """n dialogues about different things, so that no two are near duplicates."""
    rng = random.Random(source)
    nonsense = lambda: " ".join("".join(rng.choices(string.ascii_lowercase, k=6)) for _ in range(12))  # noqa: E731
    return [talk(nonsense() + "?", nonsense() + ".", name=f"{source}-{i:03d}", source=source) for i in range(n)]


# ---- store


def test_what_is_written_is_read(tmp_path):
    dialogues = [talk(QUESTION, ANSWER), talk("Zwei\nZeilen?\r\n", 'Ja: "ü" \u2028 [x] 猫', name="d-2")]
    path = corpus.write(dialogues, tmp_path / "corpus.jsonl")
    assert corpus.read(path) == dialogues
    assert len(path.read_bytes().split(b"\n")) == 3


@settings(deadline=None)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=6).filter(lambda x: len(x) % 2 == 0))
def test_any_text_survives_a_line(contents):
    dialogue = talk(*contents)
    line = dialogue.to_json()
    assert "\n" not in line
    assert Dialogue.from_json(line) == dialogue


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"id": "b", "messages": ', "torn"),
        ('{"id": "b", "messages": \n', "not JSON"),
        ("[1]\n", "not an object"),
        ('{"id": "b"}\n', "no messages"),
        ('{"messages": [{"role": "user", "content": "x"}]}\n', "no id"),
        ('{"id": 7, "messages": [{"role": "user", "content": "x"}]}\n', "'id' is a int"),
        ('{"id": "b", "messages": [{"role": "assistant", "content": "x"}]}\n', "expected 'user'"),
        ('{"id": "b", "messages": [{"role": "user", "content": "x"}]}\n', "no answer"),
        ('{"id": "b", "messages": ["hello", "you"]}\n', "message 0"),
        ('{"id": "d-1", "messages": [{"role":"user","content":"x"},{"role":"assistant","content":"y"}]}\n', "line 1"),
    ],
)
def test_a_faulty_line_is_named(tmp_path, line, expected):
    path = tmp_path / "corpus.jsonl"
    path.write_text(talk(QUESTION, ANSWER).to_json() + "\n\n" + line)
    with pytest.raises(CourseError, match=r"corpus\.jsonl:3: .*" + expected):
        corpus.read(path)


def test_a_missing_file_and_a_binary_file_are_named(tmp_path):
    with pytest.raises(CourseError, match=r"Cannot read .*none"):
        corpus.read(tmp_path / "none.jsonl")
    (tmp_path / "x.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CourseError, match="not UTF-8"):
        corpus.read(tmp_path / "x.jsonl")


def test_a_failed_write_leaves_the_old_corpus(tmp_path):
    path = corpus.write([talk(QUESTION, ANSWER)], tmp_path / "corpus.jsonl")
    before = path.read_bytes()
    with pytest.raises(AttributeError):
        corpus.write([talk("new?", "yes."), None], path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["corpus.jsonl"]


# ---- rules

BAD = {
    "no_words": [QUESTION, "… !"],
    "role_marker": [QUESTION, "They are calm. [|Human|] And dogs?"],
    "refusal": [QUESTION, "I'm sorry, but I can't help with cats."],
    "as_an_ai": [QUESTION, "As an AI language model, I do not have a cat."],
    "loop": [QUESTION, "Signs are coughing, wheezing, coughing, wheezing, coughing, wheezing, coughing, wheezing."],
    "same_again": [QUESTION, ANSWER, "And at night?", ANSWER],
    "not_a_question": [QUESTION, ANSWER, "You can also watch how the tail moves.", "Yes, tails tell a lot."],
    "echo": ["Explain why the sky is blue.", "The sky is blue."],
    "cut_off": [QUESTION, "They purr because of the"],
    "personal_data": [QUESTION, "Ask jane@somewhere.org."],
    "toxic": [QUESTION, "Shut up!"],
}


@pytest.mark.parametrize("rule", corpus.RULES, ids=lambda rule: rule.__name__)
def test_each_rule_finds_its_fault_and_lets_the_others_pass(rule):
    assert rule(talk(*BAD[rule.__name__]))
    assert rule(talk(QUESTION, ANSWER, "Do dogs do that too?", "No, dogs do not.")) == ""


@pytest.mark.parametrize("name", BAD)
def test_clean_names_the_rule(name):
    cleaned = corpus.clean([talk(*BAD[name]), talk(QUESTION, ANSWER, name="good")])
    assert [d.id for d in cleaned.kept] == ["good"]
    assert [r.rule for r in cleaned.removed] == [name]


@pytest.mark.parametrize(
    "text",
    [
        "Mix flour and water.\n\n- flour\n- water\n- salt",
        "Use a slice:\n\n```python\nx = [1, 2]\nprint(x[::-1])\n```",
        "It depends on what the user wants: speed or room.",
        "No, no, no. That is a heron, not a snail.",
        "I am sorry to hear that. Rest, and drink a lot of water.",
        "猫は落ち着いているとき、のどを鳴らします。",
    ],
)
def test_ordinary_answers_are_kept(text):
    assert corpus.clean([talk(QUESTION, text)]).removed == []


def test_the_rules_let_every_seed_and_every_reference_of_the_course_pass():
    lines = [json.loads(x) for f in sorted((common.DATA / "seeds").glob("*.jsonl")) for x in f.open(encoding="utf-8")]
    pool = [talk(x["text"], x.get("reference") or "Yes.", name=x["id"]) for x in lines]
    assert len(pool) > 900
    assert [(d.id, rule.__name__) for d in pool for rule in corpus.RULES if rule(d)] == []


def test_the_seed_may_look_like_anything():
    assert rules.cut_off(talk("What is the volatile keyword for", ANSWER)) == ""
    assert rules.not_a_question(talk("word " * 200, ANSWER)) == ""
    assert rules.not_a_question(talk(QUESTION, ANSWER, "word " * 61, "Yes.")) == "user turn 2 is 61 words long"


def test_limits_can_be_changed():
    said = "To plant basil, fill a pot with soil. To plant mint, fill a pot with soil. Water both."
    assert rules.loop(talk(QUESTION, said)) == ""
    assert "19%" in rules.loop(talk(QUESTION, said), limit=0.15)


# ---- measures


def test_repeated_share_counts_trigrams():
    assert corpus.repeated_share("") == 0
    assert corpus.repeated_share("one two") == 0
    assert corpus.repeated_share("a b c a b c") == pytest.approx(1 / 4)
    assert corpus.words("Don't stop, 2 cats: 猫犬") == ["don", "t", "stop", "2", "cats", "猫", "犬"]


@settings(deadline=None)
@given(st.text(), st.text())
def test_overlap_is_a_similarity(a, b):
    assert 0 <= corpus.overlap(a, b) <= 1
    assert corpus.overlap(a, b) == corpus.overlap(b, a)
    assert corpus.overlap(a, a) == 1


# ---- duplicates


def test_the_first_of_near_duplicates_is_kept():
    words = [f"word{i}" for i in range(60)]
    near = [*words[:30], "other", *words[31:]]
    far = [w if i % 4 else "x" for i, w in enumerate(words)]
    texts = [" ".join(w) for w in (words, near, far, words)]
    cleaned = corpus.clean([talk(f"About {i}?", text, name=f"d-{i}") for i, text in enumerate(texts)], rules=())
    assert [d.id for d in cleaned.kept] == ["d-0", "d-2"]
    assert [(r.dialogue.id, r.rule) for r in cleaned.removed] == [("d-1", "near_duplicate"), ("d-3", "near_duplicate")]
    assert "d-0" in cleaned.removed[0].why


def test_minhash_finds_what_comparing_all_pairs_finds():
    rng = random.Random(0)
    base = many(40)
    copies = []
    for i, d in enumerate(base):
        said = d.messages[1]["content"].split()
        said[rng.randrange(12)] = "changed"
        copies.append(talk(d.messages[0]["content"], " ".join(said), name=f"copy-{i}"))
    pool = [*base, *copies]
    texts = ["\n".join(m["content"] for m in d.messages) for d in pool]
    pairs = {j: i for i in range(40) for j in range(40, 80) if corpus.overlap(texts[i], texts[j]) >= 0.7}
    assert len(pairs) > 20
    assert {i: first for i, (first, _) in corpus.near_duplicates(pool).items()} == pairs


def test_a_bad_first_copy_does_not_cost_the_good_second():
    long = "Wool keeps its warmth when it is wet, because its fibres hold air in small pockets between them"
    cleaned = corpus.clean([talk("Why wool?", long + " and", name="bad"), talk("Why wool?", long + ".", name="good")])
    assert [d.id for d in cleaned.kept] == ["good"]


def test_removed_is_written_with_its_reason(tmp_path):
    cleaned = corpus.clean([talk(*BAD["echo"])])
    path = corpus.write_removed(cleaned.removed, tmp_path / "removed.jsonl")
    line = json.loads(path.read_text())
    assert line["removed_by"] == "echo" and "stands in its question" in line["why"]
    assert corpus.read(path) == [cleaned.removed[0].dialogue]


# ---- counting


def test_stats_count_words_and_turns():
    one = talk("a b", "c d e f", source="quora-style")
    two = talk("a", "b", "c", "d", name="d-2", source="medquad-style")
    two.usage["trimmed"], two.end = 1, "no_question"
    table = corpus.stats([one, two])
    assert list(table.index) == ["medquad-style", "quora-style", "all"]
    assert table.loc["all", ["dialogues", "turns", "user words", "assistant words"]].tolist() == [2, 1.5, 4 / 3, 2]
    assert table.loc["medquad-style", ["trimmed answers", "ended by limit"]].tolist() == [0.5, 0]


def test_the_papers_figures_stand_beside_their_source():
    table = corpus.beside_paper(corpus.stats([talk(QUESTION, ANSWER), talk(QUESTION, ANSWER, name="x", source="own")]))
    assert table.loc["quora-style", "paper dialogues"] == 54_456
    assert table.loc[["own", "all"], "paper length"].isna().all()


def test_ends_are_counted():
    assert corpus.ends([talk("a", "b"), talk("a", "b"), Dialogue("x")]) == {"max_turns": 2, "(not said)": 1}


# ---- split


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    seed=st.integers(0, 5),
    data=st.data(),
)
def test_split_is_exact_even_and_deaf_to_order(counts, seed, data):
    pool = [d for i, n in enumerate(counts) for d in many(n, f"source-{i}")]
    pool += many(1, "more")
    heldout = data.draw(st.integers(1, len(pool) - 1))
    train, kept = corpus.split(pool, heldout, seed)
    assert len(kept) == heldout
    assert sorted(d.id for d in train + kept) == sorted(d.id for d in pool)
    for i, n in enumerate(counts):
        share = heldout * n / len(pool)
        assert share - 1 < sum(d.source == f"source-{i}" for d in kept) < share + 1
    shuffled = data.draw(st.permutations(pool))
    assert corpus.split(shuffled, heldout, seed) == (train, kept)


def test_a_seed_stays_on_one_side_however_it_is_written():
    pool = many(10)
    for d in list(pool):
        pool.append(talk(*[m["content"] for m in d.messages], name="again-" + d.id, seed="  " + d.seed.upper()))
    for seed in range(20):
        train, heldout = corpus.split(pool, 5, seed)
        assert not {corpus.seed_key(d) for d in train} & {corpus.seed_key(d) for d in heldout}
        assert len(heldout) == 4


def test_another_seed_makes_another_choice():
    choices = {tuple(d.id for d in corpus.split(many(30), 5, seed)[1]) for seed in range(10)}
    assert len(choices) > 5


@pytest.mark.parametrize("heldout", [0, 4, 5])
def test_too_few_to_split(heldout):
    with pytest.raises(CourseError, match="4 dialogues"):
        corpus.split(many(4), heldout)


def test_one_seed_cannot_be_split():
    pool = [talk(QUESTION, ANSWER, name="a"), talk(QUESTION, ANSWER, name="b")]
    with pytest.raises(CourseError, match="1 different seeds"):
        corpus.split(pool, 1)


# ---- formats


def test_baize_files_go_there_and_back(tmp_path):
    pool = [talk(QUESTION, ANSWER, "And\ndogs?", "No."), talk("b?", "c", name="d-2")]
    path = corpus.write_baize(pool, tmp_path / "quora.json")
    entry = json.loads(path.read_text())[0]
    assert entry["topic"] == QUESTION
    assert entry["input"].endswith("\n[|Human|] ") and "[|AI|] No.\n" in entry["input"]
    back = corpus.read_baize(path)
    assert [(d.seed, d.messages) for d in back] == [(d.seed, d.messages) for d in pool]
    assert (back[0].id, back[0].source, back[0].end) == ("quora-000001", "quora", "")


def test_a_released_file_is_read(tmp_path):
    path = tmp_path / "quora_chat_data.json"
    whole = "A talk.\n[|Human|] Hi\n[|AI|] Hello!\n[|Human|] Why?\n[|AI|] So.\n[|Human|] "
    broken = "A talk.\n[|Human|] Hi\n[|AI|] Hello!\n[|AI|] Again!\n[|Human|] "
    path.write_text(json.dumps([{"topic": "t", "input": whole}, {"topic": "u", "input": broken}]))
    one, two = corpus.read_baize(path, source="quora", license="unknown")
    assert (one.turns, one.end, one.source, one.license) == (2, "", "quora", "unknown")
    assert two.turns == 1 and "follows no human turn" in two.end


def test_entries_without_an_exchange_are_named_not_dropped(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"topic": "t", "input": "[|Human|] Hi\n[|AI|] Yes"}, {"topic": "u"}, 7]))
    with pytest.raises(CourseError, match=r"2 of 3 entries.*entry 2, 3"):
        corpus.read_baize(path)
    assert len(corpus.read_baize(path, skip_faulty=True)) == 1
    path.write_text("{}")
    with pytest.raises(CourseError, match="not a list"):
        corpus.read_baize(path)


def test_markers_in_the_text_come_back_as_text(tmp_path):
    pool = [talk(QUESTION, "Yes.\n[|Human|] And?\n[|AI|] No.")]
    back = corpus.read_baize(corpus.write_baize(pool, tmp_path / "x.json"))
    assert [d.messages for d in back] == [d.messages for d in pool]


def test_sharegpt(tmp_path):
    path = corpus.write_sharegpt([talk("a?", "b")], tmp_path / "x.json")
    turns = [{"from": "human", "value": "a?"}, {"from": "gpt", "value": "b"}]
    assert json.loads(path.read_text()) == [{"id": "d-1", "conversations": turns}]


def test_plain_messages_are_read_and_faults_named(tmp_path):
    path = tmp_path / "chat.jsonl"
    system = {"role": "system", "content": "Be kind."}
    lines = [{"messages": [system, *talk("a\u2028?", "b").messages]}, {"messages": talk("c?", "d").messages}]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    assert [d.said_by("user") for d in corpus.read_messages(path)] == [["a\u2028?"], ["c?"]]
    path.write_text(path.read_text(encoding="utf-8") + '{"messages": []}\n', encoding="utf-8")
    with pytest.raises(CourseError, match=r"chat\.jsonl:3"):
        corpus.read_messages(path)


# ---- figures


@pytest.mark.parametrize(
    "figure",
    [
        lambda: figures.turns({2: 14, 4: 1}),
        lambda: figures.words_by_role([3, 9, 12], [20, 40, 95]),
        lambda: figures.counts({"max_turns": 14, "no_question": 2}, "Why dialogues end"),
        lambda: figures.removed({"loop": 3}, kept=12),
        lambda: figures.repetition([0, 0.1, 0.7], 0.3),
        lambda: figures.turns({}),
        lambda: figures.words_by_role([], []),
        lambda: figures.removed({}, kept=0),
    ],
)
def test_figures_draw_with_much_and_with_nothing(figure):
    drawn = figure()
    assert plots.png(drawn).startswith(b"\x89PNG")
    assert all(ax.get_xlabel() for ax in drawn.axes)
