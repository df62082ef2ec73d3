"""Nothing of the test is in the training: not by seed, not by near duplicate, not word for word."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smalltalk import dialogue

from baize_nb import corpus
from baize_nb.common import CourseError
from baize_nb.corpus import cleaning


def text(rng, n, vocabulary=5000):
    return " ".join(f"w{rng.randrange(vocabulary)}" for _ in range(n))


def changed(said, rng, n):
    said = said.split()
    for i in rng.sample(range(len(said)), n):
        said[i] = "other"
    return " ".join(said)


def pool(n=60, seed=0):
    """n unlike dialogues; of every third a near copy, of every tenth a dialogue with nearly the same seed."""
    rng, made = random.Random(seed), []
    for i in range(n):
        question, answer = text(rng, 12), text(rng, 60)
        made.append(dialogue(question, answer, id=f"d-{i}", seed=question))
        if i % 3 == 0:
            made.append(dialogue(text(rng, 3), changed(answer, rng, 1), id=f"copy-{i}"))
        if i % 10 == 0:
            made.append(dialogue(text(rng, 12), text(rng, 60), id=f"seed-{i}", seed=question + " please"))
    return made


def unlike(n, source="s"):
    rng = random.Random(source)
    return [dialogue(text(rng, 12), text(rng, 12), id=f"{source}-{i:03d}", source=source) for i in range(n)]


# ---- near duplicates, beside comparing every pair


def pairs(dialogues, threshold):
    said = ["\n".join(m["content"] for m in d.messages) for d in dialogues]
    near = ((i, j) for i in range(len(said)) for j in range(i))
    return {(i, j) for i, j in near if corpus.overlap(said[i], said[j]) >= threshold}


def linked(dialogues, threshold):
    found = cleaning.similar(dialogues, cleaning.whole_text, threshold, lambda i, found: 1 not in found.values())
    return cleaning.connected([(i, j) for i, earlier in found for j in earlier])


@pytest.mark.parametrize("threshold", [0.6, 0.7, 0.9])
def test_linked_are_the_components_of_all_pairs(threshold):
    rng, dialogues = random.Random(1), []
    for i in range(25):
        answer = text(rng, 40)
        for k in range(rng.randint(1, 5)):
            dialogues.append(dialogue("?", changed(answer, rng, k // 2), id=f"{i}-{k}"))
    rng.shuffle(dialogues)
    found = linked(dialogues, threshold)
    assert found == cleaning.connected(pairs(dialogues, threshold)) and len(set(found.values())) > 10


SHORT = st.lists(st.sampled_from("ab "), max_size=8).map("".join)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(SHORT, SHORT), max_size=12))
def test_short_and_empty_texts_are_compared_too(said):
    dialogues = [dialogue(a, b, id=str(i)) for i, (a, b) in enumerate(said)]
    exact = pairs(dialogues, 1.0)
    assert set(corpus.near_duplicates(dialogues, 1.0)) == {i for i, _ in exact}
    assert linked(dialogues, 1.0) == cleaning.connected(exact)


def test_similarity_is_the_exact_one_and_a_file_gives_what_its_list_gives(tmp_path):
    dialogues = pool()
    for i, (j, share) in corpus.near_duplicates(dialogues, 0.5).items():
        a, b = ("\n".join(m["content"] for m in dialogues[k].messages) for k in (i, j))
        assert share == corpus.overlap(a, b)
    found = corpus.near_duplicates(dialogues)
    stream = corpus.stream(corpus.write(dialogues, tmp_path / "x.jsonl"))
    sketches = corpus.sketch(dialogues)
    assert len(found) == 20 and sketches.shape == (len(dialogues), 32)
    for same in (stream, iter(dialogues)):
        assert corpus.near_duplicates(same) == found
    assert corpus.near_duplicates(dialogues, sketches=sketches) == found
    taken = corpus.heldout_positions(stream, 20)
    assert sorted(dialogues[i].id for i in taken) == [d.id for d in corpus.split(dialogues, 20)[1]]
    assert corpus.heldout_positions(dialogues, 20, sketches=sketches) == taken


def test_ten_thousand_copies_are_found_without_comparing_all_pairs():
    dialogues = [dialogue("why", "because it is so and not otherwise", id=str(i)) for i in range(10_000)]
    assert len(corpus.near_duplicates(dialogues)) == 9_999
    assert linked(dialogues, 0.7) == dict.fromkeys(range(10_000), 0)


COPIES = {  # one word changed
    "Thai": ("เติมน้ำอุ่นและน้ำยาล้างจานเล็กน้อยลงในกระทะแล้วทิ้งไว้สิบนาทีจากนั้นเช็ดด้วยผ้านุ่ม", "อุ่น", "ร้อน"),
    "Khmer": ("ចាក់ទឹកក្តៅឧណ្ហៗនិងសាប៊ូបន្តិចចូលក្នុងខ្ទះហើយទុកដប់នាទីបន្ទាប់មកជូតដោយក្រណាត់ទន់", "ដប់", "ប្រាំ"),
    "Japanese": (
        "フライパンにぬるま湯と少しの洗剤を入れて十分ほど置き、それから柔らかい布で拭いてください。",
        "ぬるま湯",
        "お湯",
    ),
    "Hindi": ("कड़ाही में गुनगुना पानी और थोड़ा साबुन डालें, दस मिनट छोड़ दें, फिर नरम कपड़े से पोंछें जब वह चमके।", "दस", "बीस"),
}


@pytest.mark.parametrize("language", COPIES)
def test_near_copies_are_found_in_scripts_without_spaces_or_with_marks(language):
    said, word, other = COPIES[language]
    assert word in said
    assert corpus.near_duplicates([dialogue("?", said), dialogue("?", said.replace(word, other, 1))])
    assert not corpus.near_duplicates([dialogue("🎉", "😀"), dialogue("???", "!!!"), dialogue("👍", "👎")])
    assert corpus.near_duplicates([dialogue("🎉", "😀"), dialogue("🎉", "😀")])


@settings(deadline=None, max_examples=40)
@given(counts=st.lists(st.integers(1, 12), min_size=1, max_size=4), seed=st.integers(0, 5), data=st.data())
def test_split_is_exact_even_and_deaf_to_order(counts, seed, data):
    pool = [d for i, n in enumerate(counts) for d in unlike(n, f"source-{i}")] + unlike(1, "more")
    heldout = data.draw(st.integers(1, len(pool) - 1))
    train, kept = corpus.split(pool, heldout, seed)
    assert len(kept) == heldout and sorted(d.id for d in train + kept) == sorted(d.id for d in pool)
    for i, n in enumerate(counts):
        share = heldout * n / len(pool)
        assert share - 1 < sum(d.source == f"source-{i}" for d in kept) < share + 1
    assert corpus.split(data.draw(st.permutations(pool)), heldout, seed) == (train, kept)


@pytest.mark.parametrize("seed", range(4))
def test_a_split_leaks_nothing(seed):
    dialogues = pool(seed=seed)
    train, heldout = corpus.split(dialogues, 25, seed)
    assert len(train) + len(heldout) == len(dialogues) and 20 <= len(heldout) <= 25
    assert not corpus.leakage(train, heldout)
    careless = corpus.leakage(*corpus.split(dialogues, 25, seed, near=None))
    assert careless.near and careless.near_seeds and not careless.seeds
    assert corpus.split(random.Random(5).sample(dialogues, len(dialogues)), 25, seed) == (train, heldout)


def test_too_few_to_split():
    for heldout in (0, 4, 5):
        with pytest.raises(CourseError, match="4 dialogues"):
            corpus.split(unlike(4), heldout)
    with pytest.raises(CourseError, match="1 different seeds"):
        corpus.split([dialogue("a", "b", id="1"), dialogue("a", "b", id="2")], 1)


def test_leakage_names_both_sides():
    rng = random.Random(0)
    answers, seeds = ([text(rng, n) for _ in range(4)] for n in (60, 12))
    train = [dialogue(s, a, id=f"t-{i}", seed=s) for i, (s, a) in enumerate(zip(seeds, answers, strict=True))]
    heldout = [
        dialogue("same seed", text(rng, 60), id="h-0", seed="  " + seeds[0].upper()),
        dialogue("near seed", text(rng, 60), id="h-1", seed=seeds[1] + " please"),
        dialogue(seeds[2], changed(answers[2], rng, 2), id="h-2", seed=text(rng, 12)),
        dialogue("clean", text(rng, 60), id="h-3", seed=text(rng, 12)),
    ]
    leak = corpus.leakage(train, heldout)
    assert leak.seeds == [("t-0", "h-0", 1)]
    assert leak.near_seeds == [("t-1", "h-1", pytest.approx(10 / 11))]
    assert [(a, b) for a, b, _ in leak.near] == [("t-2", "h-2")] and 0.7 <= leak.near[0][2] < 1
    said = str(leak)
    assert leak and "4 dialogues to train on, 4 held out" in said and "same seed: 1 of the held-out" in said
    assert "h-2 ← t-2 (" in said and not corpus.leakage(train, heldout[3:])


def test_prompts_are_found_word_for_word():
    prompt = "Explain to a child of ten why the sky is blue and not green, please."
    quoted = "They asked: explain to a child of TEN why the sky\nis blue; nothing else."
    said = {"a": ("Hello?", quoted), "b": ("hi", "why the sky is blue"), "c": ("Write a poem", "No.")}
    dialogues = [dialogue(*pair, id=name) for name, pair in said.items()]
    prompts = [prompt, "Write a poem!", "why the sky", "something else altogether"]
    found = corpus.prompt_overlap(iter(dialogues), prompts)
    assert found == {0: (4 / 8, "a", "a child of ten why the sky is"), 1: (1, "c", "write a poem")}
    assert set(corpus.prompt_overlap(dialogues, [prompt], n=5)) == {0}
    assert not corpus.prompt_overlap(dialogues, ["nothing of the kind has ever been said here by anybody"])
