"""Two guarding proxies behind Envoy, one of which is killed: make test-envoy."""

import os
import threading

import pytest

from programs import Envoy, Guard, Read, chat, free_port, wait
from upstream import FINE, FINE_ANSWER, Answer, Upstream, chunks


@pytest.fixture
def upstream():
    upstream = Upstream()
    yield upstream
    upstream.close()


def healthy(envoy):
    return [line for line in envoy.clusters().splitlines() if line.endswith("health_flags::healthy")]


def streams(guard):
    lines = guard.metrics().splitlines()
    return next(int(float(line.split()[1])) for line in lines if line.startswith("qwenguard_open_streams "))


def test_of_two_servers_one_is_killed(upstream):
    ports = [free_port(), free_port()]
    start = [lambda port=port: Guard("--upstream", upstream.url, listen=f"127.0.0.1:{port}") for port in ports]
    with start[0]() as one, start[1]() as other, \
            Envoy("scale-out.yaml", {8600: ports[0], 8602: ports[1]}, os.environ["ENVOY"]) as envoy:
        wait(lambda: len(healthy(envoy)) == 2)
        # Which conversation is whose: the same every time.
        gate = threading.Event()
        upstream.answer = Answer.stream(FINE_ANSWER, gate=gate)
        mine, others, number = {}, {}, 0
        while len(mine) < 3 or len(others) < 3:
            name, before = f"conversation-{number}", streams(one)
            response = chat(envoy.port, FINE, headers={"x-conversation-id": name})
            assert response.status == 200
            (mine if streams(one) > before else others)[name] = response
            number += 1
            assert number < 100, (len(mine), len(others))
        other.kill()
        gate.set()
        for response in mine.values():
            read = Read(response)
            assert (read.events, read.is_done, read.is_whole) == (list(chunks(FINE_ANSWER)), True, True)
        for response in others.values():
            read = Read(response)
            # Closed, not open.
            assert (read.is_done, read.finish(), read.is_whole) == (False, None, False)
            assert FINE_ANSWER.startswith(read.said())
        # What is on its way to a server when that dies is answered with 503, and not sent twice.
        wait(lambda: len(healthy(envoy)) == 1)
        # Their conversations go on with the other server, which builds anew what it needs.
        upstream.answer = Answer.stream(FINE_ANSWER)
        for name in [*others, *mine]:
            read = Read(chat(envoy.port, FINE, headers={"x-conversation-id": name}))
            assert (read.status, read.events, read.is_done) == (200, list(chunks(FINE_ANSWER)), True)
        one.settle()
        # Without any server nothing is answered.
        one.kill()
        assert Read(chat(envoy.port, FINE)).status >= 500


def test_a_conversation_stays_with_its_server(upstream):
    ports = [free_port(), free_port()]
    with Guard("--upstream", upstream.url, listen=f"127.0.0.1:{ports[0]}") as one, \
            Guard("--upstream", upstream.url, listen=f"127.0.0.1:{ports[1]}") as other, \
            Envoy("scale-out.yaml", {8600: ports[0], 8602: ports[1]}, os.environ["ENVOY"]) as envoy:
        wait(lambda: len(healthy(envoy)) == 2)

        def served(guard):
            name = 'qwenguard_http_requests_total{route="/v1/chat/completions",status="200",client=""} '
            found = [line for line in guard.metrics().splitlines() if line.startswith(name)]
            return int(found[0].split()[-1]) if found else 0

        for number in range(8):
            before = [served(guard) for guard in (one, other)]
            for _ in range(3):
                assert Read(chat(envoy.port, FINE, headers={"x-conversation-id": f"conversation-{number}"})).is_done
            after = [served(guard) for guard in (one, other)]
            assert sorted(now - then for now, then in zip(after, before)) == [0, 3]
        # Both have work.
        assert all(served(guard) for guard in (one, other))
