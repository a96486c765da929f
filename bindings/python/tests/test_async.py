"""Under asyncio."""

import asyncio
import gc
import os
import re
import threading
from collections import Counter
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


def take_all(guard: Guard, tasks: int, count: int) -> Counter[int]:
    """Has several tasks take from one queue; what came back, and how often."""

    async def main() -> Counter[int]:
        seen: Counter[int] = Counter()

        async def take(queue: CompletionQueue) -> None:
            async for done in queue:
                assert done.error is None
                seen[done.tag] += 1
                await asyncio.sleep(0)

        async with CompletionQueue() as queue:
            for tag in range(count):
                queue.annotate(guard, f"Question {tag}", tag=tag)
            takers = [asyncio.ensure_future(take(queue)) for _ in range(tasks)]
            done, pending = await asyncio.wait(takers, timeout=60)
            assert not pending, "a task waits for ever"
            await asyncio.gather(*done)
            assert queue._waiters is not None and not queue._waiters._waiting
        return seen

    return asyncio.run(main())


def test_several_tasks_take_from_one_queue(guard: Guard) -> None:
    assert take_all(guard, 5, 40) == Counter(range(40))
    # All but one of them get nothing, and end.
    assert take_all(guard, 5, 1) == Counter(range(1))


def hide(queue: CompletionQueue, hidden: bool) -> None:
    """Has the queue not give back what is done, so that those who ask wait however fast the machine is."""
    if hidden:
        queue.poll = lambda: None  # type: ignore[method-assign]
    else:
        del queue.poll


def test_a_task_that_is_cancelled_leaves_the_others_waiting(guard: Guard) -> None:
    async def main() -> list[int]:
        seen: list[int] = []

        async def take() -> None:
            async for done in queue:
                seen.append(done.tag)

        with CompletionQueue() as queue:
            queue.annotate(guard, "Hello", tag=1)
            hide(queue, True)
            takers = [asyncio.ensure_future(take()) for _ in range(3)]
            await asyncio.sleep(0)
            waiters = queue._waiters
            assert waiters is not None and [len(ours) for ours in waiters._waiting.values()] == [3]
            # The first one that came and the last one.
            takers[0].cancel()
            takers[2].cancel()
            await asyncio.wait([takers[0], takers[2]])
            assert [len(ours) for ours in waiters._waiting.values()] == [1]
            hide(queue, False)
            # What was told of before is lost to it otherwise.
            waiters.wake()
            await asyncio.wait_for(takers[1], 60)
            assert not waiters._waiting and not asyncio.get_running_loop().remove_reader(waiters._socket)
        return seen

    assert asyncio.run(main()) == [1]


def test_others_that_take_the_last_call_end_the_iteration(guard: Guard) -> None:
    """A thread, and a loop of its own in another one."""

    async def take(queue: CompletionQueue, seen: list[int]) -> None:
        async for done in queue:
            seen.append(done.tag)

    for other in (lambda queue, seen: seen.extend(done.tag for done in queue), lambda *both: asyncio.run(take(*both))):
        seen: list[int] = []
        with CompletionQueue() as queue:
            for tag in range(60):
                queue.annotate(guard, f"Question {tag}", tag=tag)
            threads = [threading.Thread(target=other, args=(queue, seen), daemon=True) for _ in range(2)]
            for thread in threads:
                thread.start()
            asyncio.run(asyncio.wait_for(take(queue, seen), 60))
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive()
        assert Counter(seen) == Counter(range(60))


def test_a_loop_that_ended_leaves_the_queue_usable(guard: Guard) -> None:
    with CompletionQueue() as queue:
        queue.annotate(guard, "Hello", tag=1)
        hide(queue, True)
        loop = asyncio.new_event_loop()

        async def take() -> int:
            async for done in queue:
                return int(done.tag)
            raise AssertionError

        # Closed while its task waits.
        left = loop.create_task(take())
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        hide(queue, False)
        assert asyncio.run(asyncio.wait_for(take(), 60)) == 1
        assert not left.done()
        left._log_destroy_pending = False  # type: ignore[attr-defined]
        del left
        gc.collect()
        assert queue._waiters is not None and not queue._waiters._waiting


def test_queues_close_their_sockets(guard: Guard) -> None:
    open_now = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        assert take_all(guard, 2, 2) == Counter(range(2))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= open_now + 2


def test_blocks_of_async_with(guard: Guard) -> None:
    async def main() -> None:
        async with Guard.nano(config="runtime.threads = 1\ncache.mib = 64") as own, own.stream() as stream:
            assert (await stream.prompt_async("Hello")).decision is Decision.CONTINUE
        with pytest.raises(qwenguard.ClosedError, match="guard is closed"):
            own.stream()
        with pytest.raises(qwenguard.ClosedError, match="stream is closed"):
            stream.push_text("x")
        with guard.stream() as stream:
            async with CompletionQueue() as queue:
                queue.submit(Call.prompt(stream, "word " * 900))
            with pytest.raises(qwenguard.ClosedError, match="queue is closed"):
                queue.submit(Call.finish(stream))
            # It was given back.
            assert stream.context_used >= 0

    asyncio.run(main())


def test_closing_does_not_hold_up_the_loop() -> None:
    """It ends although the loop has to go on for it to do so, and it ends when its task was cancelled."""
    from qwenguard._closing import Closing

    class Slow(Closing):
        def __init__(self) -> None:
            self.entered, self.wanted, self.closed = threading.Event(), threading.Event(), False

        def close(self) -> None:
            self.entered.set()
            self.closed = self.wanted.wait(60)

        def _check(self) -> None:
            pass

    async def main(cancel: bool) -> Slow:
        slow = Slow()

        async def use() -> None:
            async with slow:
                pass

        task = asyncio.ensure_future(use())
        while not slow.entered.is_set():
            await asyncio.sleep(0)
        if cancel:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        slow.wanted.set()
        if not cancel:
            await task
        return slow

    for cancel in (False, True):
        # The loop's threads end with it.
        assert asyncio.run(main(cancel)).closed
