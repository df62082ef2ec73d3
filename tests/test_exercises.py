"""Exercises: the notebook's stub gets hints, the solution passes, plausible mistakes get the hint that fits.

The mistakes of notebooks 01, 02, 04 and 05 stand here, those of the others in mistakes_NN.py.
"""

import itertools
import random

import mistakes_03
import mistakes_06
import mistakes_07
import mistakes_08
import pytest
from exercises import solutions_of, stubs_of

from baize_nb import seeds
from checks import chat, distillation, finetune, selfchat
from checks import seeds as sampling

UNEVEN = [seeds.Seed(f"{s}{i}", f"{s} {i}?", s, "test") for s, n in (("a", 24), ("b", 24), ("c", 5)) for i in range(n)]
EXERCISES = {  # name of the function in notebook and solutions: (notebook, check)
    "largest_even": ("01_seed_sampling", lambda answer: sampling.largest_even(answer, UNEVEN)),
    "even_split": ("01_seed_sampling", sampling.even_split),
    "stratified_sample": ("01_seed_sampling", sampling.stratified),
    "requests": ("02_self_chat", selfchat.requests),
    "trim": ("02_self_chat", selfchat.trim),
    "human_request": ("02_self_chat", selfchat.human_request),
    "parse": ("02_self_chat", selfchat.parse),
    "rank_for": ("04_lora_finetuning", finetune.rank_for),
    "loss_mask": ("04_lora_finetuning", finetune.loss_mask),
    "lora_forward": ("04_lora_finetuning", finetune.lora_forward),
    "probabilities": ("05_chat", chat.temperature),
    "keep": ("05_chat", chat.history),
    "release": ("05_chat", chat.marker_filter),
}


@pytest.fixture(autouse=True)
def dice():
    """Some solutions draw from the global random numbers."""
    random.seed(0)


def solution(name):
    """The function in notebooks/solutions that solves an exercise."""
    if name == "largest_even":  # its number is for the notebook's pool of 240, 240 and 30
        return lambda: 15
    return solutions_of(EXERCISES[name][0])[name]


def by_chance(pool, n, seed):
    """Takes no notice of the sources."""
    return random.Random(seed).sample(sorted(pool, key=lambda s: s.id), n)


