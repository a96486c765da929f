"""Guards and streams: what the vectors do not show."""

import asyncio
import gc
import pickle
import re
import subprocess
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any

import pytest
from conftest import ANSWER, QUESTION, REPOSITORY, SMALL

import qwenguard
from qwenguard import Call, CompletionQueue, Decision, Guard, Status, Stopped, _errors, call_all
from qwenguard._guard import BATCH
from qwenguard.ray import Annotator, _cpus, _in_lines, with_threads


def test_the_sample_answer_is_cut_at_byte_160(guard: Guard) -> None:
    with guard.stream() as stream:
        stream.prompt(QUESTION)
        shown = ""
        with pytest.raises(Stopped, match="stopped at byte 153: Unsafe, Violent") as stop:
            for text in stream.cleared(re.findall(r"\S+\s*", ANSWER)):
                shown += text
    assert shown == ANSWER[:153]
    assert pickle.loads(pickle.dumps(stop.value)).update == stop.value.update


def test_text_comes_in_any_pieces(guard: Guard) -> None:
    answer = "Crème brûlée, 🍮 and 茶 for everybody."
    with guard.stream() as stream:
        stream.prompt("What is for dessert?")
        encoded = answer.encode()
        assert "".join(stream.cleared(encoded[at : at + 1] for at in range(len(encoded)))) == answer
    with guard.stream() as stream:
        stream.prompt("Hello")
        with pytest.raises(UnicodeEncodeError):
            stream.push_text("\ud800")
        assert stream.push_text("Hi").received == 2


def test_statuses_are_those_of_the_header() -> None:
    header = (REPOSITORY / "include/qwenguard.h").read_text()
    numbers = {name: int(number) for name, number in re.findall(r"#define QG_ERROR_(\w+) (\d+)", header)}
    # Where there are no pointers and no numbers for names.
    left_out = {"NULL", "ENUM"}
    own = {status.name: int(status) for status in Status if status not in (Status.UNKNOWN, Status.CLOSED)}
    assert own == {name: number for name, number in numbers.items() if name not in left_out}
    for status in Status:
        assert _errors._make(status, "x").status is status


def test_errors_have_classes_and_name_what_is_wrong(guard: Guard, tmp_path: Path) -> None:
    with pytest.raises(qwenguard.ConfigError, match="runtime.thread") as wrong:
        Guard.nano(config="runtime.thread = 1")
    assert isinstance(wrong.value, ValueError) and wrong.value.status is Status.CONFIG
    with pytest.raises(qwenguard.ConfigError, match="engine.step_tokens"):
        Guard.nano(config={"engine": {"step_tokens": 0}})
    with pytest.raises(qwenguard.BundleFileError, match="guard.toml"):
        Guard.open(tmp_path)
    with pytest.raises(qwenguard.ConfigError, match="no such category"):
        guard.stream({"answer": {"categories": {"Nonsense": {"action": "flag"}}}})
    with pytest.raises(qwenguard.ConversationError, match="no message of role user"):
        guard.annotate([])
    with pytest.raises(qwenguard.ConversationError, match='"messages\\[0\\].audio" is not read'):
        guard.annotate([{"role": "user", "content": "Hello", "audio": {"data": "..."}}])
    with pytest.raises(TypeError, match="str or bytes"), guard.stream() as stream:
        stream.push_text(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="decoding|hasty"):
        guard.annotate("Hello", decoding="hasty")


