"""curl, as the pages of this project use it."""

import json
import subprocess

import pytest

from scripted import BAD, BAD_ANSWER, CUT, FINE, FINE_ANSWER, TURNS


def _curl(*arguments):
    run = subprocess.run(["curl", "-sS", "--max-time", "30", *arguments], capture_output=True, text=True, check=True)
    return run.stdout


def _ask(prompt, stream=False):
    return json.dumps({"model": "m", "stream": stream, "max_tokens": 9, "messages": [{"role": "user", "content": prompt}]})


def test_moderations(url):
    results = json.loads(_curl(f"{url}/v1/moderations", "-d", json.dumps({"input": [FINE, BAD]})))["results"]
    assert [result["flagged"] for result in results] == [False, True]


def test_a_conversation(url):
    messages = [{"role": "user", "content": TURNS}, {"role": "assistant", "content": BAD_ANSWER}]
    body = json.loads(_curl(f"{url}/v1/guard/answer", "-d", json.dumps({"messages": messages, "tokens": True})))
    assert (body["decision"], body["answer"]["horizon"]) == ("stop", CUT)
    again = {"policy": {"shadow": True}, "tokens": body["answer"]["tokens"]}
    replayed = json.loads(_curl(f"{url}/v1/guard/replay", "-d", json.dumps(again)))
    assert (replayed["answer"]["decision"], replayed["answer"]["violation"]) == ("continue", body["answer"]["violation"])


@pytest.mark.parametrize("more", [[], ["--compressed"], ["--http1.0"]])
@pytest.mark.parametrize(("prompt", "answer", "said", "finish"), [
    (FINE, FINE_ANSWER, FINE_ANSWER, "stop"), (TURNS, BAD_ANSWER, BAD_ANSWER[:CUT], "content_filter"),
])
def test_a_stream(url, upstream, more, prompt, answer, said, finish):
    upstream.answer = answer
    text = _curl("-N", *more, f"{url}/v1/chat/completions", "-H", "content-type: application/json", "-d", _ask(prompt, True))
    events = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
    assert events.pop() == "[DONE]"
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == said
    assert choices[-1]["finish_reason"] == finish


def test_a_prompt_that_is_stopped(url, upstream):
    upstream.answer = FINE_ANSWER
    body, status = _curl("-w", "\n%{http_code}", f"{url}/v1/messages", "-d", _ask(BAD)).rsplit("\n", 1)
    assert (status, json.loads(body)["type"]) == ("400", "error")


def test_who_runs_it_sees_how_it_is(url):
    assert json.loads(_curl("-f", f"{url}/health"))["ready"]
    assert "qwenguard_open_streams " in _curl("-f", f"{url}/metrics")