def equal_shares(pool, n, seed):
    """Rounds down and leaves it at that."""
    sources = sorted({s.source for s in pool})
    rng = random.Random(seed)
    members = {source: sorted((s for s in pool if s.source == source), key=lambda s: s.id) for source in sources}
    return [s for source in sources for s in rng.sample(members[source], min(n // len(sources), len(members[source])))]


def in_given_order(pool, n, seed):
    """Right but for the order in which the pool comes: it numbers the seeds as they stand."""
    numbered = [seeds.Seed(f"{i:02}", s.text, s.source, s.license) for i, s in enumerate(pool)]
    return [pool[int(s.id)] for s in seeds.sample(numbered, n, seed=seed)]


def as_history(prompt, seed_text, messages):
    return [{"role": "system", "content": prompt}, *messages]


def markers_swapped(prompt, seed_text, messages):
    swapped = [
        {"role": {"user": "assistant", "assistant": "user"}[m["role"]], "content": m["content"]} for m in messages
    ]
    return solution("human_request")(prompt, seed_text, swapped)


def topic_forgotten(prompt, seed_text, messages):
    return solution("human_request")(prompt, "{seed}", messages)


def last_exchange_only(prompt, seed_text, messages):
    return solution("human_request")(prompt, seed_text, messages[-2:])


def one_line_each(text):
    """Loses what goes on in a second line."""
    return solution("parse")("\n".join(line for line in text.splitlines() if line.startswith("[")))


def question_kept(text):
    """Forgets that nobody answered the last question."""
    talk = solution("parse")(text + "\n[AI] x")
    return talk[:-1] if talk and talk[-1]["content"] == "x" else solution("parse")(text)


def last_dropped(text):
    """Always drops the last exchange, as Baize's released code does."""
    return solution("parse")(text)[:-2]


def masked_by_id(parts, length, pad_id):
    ids, labels = solution("loss_mask")(parts, length, pad_id)
    return ids, [-100 if label == pad_id else label for label in labels]


def padding_learned(parts, length, pad_id):
    ids, labels = solution("loss_mask")(parts, length, pad_id)
    filled = length - sum(len(ids) for ids, _ in parts)
    return ids, labels[: length - filled] + [pad_id] * filled


def everything_learned(parts, length, pad_id):
    return solution("loss_mask")([(ids, True) for ids, _ in parts], length, pad_id)


def divided_after(logits, temperature):
    return [p / temperature for p in solution("probabilities")(logits, 1)]


def until_empty(messages, room, length):
    while length(messages) > room:
        messages = messages[2:]
    return messages


def one_turn_less(messages, room, length):
    return messages[2:] if length(messages) > room else messages


def strictly_less(messages, room, length):
    return solution("keep")(messages, room - 1, length)


def marker_only(text, markers):
    """Finds whole markers and shows half ones."""
    show, hold = solution("release")(text, markers)
    return (show, None) if hold is None else (text, "")


def any_bracket(text, markers):
    """Waits at every bracket, marker or not."""
    show, hold = solution("release")(text, markers)
    at = text.find("[")
    return (show, hold) if hold is None or at < 0 else (text[:at], text[at:])


def tail_lost(text, markers):
    """Shows what is safe and forgets the rest."""
    show, hold = solution("release")(text, markers)
    return show, hold and ""


MISTAKES = [
    ("largest_even", lambda: 24, sampling._RUNS_DRY),
    ("largest_even", lambda: 13, sampling._A_MULTIPLE),
    ("largest_even", lambda: 12, sampling._GO_HIGHER),
    ("even_split", lambda total, parts: [total // parts] * parts, sampling._LEFT_OVER),
    (
        "even_split",
        lambda total, parts: [total // parts + total % parts] + [total // parts] * (parts - 1),
        sampling._ONE_EACH,
    ),
    ("even_split", lambda total, parts: total // parts, sampling._A_LIST),
    ("stratified_sample", by_chance, sampling._GROUPS),
    ("stratified_sample", equal_shares, sampling._FILL_UP),
    ("stratified_sample", in_given_order, sampling._SORTED),
    ("stratified_sample", lambda pool, n, seed: seeds.sample(pool, n, seed=0), sampling._OWN_DICE),
    ("requests", lambda turns: 2 * turns, selfchat._SEED_IS_FREE),
    ("requests", lambda turns: turns, selfchat._QUESTIONS_COST),
    (
        "trim",
        lambda text: text[: max(text.rfind(m) for m in ".!?")] if text[-1] not in ".!?" else text,
        selfchat._MARK_STAYS,
    ),
    ("trim", lambda text: text[: text.rfind(".") + 1], selfchat._ALL_MARKS),
    ("trim", lambda text: text[: text.find(".") + 1], selfchat._NOT_FIRST),
    ("trim", lambda text: solution("trim")(text) or text, selfchat._NO_SENTENCE),
    ("human_request", as_history, selfchat._HISTORY),
    ("human_request", markers_swapped, selfchat._MARKERS),
    ("human_request", topic_forgotten, selfchat._GAPS),
    ("human_request", last_exchange_only, selfchat._ALL_OF_IT),
    ("human_request", lambda *given: solution("human_request")(*given)[0]["content"], selfchat._ONE_MESSAGE),
    ("parse", one_line_each, selfchat._GOES_ON),
    ("parse", question_kept, selfchat._UNANSWERED),
    ("parse", last_dropped, selfchat._KEEP_LAST),
    ("rank_for", lambda shapes, budget: budget // sum(a * b for a, b in shapes), finetune._THIN),
    ("rank_for", lambda shapes, budget: budget / sum(a + b for a, b in shapes) + 0.5, finetune._WHOLE),
    ("rank_for", lambda shapes, budget: budget // sum(shapes[0]), finetune._ALL),
    ("loss_mask", masked_by_id, finetune._BY_POSITION),
    ("loss_mask", padding_learned, finetune._PADDING_TOO),
    ("loss_mask", everything_learned, finetune._ONLY_LEARNED),
    ("lora_forward", lambda x, W, A, B, alpha: x @ W.T + x @ A.T @ B.T, finetune._SCALE),
    ("lora_forward", lambda x, W, A, B, alpha: alpha / len(A) * (x @ A.T @ B.T), finetune._FROZEN),
    ("lora_forward", lambda x, W, A, B, alpha: W @ x + B @ A @ x, finetune._TRANSPOSED),
    ("probabilities", lambda logits, t: solution("probabilities")(logits, 1 / t), chat._DIVIDE),
    ("probabilities", divided_after, chat._BEFORE),
    ("keep", until_empty, chat._LAST_STAYS),
    ("keep", one_turn_less, chat._TOO_MUCH),
    ("keep", strictly_less, chat._TOO_LITTLE),
    ("keep", lambda messages, room, length: messages[1:], chat._WHOLE_TURNS),
    ("release", marker_only, chat._HALF),
    ("release", any_bracket, chat._LET_GO),
    ("release", tail_lost, chat._NOTHING_LOST),
    ("release", lambda text, markers: ("", text), chat._LET_GO),
]
for module, notebook in (
    (mistakes_03, "03_corpus_inspection"),
    (mistakes_06, "06_evaluation"),
    (mistakes_07, "07_self_distillation"),
    (mistakes_08, "08_scaling_out"),
):
    EXERCISES |= {name: (notebook, check) for name, check in module.EXERCISES.items()}
    MISTAKES += module.MISTAKES


@pytest.mark.parametrize("notebook", sorted({notebook for notebook, _ in EXERCISES.values()}))
def test_every_exercise_of_the_notebook_is_tested_here(notebook):
    assert set(stubs_of(notebook)) == {name for name, (where, _) in EXERCISES.items() if where == notebook}


@pytest.mark.parametrize("name", EXERCISES)
def test_the_notebooks_stub_gets_one_more_hint_each_time_and_the_solution_passes(name, capsys):
    notebook, check = EXERCISES[name]
    check(solution(name))  # hints begin anew
    capsys.readouterr()
    stub = stubs_of(notebook)[name]
    for times in (1, 2, 3, 3):
        assert not check(stub)
        assert capsys.readouterr().out.count("   hint ") == times
    assert check(solution(name))
    assert capsys.readouterr().out.startswith("✓")


@pytest.mark.parametrize(
    ("name", "wrong", "hint"), MISTAKES, ids=[f"{name}{i}" for i, (name, *_) in enumerate(MISTAKES)]
)
def test_a_plausible_mistake_gets_the_hint_that_fits(name, wrong, hint, capsys):
    check = EXERCISES[name][1]
    check(solution(name))
    capsys.readouterr()
    assert not check(wrong)
    assert f"   hint 1: {hint}\n" in capsys.readouterr().out


def test_each_exercise_has_two_mistakes_with_hints_of_their_own():
    for name in EXERCISES:
        assert len({hint for which, _, hint in MISTAKES if which == name}) >= 2, name


@pytest.mark.parametrize("name", EXERCISES)
def test_an_error_of_the_students_is_a_sentence_with_a_hint(name, capsys):
    assert not EXERCISES[name][1](lambda *given: 1 / 0)
    said = capsys.readouterr().out
    assert "ZeroDivisionError" in said and "hint 1: " in said


def test_the_solution_of_the_number_is_that_of_the_notebooks_pool(capsys):
    pool = [
        seeds.Seed(f"{s}{i}", f"{s} {i}?", s, "test")
        for s, n in zip("abc", (240, 240, 30), strict=True)
        for i in range(n)
    ]
    answer = solutions_of("01_seed_sampling")["largest_even"]
    assert sampling.largest_even(answer, pool)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_best_of_n_is_that_of_counting_all_draws(n):
    scores = [10, 80, 60, 20, 60]
    draws = [max(draw) for draw in itertools.product(scores, repeat=n)]
    assert distillation._best_of(scores, n) == pytest.approx(sum(draws) / len(draws))
