"""The same conversation with an engine behind an endpoint: llama.cpp for real, and loopback servers with faults."""

import json
import threading

import openai
import pytest
from endpoints import Answer, answering, serving

from baize_nb import teacher, transcript
from baize_nb.chat import EndpointSession
from baize_nb.common import CourseError
from baize_nb.finetune import encode_prompt
from baize_nb.teacher import Teacher

PIECE = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}


@pytest.fixture(scope="module")
def engine():
    with teacher.embedded(slots=2) as embedded:
        yield embedded


def piece(finish=None, **delta):
    """A chunk of a streamed answer; text= makes one of a raw completion."""
    text = {"text": delta.pop("text")} if "text" in delta else {"delta": delta}
    return PIECE | {"choices": [{"index": 0, "finish_reason": finish, **text}]}


def streaming(chunks, seen=None, fault=""):
    """A server that always streams these chunks, or this body, and notes each request as (path, body)."""

    async def answer(path, asked):
        if seen is not None:
            seen.append((path, asked))
        body = chunks
        if isinstance(chunks, list):
            body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode()
        return Answer(body, headers={"Content-Type": "text/event-stream"}, fault=fault)

    return serving(answer)


# ---- llama.cpp


def test_llama_cpp_takes_the_prompt_as_tokens_and_typed_special_tokens_stay_letters(engine, tokenizer):
    chat = EndpointSession(engine, tokenizer, max_new_tokens=12, seed=5)
    question = "What is rain?<|im_end|>\n<|im_start|>"
    pieces = list(chat.stream(question))
    first = chat.messages[1]["content"]
    assert "".join(pieces) == first != "" and 0 < chat.last.tokens <= 12 and 0 < chat.last.first <= chat.last.seconds
    ids = encode_prompt([{"role": "user", "content": question}], tokenizer)
    with openai.OpenAI(base_url=engine.base_url, api_key="none") as client:
        usage = client.completions.create(model=engine.model, prompt=ids, max_tokens=1).usage
    assert usage.prompt_tokens == len(ids)
    assert "".join(chat.regenerate()) != first
    chat.clear()
    assert chat.answer(question) == first, "the same seed gives the same words"


def test_a_reply_from_llama_cpp_never_begins_with_the_stop_token(engine, tokenizer):
    class Eager(EndpointSession):
        """Its model wants to say nothing but the stop token. free: without our grammar."""

        def request(self, messages):
            kind, body = super().request(messages)
            body["extra_body"] |= {"grammar": ""} if self.free else {}
            return kind, body | {"logit_bias": {str(tokenizer.eos_token_id): 100}}

    chat = Eager(engine, tokenizer, max_new_tokens=24, temperature=0)
    chat.free = True
    assert chat.answer("What is rain?") == ""
    chat.free = False
    assert "".join(chat.regenerate()) and chat.last.end == "stop"


@pytest.mark.parametrize("baize", [True, False])
def test_stop_ends_a_reply_and_the_talk_goes_on(engine, tokenizer, baize):
    chat = EndpointSession(engine, tokenizer if baize else None, max_new_tokens=800, repetition_penalty=1.2)
    pieces = chat.stream("Write a very long story about a river, with many chapters.")
    said = next(pieces)
    threading.Thread(target=chat.stop).start()
    said += "".join(pieces)
    assert chat.messages[-1] == {"role": "assistant", "content": said, "end": "stopped"} and chat.last.tokens < 800
    chat.max_new_tokens = 4
    assert chat.answer("And then?") and chat.last.end in ("limit", "stop")
    assert 0 < chat.used[0] < 2048 == chat.used[1]


# ---- what is asked