# What is wrong in a dictionary has no line: the names on the way to it tell where.
WRONG_SETTINGS: list[tuple[str, dict[str, Any], str]] = [
    ("config", {"runtime": {"thread": 1}}, "runtime.thread: unknown field `thread`, expected one of `provider`"),
    ("config", {"runtime": {"threads": "x"}}, 'runtime.threads: invalid type: string "x"'),
    ("config", {"policy": {"answer": {"mode": "hard"}}}, "policy.answer.mode: unknown variant `hard`"),
    ("config", {"runtimes": {}}, "runtimes: unknown field `runtimes`"),
    ("policy", {"answer": {"categories": {"Violent": {"at": float("nan")}}}}, "the dictionary cannot be read: .* float"),
    ("policy", {"answer": {"mode": "hard"}}, "policy.answer.mode: unknown variant `hard`"),
    ("policy", {"answer": {"categories": {"Violent": {"at": []}}}}, "policy.answer.categories.Violent.at: invalid type"),
    ("reward", {"safe": "x"}, 'reward.safe: invalid type: string "x"'),
    ("reward", {"save": 1}, "reward.save: unknown field `save`"),
]


@pytest.mark.parametrize("kind, settings, said", WRONG_SETTINGS)
def test_errors_of_dictionaries_name_the_setting(guard: Guard, gen: Guard, kind: str, settings: Any, said: str) -> None:
    with pytest.raises(qwenguard.ConfigError, match=f"^configuration: {said}") as wrong:
        if kind == "config":
            Guard.nano(config=settings)
        elif kind == "policy":
            guard.stream(settings)
        else:
            gen.annotate([("user", "Hello"), ("assistant", "Hi!")]).reward(settings)
    assert "line" not in str(wrong.value)


def test_numbers_out_of_range_are_arguments(guard: Guard) -> None:
    with guard.stream() as stream:
        stream.prompt("Hello")
        stream.push_text("Hi")
        calls: list[tuple[Callable[[], object], str]] = [
            (lambda: stream.truncate(-1), "argument bytes: -1 is negative"),
            (lambda: stream.truncate(2**64), f"argument bytes: {2**64} is too large"),
            (lambda: stream.truncate_tokens(-2), "argument tokens: -2 is negative"),
            (lambda: stream.push_tokens([1, -1]), "argument token id: there is no token -1"),
            (lambda: stream.push_tokens([2**32]), f"argument token id: there is no token {2**32}"),
            (lambda: guard.token_bytes(-1), "argument token id: there is no token -1"),
            (lambda: call_all([Call.truncate(stream, -1)]), "argument bytes: -1 is negative"),
        ]
        for call, said in calls:
            with pytest.raises(qwenguard.ArgumentError) as wrong:
                call()
            assert str(wrong.value) == said and isinstance(wrong.value, ValueError)
        # What is of another type is named as well.
        others: list[tuple[Callable[[], object], str]] = [
            (lambda: stream.prompt(None), "a conversation is .*, not NoneType"),  # type: ignore[arg-type]
            (lambda: stream.push_tokens(None), "tokens must be .*, not NoneType"),  # type: ignore[arg-type]
            (lambda: stream.push_text(None), "text must be .*, not NoneType"),  # type: ignore[arg-type]
        ]
        for call, said in others:
            with pytest.raises(TypeError, match=said):
                call()
        assert stream.truncate(2).received == 2


def test_what_carries_no_text_is_let_through_in_messages(guard: Guard) -> None:
    labels = {"name": "bob", "tool_call_id": "1", "id": "m", "status": "done", "type": "message"}
    harmless: list[Any] = [1, 1.5, True, None, "", [], {}]
    fine: list[dict[str, Any]] = [labels, *({"notes": value} for value in harmless)]
    plain = guard.annotate("Hello").risk_probabilities
    for more in fine:
        assert guard.annotate([{"role": "user", "content": "Hello", **more}]).risk_probabilities == plain
    texts: list[Any] = ["text", ["text"], {"a": "text"}, b"text"]
    for value in texts:
        with pytest.raises(qwenguard.ConversationError, match=r'the field "messages\[0\].notes" is not read'):
            guard.annotate([{"role": "user", "content": "Hello", "notes": value}])


def test_a_timeout_changes_nothing(guard: Guard) -> None:
    with guard.stream() as stream:
        stream.prompt("Hello")
        with pytest.raises(qwenguard.DeadlineExceededError) as late:
            stream.push_text("word " * 500, timeout=0)
        assert isinstance(late.value, TimeoutError)
        assert stream.push_text("Hi").received == 2
        for seconds in (-1.0, float("nan")):
            with pytest.raises(ValueError, match="timeout"):
                stream.push_text("x", timeout=seconds)


