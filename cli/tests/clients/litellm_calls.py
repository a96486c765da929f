"""litellm as a client: `make test-clients` runs it in an environment of its own, as it wants other versions of openai."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
import pytest

from scripted import BAD, BAD_ANSWER, CUT, FINE, FINE_ANSWER, TURNS

litellm.telemetry = False


def _ask(url, prompt, **more):
    messages = [{"role": "user", "content": prompt}]
    return litellm.completion(model="openai/m", api_base=f"{url}/v1", api_key="none", messages=messages, num_retries=0, max_retries=0, **more)


@pytest.mark.parametrize(("prompt", "answer", "said", "finish"), [
    (FINE, FINE_ANSWER, FINE_ANSWER, "stop"), (TURNS, BAD_ANSWER, BAD_ANSWER[:CUT], "content_filter"),
])
def test_chat(url, upstream, prompt, answer, said, finish):
    upstream.answer = answer
    choices = [chunk.choices[0] for chunk in _ask(url, prompt, stream=True) if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == said
    assert [choice.finish_reason for choice in choices if choice.finish_reason][-1] == finish
    whole = _ask(url, prompt).choices[0]
    assert (whole.message.content, whole.finish_reason) == (said, finish)


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_stopped(url, upstream, stream):
    upstream.answer = FINE_ANSWER
    with pytest.raises(litellm.BadRequestError) as error:
        list(_ask(url, BAD, stream=stream))
    assert "the prompt is stopped by the policy" in str(error.value)


@pytest.mark.parametrize(("prompt", "answer", "said"), [(FINE, FINE_ANSWER, FINE_ANSWER), (TURNS, BAD_ANSWER, BAD_ANSWER[:CUT])])
def test_messages(url, upstream, prompt, answer, said):
    upstream.answer = answer
    messages = [{"role": "user", "content": prompt}]
    whole = litellm.completion(model="anthropic/m", api_base=url, api_key="none", messages=messages, max_tokens=99, max_retries=0)
    assert whole.choices[0].message.content == said
    chunks = litellm.completion(model="anthropic/m", api_base=url, api_key="none", messages=messages, max_tokens=99, stream=True, max_retries=0)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == said


def test_moderations(url):
    results = litellm.moderation(input=[FINE, BAD], model="omni-moderation-latest", api_key="none", api_base=f"{url}/v1").results
    assert [result.flagged for result in results] == [False, True]
