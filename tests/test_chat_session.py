"""What one can do with a conversation: ask again, edit, take back, keep as a file, change the settings, stop."""

import json

import pytest
import torch

from baize_nb import reading, transcript
from baize_nb.chat import ChatSession
from baize_nb.common import CourseError
from baize_nb.finetune import encode, encode_prompt

TALK = [
    {"role": "user", "content": "What is rain?"},
    {"role": "assistant", "content": "Water that falls.", "end": "stop"},
    {"role": "user", "content": "And snow? 雪"},
    {"role": "assistant", "content": "Ice that\nfalls. 🎉", "end": "limit"},
]


@pytest.fixture
def chat(base, tokenizer):
    """A session with two exchanges, whose model finds every token equally likely."""
    session = ChatSession(*base, max_new_tokens=6)
    session._reader.logits = lambda ids: torch.zeros(tokenizer.vocab_size)
    session.messages = [dict(m) for m in TALK]
    return session


def failing(after, tokenizer):
    """Logits of a model that breaks down after some tokens."""
    words = iter(tokenizer(" one two three four").input_ids[:after])

    def logits(ids):
        token = next(words, None)
        if token is None:
            raise MemoryError("no room")
        return torch.nn.functional.one_hot(torch.tensor(token), tokenizer.vocab_size) * 99.0

    return logits


# Ask again, edit


def test_regenerate_draws_another_reply_to_the_last_question(chat):
    replies = ["".join(chat.regenerate()) for _ in range(3)]
    assert len({*replies, TALK[3]["content"]}) == 4
    assert chat.messages[:3] == TALK[:3] and chat.messages[3]["content"] == replies[-1]
    assert len(chat.messages) == 4


def test_while_a_new_reply_comes_the_old_one_stands(chat):
    for _ in chat.regenerate():
        assert chat.messages == TALK
    assert chat.messages != TALK


def test_edit_puts_another_question_and_drops_what_came_after_it(chat):
    reply = "".join(chat.edit("What is hail?", turn=0))
    assert chat.messages == [
        {"role": "user", "content": "What is hail?"},
        {"role": "assistant", "content": reply, "end": "limit"},
    ]


def test_edit_reads_only_the_turns_before_it(chat, tokenizer):
    read = []
    chat._reader.logits = lambda ids: read.append(ids) or torch.zeros(tokenizer.vocab_size)
    "".join(chat.edit("And hail?"))
    assert read[0] == encode_prompt([*TALK[:2], {"role": "user", "content": "And hail?"}], tokenizer)


@pytest.mark.parametrize("again", [lambda chat: chat.regenerate(), lambda chat: chat.edit("What is hail?", turn=0)])
@pytest.mark.parametrize("after", [0, 2])
def test_a_failed_second_try_loses_nothing(chat, tokenizer, again, after):
    chat._reader.logits = failing(after, tokenizer)
    with pytest.raises(MemoryError):
        "".join(again(chat))
    assert chat.messages == TALK


@pytest.mark.parametrize("again", [lambda chat: chat.regenerate(), lambda chat: chat.edit("What is hail?", turn=0)])
def test_a_second_try_stopped_before_its_first_word_loses_nothing(chat, again):
    again(chat).close()
    chat._reader.logits = lambda ids: (_ for _ in ()).throw(reading.Interrupted)
    pieces = again(chat)
    chat.stop()
    assert list(pieces) == [] and chat.last.end == "stopped"
    assert chat.messages == TALK


def test_a_second_try_stopped_later_keeps_what_was_said(chat):
    pieces = chat.regenerate()
    said = next(pieces)
    pieces.close()
    assert chat.messages == [*TALK[:3], {"role": "assistant", "content": said, "end": "stopped"}]


def test_what_can_not_be_asked_is_refused_at_once(chat):
    for turn in (2, -3):
        with pytest.raises(CourseError, match=f"no question number {turn}: the conversation has 2"):
            chat.edit("Hello?", turn=turn)
    with pytest.raises(CourseError, match="empty"):
        chat.edit(" ")
    with pytest.raises(CourseError, match="too long"):
        chat.edit("word " * 10_000)
    assert chat.messages == TALK
    chat.clear()
    with pytest.raises(CourseError, match="Ask one first"):
        chat.regenerate()


# Settings, measures


def test_settings_count_from_the_moment_they_are_changed(chat):
    pieces = chat.stream("Tell me.")
    next(pieces)
    chat.max_new_tokens = 3
    list(pieces)
    assert chat.last.tokens == 3 and chat.last.end == "limit"
    chat.temperature, chat.max_new_tokens = 0, 4
    assert "".join(chat.regenerate()) == "".join(chat.regenerate())


def test_another_seed_is_another_talk_and_the_same_seed_the_same(chat):
    def talk(seed):
        chat.clear()
        chat.seed = seed
        return [chat.answer("One?"), chat.answer("Two?")]

    assert talk(1) == talk(1) != talk(2)