def test_what_is_closed_says_so() -> None:
    guard = Guard.nano(config=SMALL)
    stream = guard.stream()
    guard.close()
    guard.close()
    with pytest.raises(qwenguard.ClosedError, match="the guard is closed"):
        guard.stream()
    assert stream.prompt("Hello").decision is Decision.CONTINUE
    stream.close()
    stream.close()
    with pytest.raises(qwenguard.ClosedError, match="the stream is closed"):
        stream.push_text("x")
    with CompletionQueue() as queue:
        pass
    with qwenguard.log_to_logging() as log:
        pass
    calls: list[Callable[[], object]] = [
        lambda: queue.submit(Call.finish(stream)), queue.poll, queue.wait, lambda: queue.wait(1),
        lambda: queue.annotate(guard, "Hello"),
    ]
    for call in calls:
        with pytest.raises(qwenguard.ClosedError, match="the queue is closed"):
            call()
    assert list(queue) == [] and len(queue) == 0
    closed: list[Any] = [guard, stream, queue, log]
    for one in closed:
        with pytest.raises(qwenguard.ClosedError, match="is closed"), one:
            pass

        async def enter() -> None:
            async with one:
                pass

        with pytest.raises(qwenguard.ClosedError, match="is closed"):
            asyncio.run(enter())


@pytest.mark.parametrize("take", [lambda queue: queue.wait(), lambda queue: queue.wait(60)])
def test_closing_a_queue_ends_waits(take: Callable[[CompletionQueue], object]) -> None:
    queue = CompletionQueue()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(take, queue)
        with pytest.raises(FutureTimeoutError):
            waiting.result(0.05)
        queue.close()
        with pytest.raises(qwenguard.ClosedError, match="the queue is closed"):
            waiting.result(30)


def test_a_stream_has_one_user_at_a_time(guard: Guard) -> None:
    with guard.stream() as stream, CompletionQueue() as queue:
        queue.submit(Call.prompt(stream, "Hello"), tag=1)
        with pytest.raises(qwenguard.InUseError):
            stream.push_text("x")
        with pytest.raises(qwenguard.InUseError):
            queue.submit(Call.finish(stream))
        done = queue.wait()
        assert done is not None and done.stream is stream and done.tag == 1
        assert stream.push_text("x").received == 1


def test_queues_cancel_and_give_streams_back(guard: Guard) -> None:
    with guard.stream() as stream:
        with CompletionQueue() as queue:
            stream.prompt("Hello")
            queue.submit(Call.push_text(stream, "word " * 900), tag="long")
            cancelled = queue.cancel("long")
            done = queue.wait()
            assert done is not None and queue.poll() is None and len(queue) == 0
            assert (cancelled == 1) == isinstance(done.error, qwenguard.CancelledError)
            stream.truncate(0)
            queue.submit(Call.push_text(stream, "word " * 900), tag="lost")
        # The queue was closed with the call in it.
        assert stream.truncate(0).received == 0
    with CompletionQueue() as queue:
        assert queue.wait(0.01) is None


def test_threads_are_computed_together_without_the_lock(guard: Guard) -> None:
    def judge(number: int) -> list[int]:
        with guard.stream() as stream:
            stream.prompt(QUESTION)
            return [update.horizon for update in stream.updates(re.findall(r"\S+\s*", ANSWER))]

    alone = judge(0)
    with ThreadPoolExecutor(8) as pool:
        assert all(found == alone for found in pool.map(judge, range(16)))


