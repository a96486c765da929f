"""Requests made from the description of the interface, against servers of both kinds of guard: none may fail on one.

`check.py SCHEMATHESIS`, by `make test-api`. QWENGUARD names the program; EXAMPLES how many requests each operation gets.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "clients"))

from scripted import scripted, served


def check(program, url):
    command = [
        program, "run", f"{url}/openapi.json", "--url", url, "--checks", "not_a_server_error",
        "--max-examples", os.environ.get("EXAMPLES", "100"), "--seed", "15",
    ]
    # It keeps what it found in a folder of its own.
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(command, check=True, cwd=folder)
    # Conversations that are kept for LiteLLM go when nobody asks about them.
    for _ in range(100):
        with urllib.request.urlopen(f"{url}/health") as answer:
            health = json.load(answer)
        if health["open_streams"] == 0:
            break
        time.sleep(0.1)
    assert health["ready"] and health["open_streams"] == 0, health


def main():
    program = str(Path(sys.argv[1]).absolute())
    with scripted() as upstream, served(upstream, "--ui", "--kept-seconds", "1") as url:
        check(program, url)
    with served(None, "--gen") as url:
        check(program, url)


if __name__ == "__main__":
    main()
