"""The libraries that programs ask models with, unchanged, against `qwenguard serve`: make test-clients.

QWENGUARD names the program. An upstream of our own (scripted.py) answers what a test tells it to.
"""

import anthropic
import openai
import pytest

from scripted import BAD, BAD_ANSWER, CUT, FINE, FINE_ANSWER, TURNS, served


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


@pytest.fixture(scope="module")
def shadow(upstream, tmp_path_factory):
    policy = tmp_path_factory.mktemp("shadow") / "policy.toml"
    policy.write_text("shadow = true")
    with served(upstream, "--policy", str(policy)) as url:
        yield url


def test_shadow_disturbs_no_client(shadow, upstream):
    """What is found is told by an event that libraries pass over, or hand on."""
    upstream.answer = BAD_ANSWER
    chat = openai.OpenAI(base_url=f"{shadow}/v1", api_key="none", max_retries=0)
    chunks = list(chat.chat.completions.create(**_ask(TURNS), stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == BAD_ANSWER
    assert chunks[-1].model_extra["qwenguard"]["findings"][0]["category"] == "Violent"
    with chat.chat.completions.stream(**_ask(TURNS)) as stream:
        assert stream.get_final_completion().choices[0].message.content == BAD_ANSWER
    events = list(chat.responses.create(model="m", input=TURNS, stream=True))
    assert [event.type for event in events[-2:]] == ["response.completed", "response.qwenguard.findings"]
    with chat.responses.stream(model="m", input=TURNS) as stream:
        assert stream.get_final_response().output_text == BAD_ANSWER
    claude = anthropic.Anthropic(base_url=shadow, api_key="none", max_retries=0)
    with claude.messages.stream(**_ask(TURNS), max_tokens=99) as stream:
        final = stream.get_final_message()
    assert (final.content[0].text, final.stop_reason) == (BAD_ANSWER, "end_turn")
