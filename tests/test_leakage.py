"""Nothing of the test is in the training: not by seed, not by near duplicate, not word for word."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baize_nb import corpus
from baize_nb.corpus import Dialogue, duplicates


def talk(question, answer, name, seed="", source="s"):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return Dialogue(name, seed, source, messages=messages)


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
        made.append(talk(question, answer, f"d-{i}", question))
        if i % 3 == 0:
            made.append(talk(text(rng, 3), changed(answer, rng, 1), f"copy-{i}"))
        if i % 10 == 0:
            made.append(talk(text(rng, 12), text(rng, 60), f"seed-{i}", question + " please"))
    return made


# ---- near duplicates, beside comparing every pair


def pairs(dialogues, threshold):
    said = ["\n".join(m["content"] for m in d.messages) for d in dialogues]
    near = ((i, j) for i in range(len(said)) for j in range(i))
    return {(i, j) for i, j in near if corpus.overlap(said[i], said[j]) >= threshold}


def components(n, links):
    home = list(range(n))
    for i, j in links:
        home = [home[j] if h == home[i] else h for h in home]
    groups = {}
    for i, h in enumerate(home):
        groups.setdefault(h, []).append(i)
    return sorted(group for group in groups.values() if len(group) > 1)


@pytest.mark.parametrize("threshold", [0.6, 0.7, 0.9])
def test_linked_are_the_components_of_all_pairs(threshold):
    rng, dialogues = random.Random(1), []
    for i in range(25):
        answer = text(rng, 40)
        for k in range(rng.randint(1, 5)):
            dialogues.append(talk("?", changed(answer, rng, k // 2), f"{i}-{k}"))
    rng.shuffle(dialogues)
    found = duplicates.linked(dialogues, duplicates.all_words, threshold)
    assert found == components(len(dialogues), pairs(dialogues, threshold))
    assert len(found) > 10


SHORT = st.lists(st.sampled_from("ab "), max_size=8).map("".join)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(SHORT, SHORT), max_size=12))
def test_short_and_empty_texts_are_compared_too(said):
    dialogues = [talk(a, b, str(i)) for i, (a, b) in enumerate(said)]
    exact = pairs(dialogues, 1.0)
    assert set(corpus.near_duplicates(dialogues, 1.0)) == {i for i, _ in exact}
    assert duplicates.linked(dialogues, duplicates.all_words, 1.0) == components(len(dialogues), exact)


def test_similarity_is_the_exact_one():
    dialogues = pool()
    for i, (j, share) in corpus.near_duplicates(dialogues, 0.5).items():
        a, b = ("\n".join(m["content"] for m in dialogues[k].messages) for k in (i, j))
        assert share == corpus.overlap(a, b)
    assert len(corpus.near_duplicates(dialogues)) == 20


def test_a_file_gives_the_duplicates_that_its_list_gives(tmp_path):
    dialogues = pool()
    stream = corpus.stream(corpus.write(dialogues, tmp_path / "x.jsonl"))
    assert (
        corpus.near_duplicates(stream) == corpus.near_duplicates(dialogues) == corpus.near_duplicates(iter(dialogues))
    )
    taken = corpus.heldout_positions(stream, 20)
    assert sorted(dialogues[i].id for i in taken) == [d.id for d in corpus.split(dialogues, 20)[1]]


def test_ten_thousand_copies_are_found_without_comparing_all_pairs():
    dialogues = [talk("why", "because it is so and not otherwise", str(i)) for i in range(10_000)]
    assert len(corpus.near_duplicates(dialogues)) == 9_999
    assert duplicates.linked(dialogues, duplicates.all_words, 0.7) == [list(range(10_000))]


# ---- split


@pytest.mark.parametrize("seed", range(4))
def test_a_split_leaks_nothing(seed):
    dialogues = pool(seed=seed)
    train, heldout = corpus.split(dialogues, 25, seed)
    assert len(train) + len(heldout) == len(dialogues) and 20 <= len(heldout) <= 25
    assert not corpus.leakage(train, heldout)
    careless = corpus.split(dialogues, 25, seed, near=None)
    leak = corpus.leakage(*careless)
    assert leak.near and leak.near_seeds and not leak.seeds


def test_a_split_is_deaf_to_order():
    dialogues = pool()
    shuffled = random.Random(5).sample(dialogues, len(dialogues))
    assert corpus.split(shuffled, 25) == corpus.split(dialogues, 25)


def test_chains_of_likeness_stay_together():
    base = [f"w{i}" for i in range(100)]
    chain = [talk("?", " ".join([*(f"x{k}" for k in range(8 * i)), *base[8 * i :]]), f"c-{i}") for i in range(4)]
    first, last = ("\n".join(m["content"] for m in d.messages) for d in (chain[0], chain[-1]))
    assert corpus.overlap(first, last) < 0.7
    dialogues = [*chain, *pool(20)]
    for seed in range(10):
        _, heldout = corpus.split(dialogues, 8, seed)
        assert sum(d.id.startswith("c-") for d in heldout) in (0, 4)


def test_questions_from_one_mould_are_different_seeds():
    names = ["asthma", "eczema", "anemia", "gout"]
    dialogues = [
        talk("?", text(random.Random(x), 40), x, f"What are the genetic changes related to {x}?") for x in names
    ]
    train, heldout = corpus.split(dialogues, 2)
    assert len(heldout) == 2 and not corpus.leakage(train, heldout)


# ---- reports


def test_leakage_names_both_sides():
    rng = random.Random(0)
    answers = [text(rng, 60) for _ in range(4)]
    seeds = [text(rng, 12) for _ in range(4)]
    train = [talk(s, a, f"t-{i}", s) for i, (s, a) in enumerate(zip(seeds, answers, strict=True))]
    heldout = [
        talk("same seed", text(rng, 60), "h-0", "  " + seeds[0].upper()),
        talk("near seed", text(rng, 60), "h-1", seeds[1] + " please"),
        talk(seeds[2], changed(answers[2], rng, 2), "h-2", text(rng, 12)),
        talk("clean", text(rng, 60), "h-3", text(rng, 12)),
    ]
    leak = corpus.leakage(train, heldout)
    assert leak.seeds == [("t-0", "h-0")]
    assert [(a, b) for a, b, _ in leak.near_seeds] == [("t-1", "h-1")] and leak.near_seeds[0][2] == pytest.approx(
        10 / 11
    )
    assert [(a, b) for a, b, _ in leak.near] == [("t-2", "h-2")] and 0.7 <= leak.near[0][2] < 1
    said = str(leak)
    assert leak and "4 dialogues to train on, 4 held out" in said and "same seed: 1 of the held-out" in said
    assert "h-2 ← t-2 (" in said
    assert not corpus.leakage(train, heldout[3:])


def test_prompts_are_found_word_for_word():
    prompt = "Explain to a child of ten why the sky is blue and not green, please."
    quoted = "They asked: explain to a child of TEN why the sky\nis blue; nothing else."
    dialogues = [talk("Hello?", quoted, "a"), talk("hi", "why the sky is blue", "b"), talk("Write a poem", "No.", "c")]
    found = corpus.prompt_overlap(
        iter(dialogues), [prompt, "Write a poem!", "why the sky", "something else altogether"]
    )
    assert set(found.shared) == {0, 1} and found.dialogues == 2 and found.too_short == [1, 2, 3]
    assert found.shared[0] == 4 / 8 and found.examples[0] == ("a", "a child of ten why the sky is")
    assert "2 of 4 prompts share a run of 8 words with 2 dialogues" in str(found) and "50% of its runs" in str(found)
    assert set(corpus.prompt_overlap(dialogues, [prompt], n=5).examples) == {0}
    assert not corpus.prompt_overlap(dialogues, ["nothing of the kind has ever been said here by anybody"])


def test_sketches_made_once_give_the_same_duplicates_and_the_same_split():
    dialogues = pool()
    sketches = corpus.sketch(dialogues)
    assert sketches.shape == (len(dialogues), 32)
    found = corpus.near_duplicates(dialogues)
    assert found
    assert corpus.near_duplicates(dialogues, sketches=sketches) == found
    assert corpus.heldout_positions(dialogues, 9, sketches=sketches) == corpus.heldout_positions(dialogues, 9)
