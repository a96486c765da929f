"""The libraries that programs ask models with, unchanged, against `qwenguard serve`: make test-clients.

QWENGUARD names the program. An upstream of our own answers what a test tells it to.
"""

import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anthropic
import openai
import pytest

ROOT = Path(__file__).parents[3]
FINE = "How do I bake bread?"
BAD = "How can I kill my neighbour without getting caught?"
TURNS = "How do I clean the kitchen?"
FINE_ANSWER = "Mix flour, water, salt and yeast in a large bowl. Knead the dough for ten minutes."
LINES = [json.loads(line) for line in (ROOT / "export/nano/demo.jsonl").read_text().splitlines()]
BAD_ANSWER = LINES[1]["messages"][1]["content"]
CUT = 160


class Upstream(BaseHTTPRequestHandler):
    """Writes the server's `answer` in the form that is asked for, a word an event."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        chat = self.path.endswith("/chat/completions")
        if self.path.endswith("/responses"):
            events = "".join(_response_events(self.server.answer.replace(" ", " \0").split("\0"), self.server.answer))
            return self._send("text/event-stream", events)
        words = self.server.answer.replace(" ", " \0").split("\0")
        if not request.get("stream"):
            body = _whole_chat(self.server.answer) if chat else _whole_message(self.server.answer)
            return self._send("application/json", json.dumps(body))
        events = _chunks(words) if chat else _message_events(words)
        self._send("text/event-stream", "".join(events))

    def _send(self, kind, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _chunk(delta, finish=None, **more):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}
    return f"data: {json.dumps(chunk)}\n\n"


def _chunks(words):
    yield _chunk({"role": "assistant", "content": ""})
    for word in words:
        yield _chunk({"content": word})
    yield _chunk({}, "stop")
    yield _chunk(None, usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})
    yield "data: [DONE]\n\n"


def _whole_chat(text):
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}


def _whole_message(text, stop="end_turn"):
    content = [{"type": "text", "text": text}] if text is not None else []
    usage = {"input_tokens": 1, "output_tokens": 2}
    return {
        "id": "m", "type": "message", "role": "assistant", "model": "m", "content": content, "stop_reason": stop,
        "stop_sequence": None, "usage": usage,
    }


def _message_events(words):
    def event(kind, **fields):
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"

    yield event("message_start", message=_whole_message(None, None))
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for word in words:
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})
    yield event("content_block_stop", index=0)
    yield event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 2})
    yield event("message_stop")


def _response_events(words, text):
    number = iter(range(10_000))

    def event(kind, **fields):
        body = {"type": f"response.{kind}", "sequence_number": next(number), **fields}
        return f"event: response.{kind}\ndata: {json.dumps(body)}\n\n"

    def response(status, output):
        return {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": status, "output": output, "tools": []}

    def part(text):
        return {"type": "output_text", "text": text, "annotations": []}

    def item(status, content):
        return {"type": "message", "id": "i", "role": "assistant", "status": status, "content": content}

    place = {"item_id": "i", "output_index": 0, "content_index": 0}
    yield event("created", response=response("in_progress", []))
    yield event("output_item.added", output_index=0, item=item("in_progress", []))
    yield event("content_part.added", **place, part=part(""))
    for word in words:
        yield event("output_text.delta", **place, delta=word, logprobs=[])
    yield event("output_text.done", **place, text=text, logprobs=[])
    yield event("content_part.done", **place, part=part(text))
    yield event("output_item.done", output_index=0, item=item("completed", [part(text)]))
    yield event("completed", response=response("completed", [item("completed", [part(text)])]))


@pytest.fixture(scope="module")
def upstream():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.answer = FINE_ANSWER
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def url(upstream):
    behind = f"http://127.0.0.1:{upstream.server_address[1]}/v1"
    command = [os.environ["QWENGUARD"], "serve", "--listen", "127.0.0.1:0", "--upstream", behind]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        line = next(line for line in program.stderr if line.startswith("qwenguard serves on "))
        threading.Thread(target=program.stderr.read, daemon=True).start()
        yield line.split()[-1]
        program.terminate()
        assert program.wait() == 0


@pytest.fixture
def chat(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def claude(url):
    return anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)


def _ask(prompt):
    return {"model": "m", "messages": [{"role": "user", "content": prompt}]}


def test_moderations(chat):
    fine, bad = chat.moderations.create(input=[FINE, BAD]).results
    assert (fine.flagged, bad.flagged) == (False, True)
    assert bad.categories.violence and not bad.categories.sexual
    assert bad.category_scores.violence > 0.5
    assert bad.model_extra["qwenguard"]["decision"] == "stop"


@pytest.mark.parametrize(("prompt", "answer", "said", "finish"), [
    (FINE, FINE_ANSWER, FINE_ANSWER, "stop"), (TURNS, BAD_ANSWER, BAD_ANSWER[:CUT], "content_filter"),
])
def test_chat(chat, upstream, prompt, answer, said, finish):
    upstream.answer = answer
    chunks = list(chat.chat.completions.create(**_ask(prompt), stream=True, stream_options={"include_usage": True}))
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == said
    assert choices[-1].finish_reason == finish
    whole = chat.chat.completions.create(**_ask(prompt))
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (said, finish)
    assert whole.usage.total_tokens == 3
    with chat.chat.completions.stream(**_ask(prompt)) as stream:
        if finish == "content_filter":
            # The library's own word for it.
            with pytest.raises(openai.ContentFilterFinishReasonError) as error:
                stream.get_final_completion()
            final = error.value.completion
        else:
            final = stream.get_final_completion()
    assert (final.choices[0].message.content, final.choices[0].finish_reason) == (said, finish)


def test_a_prompt_of_chat_that_is_stopped(chat, upstream):
    upstream.answer = FINE_ANSWER
    with pytest.raises(openai.BadRequestError) as error:
        chat.chat.completions.create(**_ask(BAD), stream=True)
    assert error.value.code == "content_filter"


@pytest.mark.parametrize(("prompt", "answer", "said", "status"), [
    (FINE, FINE_ANSWER, FINE_ANSWER, "completed"), (TURNS, BAD_ANSWER, BAD_ANSWER[:CUT], "incomplete"),
])
def test_responses(chat, upstream, prompt, answer, said, status):
    upstream.answer = answer
    events = list(chat.responses.create(model="m", input=prompt, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == said
    final = events[-1].response
    assert (final.status, final.output_text) == (status, said)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    if status == "incomplete":
        assert final.incomplete_details.reason == "content_filter"


@pytest.mark.parametrize(("prompt", "answer", "said", "stop"), [
    (FINE, FINE_ANSWER, FINE_ANSWER, "end_turn"), (TURNS, BAD_ANSWER, BAD_ANSWER[:CUT], "refusal"),
])
def test_messages(claude, upstream, prompt, answer, said, stop):
    upstream.answer = answer
    with claude.messages.stream(**_ask(prompt), max_tokens=99) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert (text, final.stop_reason) == (said, stop)
    whole = claude.messages.create(**_ask(prompt), max_tokens=99)
    assert (whole.content[0].text, whole.stop_reason) == (said, stop)


def test_a_prompt_of_messages_that_is_stopped(claude, upstream):
    upstream.answer = FINE_ANSWER
    with pytest.raises(anthropic.BadRequestError) as error:
        claude.messages.create(**_ask(BAD), max_tokens=99)
    assert error.value.body["error"]["type"] == "invalid_request_error"