def test_the_guard_can_be_changed_and_left_out(chat, tokenizer):
    read = []
    chat._reader.logits = lambda ids: read.append(tokenizer.decode(ids)) or torch.zeros(tokenizer.vocab_size)
    assert chat.prompt("Why?").startswith(transcript.PREAMBLE)
    chat.guard, chat.max_new_tokens = "Answer as a pirate.", 1
    chat.answer("Why?")
    chat.guard = ""
    chat.answer("Why?")
    assert read[0].startswith("Answer as a pirate.\n[|Human|] What is rain?")
    assert read[1].startswith("[|Human|] What is rain?")


def test_reply_says_when_the_first_token_came(chat):
    chat.answer("Why?")
    assert 0 < chat.last.first <= chat.last.seconds
    chat._reader.logits = lambda ids: (_ for _ in ()).throw(reading.Interrupted)
    assert chat.answer("Why?") == "" and chat.last.first is None and chat.last.tokens == 0


def test_used_is_what_the_model_would_read(chat, tokenizer):
    def trained(messages):
        return len(encode(messages, tokenizer, 10_000)["input_ids"]) - 1  # its last line end comes with a next question

    assert chat.used == (trained(TALK), 8192)
    chat.context = chat.used[0] - 1
    assert chat.used == (trained(TALK[2:]), chat.context)
    chat.clear()
    assert chat.used[0] == 0


# Stop while the prompt is read


def test_reading_can_be_interrupted_between_two_layers_and_nothing_false_is_remembered(base, tokenizer):
    asked, limit = [], 5
    reader = reading.Reader(base[0], True, lambda: asked.append(1) or len(asked) > limit)
    ids = tokenizer("The water of a river runs down to the sea").input_ids
    with pytest.raises(reading.Interrupted):
        reader.logits(ids)
    assert len(asked) == limit + 1 < base[0].config.num_hidden_layers
    limit = 10**9
    torch.testing.assert_close(reader.logits(ids), reading.Reader(base[0], True).logits(ids))


def test_stopped_while_the_prompt_is_read_the_talk_goes_on_as_if_not_asked(base):
    chat = ChatSession(*base, max_new_tokens=2)
    pieces = chat.stream("word " * 300)
    chat.stop()
    assert list(pieces) == [] and chat.messages == []
    assert chat.last.end == "stopped" and chat.last.tokens == 0
    assert chat.answer("Hello?") and chat.last.end == "limit"


# Files


def test_a_conversation_comes_back_from_its_file(chat, tmp_path):
    chat.temperature = 0.3
    chat.save(tmp_path / "talk.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "talk.jsonl").read_text("utf-8").splitlines()]
    assert lines[0]["settings"]["temperature"] == 0.3 and lines[0]["settings"]["guard"] == transcript.PREAMBLE
    assert lines[1:] == TALK
    first = chat.answer("Why?")
    chat.clear()
    chat.temperature = 1.0
    chat.load(tmp_path / "talk.jsonl")
    assert chat.messages == TALK and chat.last is None and chat.temperature == 1.0
    assert first and chat.undo() == "And snow? 雪"


def test_a_loaded_conversation_goes_on_with_the_dice_it_would_have_had(chat, tmp_path):
    chat.clear()
    chat.answer("One?")
    chat.save(tmp_path / "talk.jsonl")
    second = chat.answer("Two?")
    chat.load(tmp_path / "talk.jsonl")
    assert chat.answer("Two?") == second


def test_a_file_written_by_hand_will_do(chat, tmp_path):
    lines = ['{"role": "user", "content": "Hi"}', "", '{"role": "assistant", "content": "Ho", "mood": 1}', ""]
    (tmp_path / "talk.jsonl").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    chat.load(tmp_path / "talk.jsonl")
    assert chat.messages == [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]


USER, REPLY = '{"role": "user", "content": "Hi"}\n', '{"role": "assistant", "content": "Ho"}\n'


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (USER + "{torn", r"talk.jsonl:2 is no JSON"),
        (USER + USER, r"talk.jsonl:2 should be .*assistant"),
        (REPLY, r"talk.jsonl:1 should be .*user"),
        (USER + REPLY + '["role"]', r"talk.jsonl:3 should be"),
        (USER + REPLY + '{"role": "user", "content": null}', r"talk.jsonl:3 should be"),
        (USER + REPLY + USER, "without an answer"),
        (USER.replace("Hi", " ") + REPLY, r"talk.jsonl:1 has an empty question"),
        (USER + REPLY.replace("}", ', "end": "?"}'), r"talk.jsonl:2 has .*unknown `end`"),
        (b"\xff\xfe\x00", "no UTF-8"),
        (None, "Could not read .*talk.jsonl"),
    ],
)
def test_a_file_that_is_no_conversation_is_refused_and_changes_nothing(chat, tmp_path, content, says):
    if content is not None:
        (tmp_path / "talk.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CourseError, match=says):
        chat.load(tmp_path / "talk.jsonl")
    assert chat.messages == TALK


def test_a_full_disk_leaves_the_older_file(chat, tmp_path, monkeypatch):
    chat.save(tmp_path / "talk.jsonl")
    before = (tmp_path / "talk.jsonl").read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    chat.answer("More?")
    with pytest.raises(CourseError, match="No space left"):
        chat.save(tmp_path / "talk.jsonl")
    assert (tmp_path / "talk.jsonl").read_bytes() == before and len(chat.messages) == 6
