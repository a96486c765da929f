"""LiteLLM's proxy from PyPI, which asks the guard about all that it passes: make test-litellm.

QWENGUARD names the program, LITELLM the one of LiteLLM.
"""

import os
import threading

import pytest

from programs import Guard, Program, Read, chat, free_port, request, wait
from upstream import (
    BAD, BAD_ANSWER, CUT, DONE, FINE, FINE_ANSWER, ROOT, TURNS, Answer, Upstream, chunk, chunks, event, whole, words,
)

MASTER = {"authorization": "Bearer sk-master"}


class LiteLLM(Program):
    """LiteLLM with packaging/litellm.yaml, in which words are replaced."""

    def __init__(self, upstream, guard_url, key, folder, **replaced):
        text = (ROOT / "packaging/litellm.yaml").read_text()
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        config = folder / "litellm.yaml"
        config.write_text(text)
        self.port = free_port()
        environment = {
            **os.environ, "LITELLM_MASTER_KEY": "sk-master", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "MODEL_URL": upstream.url, "MODEL_KEY": "none", "QWENGUARD_URL": guard_url, "QWENGUARD_KEY": key,
        }
        command = [os.environ["LITELLM"], "--config", str(config), "--host", "127.0.0.1", "--port", str(self.port)]
        super().__init__([*command, "--telemetry", "False"], env=environment, cwd=folder)
        wait(self._ready, 400)

    def _ready(self):
        assert self.process.poll() is None, "".join(self.lines[-30:])
        try:
            return request(self.port, "GET", "/health/liveliness").status == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def upstream():
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture(scope="module")
def guard(tmp_path_factory):
    key = tmp_path_factory.mktemp("key") / "key"
    key.write_text("s3cret\n")
    with Guard("--key-file", str(key)) as guard:
        yield guard


@pytest.fixture(scope="module")
def litellm(upstream, guard, tmp_path_factory):
    with LiteLLM(upstream, guard.url, "s3cret", tmp_path_factory.mktemp("litellm")) as litellm:
        yield litellm


def ask(litellm, prompt, **more):
    return Read(chat(litellm.port, prompt, headers=MASTER, **more))


def test_safe_answers_come_whole(upstream, litellm):
    for pieces in (words(FINE_ANSWER), [FINE_ANSWER], list(FINE_ANSWER)):
        written = [event(chunk({"role": "assistant", "content": ""}))]
        written += [event(chunk({"content": piece})) for piece in pieces]
        upstream.answer = Answer([*written, event(chunk({}, "stop")), DONE])
        read = ask(litellm, FINE)
        assert (read.status, read.said(), read.finish(), read.is_done) == (200, FINE_ANSWER, "stop", True)
    # The last piece says that it is the last.
    written = [event(chunk({"content": word})) for word in words(FINE_ANSWER)[:-1]]
    upstream.answer = Answer([*written, event(chunk({"content": words(FINE_ANSWER)[-1]}, "stop")), DONE])
    read = ask(litellm, FINE)
    assert (read.said(), read.finish(), read.is_done) == (FINE_ANSWER, "stop", True)
    upstream.answer = Answer.json(whole(FINE_ANSWER))
    read = ask(litellm, FINE, stream=False)
    assert (read.status, read.json()["choices"][0]["message"]["content"]) == (200, FINE_ANSWER)