def runs_beside(work: Callable[[], object], until: float = 0.0) -> bool:
    """Whether another thread ran while ``work`` did, which is done again until it has or ``until`` is over.

    Threads are not switched by time meanwhile: the other one, which waits for the lock, runs only if ``work`` gives it up.
    """
    go, ran = threading.Lock(), threading.Event()
    go.acquire()

    def other() -> None:
        go.acquire()
        ran.set()

    interval, thread = sys.getswitchinterval(), threading.Thread(target=other)
    thread.start()
    sys.setswitchinterval(3600)
    try:
        go.release()
        work()
        while not ran.is_set() and time.monotonic() < until:
            work()
        return ran.is_set()
    finally:
        sys.setswitchinterval(interval)
        thread.join()


class HoldsTheLock:
    def annotate_all(self, conversations: list[Any], *_: str) -> list[qwenguard.GuardError]:
        sum(range(10**7))
        return [qwenguard.BusyError("")] * len(conversations)


def test_other_threads_run_while_many_are_annotated(gen: Guard) -> None:
    # In this thread: so many are not shared out.
    assert BATCH >= 32
    talks = [f"Question {number}" for number in range(32)]
    # Once is enough unless the machine does not get round to the other thread.
    deadline = time.monotonic() + 60
    assert runs_beside(lambda: gen.annotate_all(talks, progress=False), deadline)
    assert runs_beside(lambda: gen.annotate_table({"prompt": talks}, progress=False), deadline)
    # A native module that held the lock, for longer than the model takes, would let nobody run.
    held = Guard._of(HoldsTheLock(), ("nano-gen", None, None, None, None))  # type: ignore[arg-type]
    assert not runs_beside(lambda: held.annotate_all(talks, return_errors=True), time.monotonic() + 1)


def test_forks_and_cutting_back(guard: Guard) -> None:
    with guard.stream() as stream:
        stream.prompt(QUESTION)
        stream.push_text("Start with the counters")
        with stream.fork() as draft:
            assert draft.push_text(" and go on.").received > stream.truncate(5).received == 5
        assert stream.truncate_tokens(0).received == 0
        assert stream.context_used > 0
        tokens = guard.encode("Start here")
        assert b"".join(guard.token_bytes(token.id) for token in tokens) == b"Start here"
        assert stream.push_tokens(tokens).received == len("Start here")
        with pytest.raises(qwenguard.ArgumentError):
            guard.token_bytes(10**6)


def test_pickles_open_the_bundle_once_for_a_process(guard: Guard) -> None:
    first = Guard.open(REPOSITORY / "export/nano/bundle", config=SMALL, policy="shadow = true")
    one, other = pickle.loads(pickle.dumps([first, first]))
    again = pickle.loads(pickle.dumps(first))
    first.close()
    annotation = again.annotate([("user", QUESTION), ("assistant", ANSWER)])
    assert annotation.decision is Decision.CONTINUE and annotation.finding is not None
    assert pickle.loads(pickle.dumps(annotation)) == annotation
    assert qwenguard.Annotation.from_json(annotation.json(), "shadow = true").finding == annotation.finding
    for guard in (one, other, again):
        guard.close()
    with pickle.loads(pickle.dumps(first)) as reopened:
        assert reopened.annotate("Hello").risk == "Safe"


def test_the_second_opinion_is_in_the_pickle(guard: Guard, gen: Guard) -> None:
    both = guard.with_second_opinion(gen)
    policy = {"answer": {"second_opinion": {"violation": "report"}}}
    for one in (both, pickle.loads(pickle.dumps(both))):
        with one.stream(policy) as stream:
            stream.prompt(QUESTION)
            opinions = [found for update in stream.updates([ANSWER]) for found in update.opinions]
        assert [(found.outcome, found.error) for found in opinions] == [("reported", None)]
        assert opinions[0].annotation is not None
        assert "qwenguard_steps_total" in (one.second_opinion_stats() or "")
    assert guard.second_opinion_stats() is None


