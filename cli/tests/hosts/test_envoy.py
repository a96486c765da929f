"""Envoy from PyPI, with the guard as its external processor: make test-envoy.

QWENGUARD names the program, which is built with the feature ext-proc, ENVOY the one of Envoy.
"""

import os
import threading

import pytest

from programs import Envoy, Guard, Read, chat, free_port, request, wait
from upstream import (
    BAD, BAD_ANSWER, CUT, DONE, FINE, FINE_ANSWER, TURNS, Answer, Upstream, chunk, chunks, event, whole,
)


@pytest.fixture
def upstream():
    upstream = Upstream()
    yield upstream
    upstream.close()


def guard_for_envoy(port, *arguments):
    return Guard("--ext-proc-listen", f"127.0.0.1:{port}", *arguments)


@pytest.fixture
def guard():
    port = free_port()
    with guard_for_envoy(port) as guard:
        guard.ext_proc = port
        yield guard


def envoy_for(upstream, ext_proc):
    return Envoy("ext-proc.yaml", {8000: upstream.port, 8601: ext_proc}, os.environ["ENVOY"])


@pytest.fixture
def envoy(upstream, guard):
    with envoy_for(upstream, guard.ext_proc) as envoy:
        yield envoy


def test_safe_answers_are_what_the_upstream_wrote(upstream, guard, envoy):
    read = Read(chat(envoy.port, FINE))
    assert (read.status, read.is_whole, read.is_done) == (200, True, True)
    assert read.events == list(chunks(FINE_ANSWER))
    assert read.headers["content-type"] == "text/event-stream"
    # Names are passed on, other headers could be anything.
    assert read.headers["x-request-id"] == "upstream-7" and read.headers["x-secret"] is None
    assert upstream.headers[-1]["accept-encoding"] == "identity"
    body = whole(FINE_ANSWER)
    upstream.answer = Answer.json(body)
    read = Read(chat(envoy.port, FINE, stream=False, temperature=0.5, headers={"accept-encoding": "gzip"}))
    assert (read.status, read.json()) == (200, body)
    assert upstream.requests[-1]["temperature"] == 0.5
    read = Read(request(envoy.port, "GET", "/v1/models"))
    assert (read.status, read.json()["data"][0]["id"]) == (200, "m")
    guard.settle()


def test_an_unsafe_prompt_does_not_reach_the_upstream(upstream, guard, envoy):
    for stream in (True, False):
        read = Read(chat(envoy.port, BAD, stream=stream))
        assert (read.status, read.json()["error"]["code"]) == (400, "content_filter")
        assert read.headers["content-type"] == "application/json"
    assert upstream.requests == []
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": BAD}]}
    read = Read(request(envoy.port, "POST", "/v1/messages", body))
    assert (read.status, read.json()["type"]) == (400, "error")
    guard.settle()


def test_an_unsafe_answer_is_cut(upstream, guard, envoy):
    upstream.answer = Answer.stream(BAD_ANSWER)
    read = Read(chat(envoy.port, TURNS))
    assert (read.said(), read.finish(), read.is_done, read.is_whole) == (BAD_ANSWER[:CUT], "content_filter", True, True)
    # One that goes on for ever ends all the same, and the upstream is left.
    pieces = [event(piece) for piece in list(chunks(BAD_ANSWER))[:-2]]
    upstream.answer = Answer(pieces, then="hang")
    read = Read(chat(envoy.port, TURNS))
    assert (read.said(), read.finish(), read.is_done, read.is_whole) == (BAD_ANSWER[:CUT], "content_filter", True, True)
    assert upstream.left.acquire(timeout=120)
    upstream.answer = Answer.json(whole(BAD_ANSWER))
    choice = Read(chat(envoy.port, TURNS, stream=False)).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (BAD_ANSWER[:CUT], "content_filter")
    guard.settle()


