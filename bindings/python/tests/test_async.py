"""Under asyncio."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from conftest import ANSWER, QUESTION

import qwenguard
from qwenguard import Call, CompletionQueue, Decision, Guard, Stopped


async def pieces(text: str) -> AsyncIterator[str]:
    for piece in re.findall(r"\S+\s*", text):
        yield piece
        await asyncio.sleep(0)


def test_updates_and_cleared_text(guard: Guard) -> None:
    async def main() -> None:
        with guard.stream() as stream:
            check = await stream.prompt_async(QUESTION)
            assert check.decision is Decision.CONTINUE
            updates = [update async for update in stream.updates_async(pieces(ANSWER))]
            assert updates[-1].horizon == 153 and updates[-1].decision is Decision.STOP
        with guard.stream() as stream:
            await stream.prompt_async(QUESTION)
            shown = ""
            with pytest.raises(Stopped):
                async for text in stream.cleared_async(pieces(ANSWER)):
                    shown += text
            assert shown == ANSWER[:153]

    asyncio.run(main())


def test_many_conversations_at_once(guard: Guard) -> None:
    async def judge() -> int:
        with guard.stream() as stream:
            await stream.prompt_async(QUESTION)
            return [update.horizon async for update in stream.updates_async(pieces(ANSWER))][-1]

    async def main() -> list[int]:
        return await asyncio.gather(*(judge() for _ in range(20)))

    for _ in range(2):
        # Each has an event loop of its own.
        assert asyncio.run(main()) == [153] * 20


def test_cancelling_a_task_leaves_the_stream_as_it_was(guard: Guard) -> None:
    async def main() -> None:
        with guard.stream() as stream:
            await stream.prompt_async(QUESTION)
            before = stream.context_used
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(stream.push_text_async("word " * 900), 0.001)
            # Free at once, and as it was, unless the machine was faster than the clock.
            assert stream.truncate(0).received == 0
            assert stream.context_used <= before + 16
            assert (await stream.push_text_async("Hi")).received == 2

    asyncio.run(main())


def test_a_call_that_fails_raises(guard: Guard) -> None:
    async def main() -> None:
        with guard.stream() as stream:
            with pytest.raises(qwenguard.WrongStateError):
                await stream.push_text_async("x")
            with pytest.raises(qwenguard.DeadlineExceededError):
                await stream.prompt_async("word " * 300, timeout=0)
            assert (await guard.annotate_async("Hello")).risk == "Safe"
            with pytest.raises(qwenguard.ConversationError):
                await guard.annotate_async([("assistant", "Hello")])

    asyncio.run(main())


def test_a_queue_is_iterated(guard: Guard) -> None:
    async def main() -> set[int]:
        streams = [guard.stream() for _ in range(8)]
        seen = set()
        with CompletionQueue() as queue:
            for tag, stream in enumerate(streams):
                queue.submit(Call.prompt(stream, f"Question {tag}"), tag=tag)
            async for done in queue:
                assert done.error is None
                if done.tag < 8:
                    assert done.stream is not None
                    queue.submit(Call.push_text(done.stream, "An answer."), tag=done.tag + 8)
                seen.add(done.tag)
        return seen

    assert asyncio.run(main()) == set(range(16))