def test_statistics(guard: Guard) -> None:
    with Guard.nano(config=SMALL + "\nname = 'mine'") as own, own.stream() as stream:
        stream.prompt(QUESTION)
        stats = own.stats()
        assert stats.name == "mine" and stats.open_streams == 1 and stats.steps > 0
        assert sum(stats.step_seconds.counts) == stats.steps
        assert [(count.channel, count.risk, count.verdicts) for count in stats.verdicts] == [("prompt", "Safe", 1)]
        assert 'qwenguard_steps_total{guard="mine"}' in own.metrics()
        assert own.info()["variant"] == "stream" and own.info()["provider"] == "cpu"


def test_guards_and_streams_are_freed() -> None:
    guard = Guard.nano(config=SMALL)
    stream = guard.stream()
    seen: list[weakref.ref[Any]] = [weakref.ref(guard), weakref.ref(stream)]
    threads = threading.active_count()
    del guard, stream
    gc.collect()
    assert [one() for one in seen] == [None, None] and threading.active_count() == threads


def run(program: str, *, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


JUDGE = "guard = qwenguard.Guard.nano(); print(guard.annotate('Hello').risk)"
# The file of every copy of the library that is mapped.
MAPPED = """
from pathlib import Path
files = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libonnxruntime.so" in line}
assert files == {guard.info()["runtime"]}, files
"""


@pytest.mark.parametrize("order", ["", "import onnxruntime\n", "after"])
def test_onnxruntime_of_the_program_may_come_before_and_after(order: str) -> None:
    after = "import onnxruntime; print(len(onnxruntime.get_available_providers()) > 0)" if order == "after" else ""
    before = "" if order == "after" else order
    mapped = MAPPED if sys.platform == "linux" else ""
    assert run(f"{before}import qwenguard\n{JUDGE}\n{after}\n{mapped}").split() == ["Safe"] + (["True"] if after else [])


def test_nothing_is_sent_and_the_library_is_that_of_the_package() -> None:
    program = "import qwenguard, os; g = qwenguard.Guard.nano(); print(g.info()['runtime'], os.environ['ORT_DISABLE_TELEMETRY'])"
    path, silence = run(program).split()
    assert "site-packages/onnxruntime/capi" in path and silence == "1"


def test_a_forked_process_is_told_and_opens_its_own() -> None:
    program = """
import asyncio, os, pickle, qwenguard
guard = qwenguard.Guard.nano(config="runtime.threads = 1")
stream, queue = guard.stream(), qwenguard.CompletionQueue()
stream.prompt("Hello")
log = qwenguard.log_to_logging()
asyncio.run(guard.annotate_async("Hello"))
child = os.fork()
if child == 0:
    calls = [lambda: guard.annotate("Hello"), guard.stream, guard.stats, lambda: stream.push_text("x"), queue.poll, stream.fork]
    for call in calls:
        try:
            call()
            os._exit(1)
        except qwenguard.EngineStoppedError as error:
            assert "forked" in str(error), error
    stream.close(), guard.close()
    own = pickle.loads(pickle.dumps(guard))
    assert own.annotate("Hello").risk == "Safe"
    assert asyncio.run(own.annotate_async("Hello")).risk == "Safe"
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print(stream.push_text("Hi").received)
"""
    # Newer versions of Python warn of every fork in a process with threads.
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, "2"), done.stderr


def test_processes_are_given_guards(tmp_path: Path) -> None:
    program = """
import multiprocessing, qwenguard
def judge(guard): return str(guard.annotate("Hello").risk)
if __name__ == "__main__":
    guard = qwenguard.Guard.nano(config="runtime.threads = 1")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(*pool.map(judge, [guard] * 4))
"""
    path = tmp_path / "program.py"
    path.write_text(program)
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.split()) == (0, ["Safe"] * 4), done.stderr


def test_messages_go_to_logging(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="qwenguard")
    with qwenguard.log_to_logging(10):
        Guard.nano(config=SMALL).close()
    records = [record for record in caplog.records if record.name.startswith("qwenguard.")]
    assert records and all(record.levelno >= 10 for record in records)
    count = len(caplog.records)
    Guard.nano(config=SMALL).close()
    assert len(caplog.records) == count