def test_other_interfaces(upstream, guard, envoy):
    usage = {"input_tokens": 1, "output_tokens": 2}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None, "usage": usage}
    for answer, said, stop in [(FINE_ANSWER, FINE_ANSWER, "end_turn"), (BAD_ANSWER, BAD_ANSWER[:CUT], "refusal")]:
        content = [{"type": "text", "text": answer}]
        upstream.answer = Answer.json({**message, "content": content, "stop_reason": "end_turn"})
        body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": TURNS}]}
        read = Read(request(envoy.port, "POST", "/v1/messages", body)).json()
        assert (read["content"][0]["text"], read["stop_reason"]) == (said, stop)
    for answer, said, status in [(FINE_ANSWER, FINE_ANSWER, "completed"), (BAD_ANSWER, BAD_ANSWER[:CUT], "incomplete")]:
        part = {"type": "output_text", "text": answer, "annotations": []}
        item = {"type": "message", "id": "i", "role": "assistant", "status": "completed", "content": [part]}
        response = {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": [item]}
        upstream.answer = Answer.json(response)
        read = Read(request(envoy.port, "POST", "/v1/responses", {"model": "m", "input": TURNS})).json()
        assert (read["output"][0]["content"][0]["text"], read["status"]) == (said, status)
    guard.settle()


def test_what_cannot_be_judged_is_not_sent(upstream, guard, envoy):
    secret = "take the explosives"
    for method, path in [("POST", "/v1/completions"), ("GET", "/v1/files"), ("POST", "/v1/threads/a/messages")]:
        read = Read(request(envoy.port, method, path, {"prompt": FINE} if method == "POST" else None))
        assert (read.status, read.json()["error"]["code"]) == (404, "unknown_route")
    assert upstream.requests == []
    for answer, status in [
        (Answer.gzipped(whole(secret)), 502),
        (Answer([secret.encode()], "text/plain"), 502),
        (Answer([secret.encode()], "application/json"), 502),
        (Answer.json({"text": secret}, status=307), 502),
        (Answer.json({"error": {"message": "no", "note": secret}, "text": secret}, status=429), 429),
        (Answer.json(whole(None, audio={"transcript": secret})), 502),
    ]:
        upstream.answer = answer
        read = Read(chat(envoy.port, FINE, stream=False))
        assert (read.status, secret in read.text) == (status, False), read.text
        assert read.json()["error"]["message"]
        assert read.headers["x-secret"] is None
    pieces = [*map(event, list(chunks(FINE_ANSWER))[:5]), event(chunk({"thoughts": secret})), DONE]
    upstream.answer = Answer(pieces)
    read = Read(chat(envoy.port, FINE))
    assert (read.is_done, secret in read.text, read.events[-1]["error"]["code"]) == (False, False, "unjudged_answer")
    # A request whose body is compressed.
    read = Read(chat(envoy.port, FINE, headers={"content-encoding": "gzip"}))
    assert (read.status, read.json()["error"]["code"]) == (415, "coded_body")
    guard.settle()


def test_long_bodies(upstream, guard, envoy):
    long = (FINE_ANSWER + " ") * 1000
    upstream.answer = Answer.json(whole(FINE_ANSWER))
    body = {"model": "m", "messages": [{"role": "user", "content": FINE}], "metadata": {"a": "b" * 300_000}}
    read = Read(request(envoy.port, "POST", "/v1/chat/completions", body))
    assert (read.status, upstream.requests[-1:]) == (200, [body]), read.text
    # Longer than a piece of 64 KiB, in one event and whole.
    for stream in (True, False):
        padded = {"logit": [0.0] * 60_000}
        answer = [event(chunk({"content": FINE_ANSWER}, **padded)), event(chunk({}, "stop")), DONE]
        upstream.answer = Answer(answer) if stream else Answer.json({**whole(FINE_ANSWER), **padded})
        read = Read(chat(envoy.port, FINE, stream=stream))
        assert read.status == 200 and len(read.text) > 200_000 and read.is_whole
        assert (read.events[0] if stream else read.json())["logit"] == padded["logit"]
    too_long = {"model": "m", "messages": [{"role": "user", "content": FINE}], "metadata": {"a": long * 200}}
    try:
        read = Read(request(envoy.port, "POST", "/v1/chat/completions", too_long))
        assert read.status == 413
    except OSError:
        # Envoy answers and closes while the body is still being written.
        pass
    assert len(upstream.requests) == 3
    guard.settle()


def test_a_client_that_leaves_takes_all_along(upstream, guard, envoy):
    pieces = [event(piece) for piece in list(chunks(FINE_ANSWER))[:8]]
    upstream.answer = Answer(pieces, then="hang")
    response = chat(envoy.port, FINE)
    assert response.read1(10)
    wait(lambda: "qwenguard_open_streams 0" not in guard.metrics().splitlines())
    response.close()
    guard.settle()
    assert upstream.left.acquire(timeout=120)


def test_an_upstream_that_dies(upstream, guard, envoy):
    pieces = [event(piece) for piece in list(chunks(FINE_ANSWER))[:8]]
    upstream.answer = Answer(pieces, then="cut")
    read = Read(chat(envoy.port, FINE))
    assert (read.is_done, read.finish()) == (False, None)
    assert FINE_ANSWER.startswith(read.said())
    guard.settle()
    # One that is not there at all.
    upstream.server.server_close()
    read = Read(chat(envoy.port, FINE))
    assert read.status in (502, 503) and read.json()["error"]["message"]
    guard.settle()


def test_a_guard_that_is_killed_lets_nothing_through(upstream, guard, envoy):
    gate = threading.Event()
    upstream.answer = Answer.stream(BAD_ANSWER, gate=gate)
    response = chat(envoy.port, TURNS)
    assert response.status == 200
    first = response.read1(1 << 16).decode()
    guard.kill()
    gate.set()
    rest = Read(response)
    # Closed, not open: no end, and nothing of what the guard had not cleared.
    assert not rest.is_whole and "[DONE]" not in rest.text and "finish_reason\": \"" not in rest.text
    assert "bomb" not in first + rest.text and "explosives" not in first + rest.text
    asked = len(upstream.requests)
    for prompt in (FINE, BAD):
        read = Read(chat(envoy.port, prompt))
        assert read.status >= 500 and "choices" not in read.text
    assert len(upstream.requests) == asked


# Several times: whether the end of an answer is sent before the program has ended is a race.
@pytest.mark.parametrize("_time", range(8))
def test_a_guard_that_ends_finishes_what_it_has_begun(upstream, guard, envoy, _time):
    gate = threading.Event()
    upstream.answer = Answer.stream(FINE_ANSWER, gate=gate)
    response = chat(envoy.port, FINE)
    assert response.status == 200
    wait(lambda: "health_flags::healthy" in health(envoy))
    guard.terminate()
    wait(lambda: not is_open(guard.ext_proc))
    gate.set()
    read = Read(response)
    assert (read.is_done, read.is_whole) == (True, True)
    assert guard.process.wait() == 0


def is_open(port):
    try:
        request(port, "GET", "/").close()
        return True
    except OSError as error:
        # The port is open, but does not speak HTTP/1.
        return not isinstance(error, ConnectionRefusedError)


def health(envoy):
    return next(line for line in envoy.clusters().splitlines() if line.startswith("guard::") and "health_flags" in line)


def test_health_is_told(upstream):
    port = free_port()
    with guard_for_envoy(port), envoy_for(upstream, port) as envoy:
        wait(lambda: "health_flags::healthy" in health(envoy))
    with envoy_for(upstream, free_port()) as envoy:
        wait(lambda: "failed_active_hc" in health(envoy))
        assert Read(chat(envoy.port, FINE)).status >= 500
    assert upstream.requests == []


def test_the_key_of_envoy(upstream, tmp_path):
    (tmp_path / "key").write_text("s3cret\n")
    port = free_port()
    with guard_for_envoy(port, "--key-file", str(tmp_path / "key")), envoy_for(upstream, port) as envoy:
        assert Read(chat(envoy.port, FINE)).status >= 500
    assert upstream.requests == []
