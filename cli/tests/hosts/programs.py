"""The programs that the tests run, and a client."""

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Program:
    """A program whose standard error is read, and which ends with the test."""

    def __init__(self, command, **options):
        self.lines, self.told = [], threading.Condition()
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, **options)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stderr:
            with self.told:
                self.lines.append(line)
                self.told.notify_all()
        with self.told:
            self.told.notify_all()

    def line(self, beginning, seconds=120):
        """Waits for a line that begins so."""
        def find():
            return next((line for line in self.lines if line.startswith(beginning)), None)

        with self.told:
            found = self.told.wait_for(lambda: find() or self.process.poll() is not None, seconds) and find()
        assert found, f"{self.process.args[0]}: {''.join(self.lines[-30:])}"
        return found

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self):
        self.process.terminate()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Guard(Program):
    """`qwenguard serve`."""

    def __init__(self, *arguments, listen="127.0.0.1:0", **options):
        super().__init__([os.environ["QWENGUARD"], "serve", "--listen", listen, *arguments], **options)
        self.url = self.line("qwenguard serves on ").split()[-1]
        self.port = int(self.url.rsplit(":", 1)[1])

    def metrics(self):
        return request(self.port, "GET", "/metrics").read().decode()

    def settle(self):
        """Waits until all streams are given back."""
        wanted = {"qwenguard_open_streams 0", "qwenguard_http_requests 0"}
        wait(lambda: wanted <= set(self.metrics().splitlines()))


class Envoy(Program):
    """Envoy with a configuration of packaging/envoy, in which ports are replaced."""

    def __init__(self, name, ports, envoy):
        text = (ROOT / "packaging/envoy" / name).read_text()
        self.port, admin = free_port(), free_port()
        for old, new in {10000: self.port, **ports}.items():
            assert f"port_value: {old} " in text, f"{name} has no port {old}"
            text = text.replace(f"port_value: {old} ", f"port_value: {new} ")
        text += f"admin:\n  address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }}\n"
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / name
        path.write_text(text)
        super().__init__([envoy, "-c", str(path), "--log-level", "warn", "--disable-hot-restart", "--concurrency", "2"])
        self.admin = admin
        wait(lambda: self._ready())

    def _ready(self):
        assert self.process.poll() is None, "".join(self.lines[-30:])
        try:
            return request(self.admin, "GET", "/ready").status == 200
        except OSError:
            return False

    def clusters(self):
        return request(self.admin, "GET", "/clusters").read().decode()


def wait(condition, seconds=120):
    """Waits for something that will come; the limit only ends a test that has failed."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


def request(port, method, path, body=None, headers=()):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"content-type": "application/json", **dict(headers)}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    return connection.getresponse()


def chat(port, prompt, stream=True, headers=(), path="/v1/chat/completions", **more):
    body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": prompt}], **more}
    return request(port, "POST", path, body, headers)


class Read:
    """An answer that is read to its end, or to where it breaks off."""

    def __init__(self, response):
        self.status, self.headers, self.is_whole, text = response.status, response.headers, True, b""
        try:
            while piece := response.read1(1 << 16):
                text += piece
        except (http.client.HTTPException, OSError):
            self.is_whole = False
        self.text = text.decode()
        events = [line[len("data: "):] for line in self.text.splitlines() if line.startswith("data: ")]
        self.is_done = bool(events) and events[-1] == "[DONE]"
        self.events = [json.loads(data) for data in events if data != "[DONE]"]

    def said(self, index=0):
        choices = [choice for event in self.events for choice in event.get("choices", ()) if choice["index"] == index]
        return "".join(choice["delta"].get("content") or "" for choice in choices)

    def finish(self):
        choices = [choice for event in self.events for choice in event.get("choices", ())]
        return next((choice["finish_reason"] for choice in reversed(choices) if choice.get("finish_reason")), None)

    def json(self):
        return json.loads(self.text)