def test_an_unsafe_prompt_does_not_reach_the_upstream(upstream, litellm):
    asked = len(upstream.requests)
    for stream in (True, False):
        read = ask(litellm, BAD, stream=stream)
        assert read.status == 400 and "stopped by the policy" in read.text, read.text
    image = {"type": "image_url", "image_url": {"url": "https://127.0.0.1/a.png"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": FINE}, image]}]
    for body in (
        {"model": "m", "messages": messages},
        {"model": "m", "messages": [{"role": "user", "content": FINE}, {"role": "assistant", "content": "Mix"}]},
    ):
        read = Read(request(litellm.port, "POST", "/v1/chat/completions", body, MASTER))
        assert read.status == 400, read.text
    assert len(upstream.requests) == asked


@pytest.mark.parametrize("size", [1, 5, 40, 10_000])
def test_nothing_leaks_past_the_horizon(upstream, litellm, size):
    pieces = [BAD_ANSWER[at:at + size] for at in range(0, len(BAD_ANSWER), size)]
    written = [event(chunk({"content": piece})) for piece in pieces]
    upstream.answer = Answer([*written, event(chunk({}, "stop")), DONE])
    read = ask(litellm, TURNS)
    assert BAD_ANSWER[:CUT].startswith(read.said()) and "explosives" not in read.text.partition("error")[0], read.text
    # It is not the end of a good answer.
    assert read.finish() is None and ("error" in read.text or read.status >= 400)
    if size <= 40:
        assert len(read.said()) > CUT - 80


def test_an_answer_that_comes_whole_is_blocked(upstream, litellm):
    upstream.answer = Answer.json(whole(BAD_ANSWER))
    read = ask(litellm, TURNS, stream=False)
    assert read.status >= 400 and "explosives" not in read.text
    call = {"id": "call_1", "type": "function", "function": {"name": "send", "arguments": f'{{"text": "{BAD_ANSWER}"}}'}}
    upstream.answer = Answer.json(whole(None, tool_calls=[call]))
    read = ask(litellm, TURNS, stream=False)
    assert read.status >= 400 and "explosives" not in read.text
    call["function"]["arguments"] = '{"query": "how to bake bread"}'
    upstream.answer = Answer.json(whole(None, tool_calls=[call]))
    read = ask(litellm, FINE, stream=False)
    assert read.json()["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "send"


def test_of_two_answers_one_turns(upstream, litellm):
    pairs = zip(words(BAD_ANSWER), words(FINE_ANSWER) + [""] * 200)
    written = []
    for bad, fine in pairs:
        written += [event(chunk({"content": fine}, index=1)), event(chunk({"content": bad}, index=0))]
    upstream.answer = Answer([*written, event(chunk({}, "stop", 0)), event(chunk({}, "stop", 1)), DONE])
    read = ask(litellm, TURNS, n=2)
    # LiteLLM ends both.
    assert BAD_ANSWER[:CUT].startswith(read.said(0)) and FINE_ANSWER.startswith(read.said(1))
    assert "error" in read.text


def test_other_interfaces(upstream, litellm):
    for path, body in [
        ("/v1/messages", {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": BAD}]}),
        ("/v1/responses", {"model": "m", "input": BAD}),
        ("/v1/completions", {"model": "m", "prompt": BAD}),
    ]:
        asked = len(upstream.requests)
        read = Read(request(litellm.port, "POST", path, body, MASTER))
        assert read.status >= 400 and "stopped by the policy" in read.text, f"{path}: {read.text}"
        assert len(upstream.requests) == asked


def test_conversations_are_kept_and_let_go(upstream, litellm, tmp_path):
    """Streams of many clients at once, each judged in its own conversation."""
    upstream.answers = {FINE: Answer.stream(FINE_ANSWER), TURNS: Answer.stream(BAD_ANSWER)}
    reads = {}

    def run(index):
        reads[index] = ask(litellm, TURNS if index % 2 else FINE)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    upstream.answers = {}
    for index, read in reads.items():
        if index % 2:
            assert BAD_ANSWER[:CUT].startswith(read.said()) and read.finish() is None
        else:
            assert (read.said(), read.finish(), read.is_done) == (FINE_ANSWER, "stop", True)


def test_a_guard_that_is_away_lets_nothing_through(upstream, tmp_path):
    gate = threading.Event()
    with Guard() as guard, LiteLLM(upstream, guard.url, "none", tmp_path) as litellm:
        upstream.answer = Answer.stream(BAD_ANSWER, gate=gate)
        response = chat(litellm.port, TURNS, headers=MASTER)
        assert response.status == 200
        first = response.read1(1 << 16).decode()
        guard.kill()
        gate.set()
        rest = Read(response)
        assert "explosives" not in first + rest.text and rest.finish() is None
        asked = len(upstream.requests)
        read = ask(litellm, FINE)
        assert read.status >= 400 and len(upstream.requests) == asked


def test_block_only_stops_but_may_leak(upstream, guard, tmp_path):
    """What docs/hosts.md says of that mode: the answer ends where the violation is confirmed, not where it begins."""
    mode = {"streaming_transform_mode: incremental_diff": "streaming_transform_mode: block_only"}
    with LiteLLM(upstream, guard.url, "s3cret", tmp_path, **mode) as litellm:
        upstream.answer = Answer.stream(BAD_ANSWER)
        read = ask(litellm, TURNS)
        assert read.said() in BAD_ANSWER and read.said() != BAD_ANSWER and read.finish() is None
        assert len(read.said()) < CUT + 60
        upstream.answer = Answer.stream(FINE_ANSWER)
        read = ask(litellm, FINE)
        assert (read.said(), read.finish(), read.is_done) == (FINE_ANSWER, "stop", True)