def test_a_program_that_forgets_to_close_ends() -> None:
    program = """
import asyncio, logging, qwenguard
logging.basicConfig()
log = qwenguard.log_to_logging(5)
guard = qwenguard.Guard.nano()
stream = guard.stream()
queue = qwenguard.CompletionQueue()
queue.submit(qwenguard.Call.prompt(stream, "Hello " * 200))
async def left():
    asyncio.ensure_future(guard.annotate_async("Hello " * 200))
    await asyncio.sleep(0)
asyncio.run(left())
print("end")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, "end"), done.stderr


# Documents, and how many threads they say: none if they do not.
DOCUMENTS = [
    ("", None),
    ("cache.mib = 64", None),
    ("# threads = 2\ncache.mib = 64", None),
    ("name = 'threads'", None),
    ("name = 'runtime.threads'\n[cache] # threads\nmib = 64", None),
    ("cache.mib = 64\n[engine]\nstep_tokens = 32", None),
    ("[runtime]\ndevice = 0 # threads\n[cache]\nmib = 64", None),
    ("[cache]\nmib = 64\n [ runtime ] # of one\ndevice = 0", None),
    ("runtime.device = 0", None),
    ("[runtime]\nthreads = 2", 2),
    ("[runtime]\n  'threads' = 2 # of 4", 2),
    ("runtime.threads=2", 2),
    ("runtime . threads = 2", 2),
    ('runtime = { device = 0, "threads" = 2 }', 2),
]


@pytest.mark.parametrize("document, said", DOCUMENTS)
def test_threads_are_set_where_a_document_does_not_say_them(document: str, said: int | None) -> None:
    for made in (with_threads(document, 3), _in_lines(document, 3)):
        if sys.version_info >= (3, 11):
            import tomllib

            wanted = tomllib.loads(document)
            wanted.setdefault("runtime", {}).setdefault("threads", 3)
            assert (tomllib.loads(made) if isinstance(made, str) else made) == wanted
            assert wanted["runtime"]["threads"] == (said or 3)
        if "device" not in document:
            Guard.nano(config=made).close()


def test_threads_are_those_of_the_actor() -> None:
    assert with_threads(None, 3) == {"runtime": {"threads": 3}}
    assert with_threads({"cache": {"mib": 1}, "runtime": {"threads": 2}}, 3) == {"cache": {"mib": 1}, "runtime": {"threads": 2}}
    assert with_threads("cache.mib = 1", None) == "cache.mib = 1"
    assert with_threads(None, None) is None
    # What cannot be read is refused when the guard is opened.
    wrong: list[qwenguard.Settings] = ["runtime.threads = ", {"runtime": 3}, "runtime = 3"]
    for config in wrong:
        with pytest.raises(qwenguard.ConfigError):
            Guard.nano(config=with_threads(config, 3))


@pytest.mark.parametrize("cpus, threads", [(3, 3), (2.0, 2), (0.5, 1), (0, 1), (None, None)])
def test_an_annotator_asks_ray_for_its_cpus(cpus: float | None, threads: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    resources = {} if cpus is None else {"CPU": cpus}
    context = types.SimpleNamespace(get_assigned_resources=lambda: resources)
    ray = types.SimpleNamespace(is_initialized=lambda: True, get_runtime_context=lambda: context)
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert _cpus() == threads
    opened: list[qwenguard.Settings | None] = []
    open_gen = Guard.nano_gen

    def note(config: qwenguard.Settings | None, policy: qwenguard.Settings | None) -> Guard:
        opened.append(config)
        return open_gen(config=config, policy=policy)

    monkeypatch.setattr(Guard, "nano_gen", note)
    assert Annotator()({"prompt": ["Hello"]})["guard_risk"] == ["Safe"]
    assert opened == [None if threads is None else {"runtime": {"threads": threads}}]
    # Outside of Ray.
    ray.is_initialized = lambda: False
    assert _cpus() is None
    monkeypatch.setitem(sys.modules, "ray", None)
    assert _cpus() is None