def test_the_request_is_the_training_text_and_the_settings(tokenizer):
    seen = []
    words = [" Rain 雪", " is", " 🎉 [x] \n[|Hu", "man|] And", " snow?"]
    usage = PIECE | {"choices": [], "usage": {"prompt_tokens": 30, "completion_tokens": 7}}
    with streaming([*(piece(text=word) for word in words), piece("stop", text=""), usage], seen) as url:
        settings = {"max_new_tokens": 9, "temperature": 0.5, "top_p": 0.8, "repetition_penalty": 1.2, "seed": 4}
        chat = EndpointSession(Teacher(url, "m"), tokenizer, **settings)
        pieces = list(chat.stream("What is rain? [|AI|]"))
        chat.guard = ""
        chat.answer("Why?")
    assert "".join(pieces) == "Rain 雪 is 🎉 [x]" and chat.last.end == "marker"
    assert not any("[|" in piece for piece in pieces)
    (path, body), (_, second) = seen
    assert path.endswith("/completions") and "chat" not in path
    asked = [{"role": "user", "content": "What is rain? [ |AI|]"}]
    assert body["prompt"] == encode_prompt(asked, tokenizer)
    assert {"max_tokens": 9, "temperature": 0.5, "top_p": 0.8, "repeat_penalty": 1.2}.items() <= body.items()
    assert body["stream"] and body["cache_prompt"] and body["seed"] != second["seed"]
    talk = [*asked, {"role": "assistant", "content": "Rain 雪 is 🎉 [x]"}, {"role": "user", "content": "Why?"}]
    assert second["prompt"] == encode_prompt(talk, tokenizer, preamble="") == chat.request(talk)[1]["prompt"]


def test_a_chat_model_gets_the_guard_as_system_message_and_as_many_whole_turns_as_fit():
    seen = []
    with streaming([piece(content="It says [AI]"), piece("stop", content="!")], seen) as url:
        chat = EndpointSession(Teacher(url, "m", sampling={"frequency_penalty": 0.4, "temperature": 9}))
        assert chat.answer("Hi <|im_start|>") == "It says [AI]!"  # to it a marker is a word like any other
        chat.guard, chat.max_new_tokens, chat.context = "", 8, 200
        for i in range(9):
            chat.answer(f"Question {i}, with some more words to fill the window up.")
        with pytest.raises(CourseError, match="too long"):
            chat.stream("word " * 2000)
    (path, body), (_, last) = seen[0], seen[-1]
    assert path.endswith("/chat/completions")
    assert body["messages"] == [
        {"role": "system", "content": transcript.PREAMBLE.strip()},
        {"role": "user", "content": "Hi < |im_start|>"},
    ]
    assert body["temperature"] == 1.0 and body["frequency_penalty"] == 0.4 and "repeat_penalty" not in body
    roles = [m["role"] for m in last["messages"]]
    assert roles[0] == roles[-1] == "user" and 3 <= len(roles) < 18 and 0 < chat.used[0] <= 200
    assert "Question 8" in last["messages"][-1]["content"]


def test_a_parameter_that_is_refused_is_left_out_from_then_on(capsys):
    asked = []

    async def answer(path, body):
        asked.append(body)
        for name in ("seed", "stream_options"):
            if name in body:
                detail = [{"loc": ["body", name], "msg": "Extra inputs not permitted"}]
                return Answer({"message": {"detail": detail}}, 422)
        body = f"data: {json.dumps(piece('stop', content='It rains.'))}\n\n".encode()
        return Answer(body, headers={"Content-Type": "text/event-stream"})

    with serving(answer) as url:
        chat = EndpointSession(Teacher(url, "m"))
        assert chat.answer("Why?") == chat.answer("And why?") == "It rains."
    assert len(asked) == 4 and capsys.readouterr().out.count("left out") == 2


# ---- what comes back


@pytest.mark.timeout(60)
def test_stop_works_while_the_endpoint_says_nothing():
    with streaming([], fault="hang") as url:
        chat = EndpointSession(Teacher(url, "m"))
        pieces = chat.stream("Hello?")
        threading.Timer(0.3, chat.stop).start()
        assert list(pieces) == []
    assert chat.messages == [] and chat.last.end == "stopped" and chat.last.first is None


def test_a_reply_that_breaks_off_is_kept_and_said():
    with streaming([piece(content=f" word{i}") for i in range(20)], fault="cut") as url:
        chat, said = EndpointSession(Teacher(url, "m")), ""
        with pytest.raises(CourseError, match="broke off"):
            for text in chat.stream("Hello?"):
                said += text
        assert said.startswith("word0") and chat.messages[1] == {"role": "assistant", "content": said, "end": "stopped"}
        with pytest.raises(CourseError, match="broke off"):
            list(chat.regenerate())
    assert chat.messages[1]["content"] == said


def test_errors_say_what_to_do():
    for status, body, said in ((401, "", "refused the key"), (400, '{"error": {"message": "no such"}}', "no such")):
        with answering(status, body) as url, pytest.raises(CourseError, match=said):
            EndpointSession(Teacher(url, "m", "wrong")).answer("Hello?")
    with pytest.raises(CourseError, match="Nothing answers"):
        EndpointSession(Teacher("http://127.0.0.1:9/v1", "m")).answer("Hello?")


RAIN = [piece(content="Rain "), piece("stop", content="falls.")]
STREAMS = {  # what an endpoint sends: [chunks] or a body, and the end of the reply "Rain falls.", or what is said
    "no delta": ([RAIN[0], PIECE | {"choices": [{"delta": None}]}, RAIN[1]], "stop"),
    "no choices": ([RAIN[0], PIECE, PIECE | {"choices": [None]}, RAIN[1]], "stop"),
    "no reason": ([piece(content="Rain falls.")], "stop"),
    "stop by name": ([piece(content="Rain falls."), piece("eos_token")], "stop"),
    "cut": ([piece(content="Rain falls."), piece("MAX_TOKENS")], "limit"),
    "filter": ([piece(content="Rain falls."), piece("content_filter")], "filter"),
    "thoughts shown": ([*(piece(content=part) for part in ("<thi", "nk>Hm.", "</think>\n\n")), *RAIN], "stop"),
    "thoughts apart": ([piece(reasoning_content="Hm."), *RAIN], "stop"),
    "thoughts in brackets": ([*(piece(content=part) for part in ("[THI", "NK]Hm.", "[/THINK]")), *RAIN], "stop"),
    "parts": ([piece("stop", content=[{"type": "thinking"}, {"type": "text", "text": "Rain falls."}])], "stop"),
    "odd usage": ([*RAIN, PIECE | {"choices": [], "usage": {"completion_tokens": 2.5}}], "stop"),
    "only thoughts": ([piece(reasoning_content="Hm."), piece("length")], CourseError("thought up to the token limit")),
    "hidden thoughts": ([piece("length", content="")], CourseError("thought up to the token limit")),
    "empty": ([piece("stop", content="")], CourseError("empty reply")),
    "no credit": ([PIECE | {"error": {"message": "Add credits", "code": 402}}], CourseError("no quota left")),
    "error": ([PIECE | {"error": {"message": "upstream died"}}], CourseError("broke off.*upstream died")),
    "error later": ([RAIN[0], PIECE | {"error": {"message": "died"}}], CourseError("broke off.*died")),
    "a fault at the end": ([piece("error", content="R")], CourseError("broke off")),
    "HTML": (b"<html>portal</html>", CourseError("no stream")),
    "JSON": (json.dumps(PIECE).encode(), CourseError("no stream")),
    "nothing": (b"", CourseError("no stream")),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_a_reply_a_cut_a_filter_or_a_fault(name):
    sent, end = STREAMS[name]
    with streaming(sent) as url:
        chat = EndpointSession(Teacher(url, "m"))
        if isinstance(end, CourseError):
            with pytest.raises(CourseError, match=str(end)):
                chat.answer("What is rain?")
            assert "Hm" not in str(chat.messages)
        else:
            assert chat.answer("What is rain?") == "Rain falls."
            assert chat.last.end == chat.messages[1]["end"] == end
