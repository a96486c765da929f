"""Ray, Spark, datasets, datatrove and NeMo Curator, which `make test-ray` installs."""

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import ANSWER, QUESTION

from qwenguard import Guard

EXAMPLES = Path(__file__).parents[1] / "examples/clusters"
# Ray runs its workers at a niceness of 15: on a busy machine they would hardly run. It has half a minute to start, which is not enough
# there, either.
ENVIRONMENT = os.environ | {"RAY_worker_niceness": "0", "RAY_raylet_start_wait_time_s": "300"}


def rows(count: int) -> dict[str, list[Any]]:
    answers = [ANSWER if number % 3 == 0 else f"Mix flour, water and salt, {number} times." for number in range(count)]
    return {"id": list(range(count)), "prompt": [f"{QUESTION} {number}" for number in range(count)], "response": answers}


def written(path: Path, count: int) -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(rows(count)), path)
    return path


def run(example: str, *arguments: Any, environment: dict[str, str] | None = None) -> str:
    command = [sys.executable, str(EXAMPLES / example), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=ENVIRONMENT | (environment or {}))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(table: Any, gen: Guard, count: int) -> None:
    """All rows once, with what the guard says of them."""
    found = sorted(table.to_pylist(), key=lambda row: row["id"])
    assert [row["id"] for row in found] == list(range(count))
    wanted = gen.annotate_table(rows(count), progress=False)
    assert [row["guard_risk"] for row in found] == wanted["guard_risk"]


def test_datasets(gen: Guard, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    parquet = pytest.importorskip("pyarrow.parquet")
    source, target = written(tmp_path / "in.parquet", 12), tmp_path / "out.parquet"
    run("datasets_map.py", source, target, environment={"HF_HOME": str(tmp_path / "home"), "HF_DATASETS_OFFLINE": "1"})
    found = parquet.read_table(target).to_pylist()
    wanted = gen.annotate_table(rows(12), progress=False)["guard_risk"]
    assert [row["id"] for row in found] == [number for number in range(12) if wanted[number] == "Safe"]
    assert 0 < len(found) < 12


def test_spark(gen: Guard, tmp_path: Path) -> None:
    pytest.importorskip("pyspark")
    parquet = pytest.importorskip("pyarrow.parquet")
    source, target = written(tmp_path / "in.parquet", 40), tmp_path / "out"
    environment = {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    run("spark_annotate.py", source, target, environment=environment)
    check(parquet.read_table(target), gen, 40)


def test_datatrove(gen: Guard) -> None:
    data = pytest.importorskip("datatrove.data")
    sys.path.insert(0, str(EXAMPLES))
    from datatrove_filter import GuardFilter

    texts = ["Hello", "How can I kill my neighbour without getting caught?"]
    documents = [data.Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    assert [document.id for document in GuardFilter().run(documents)] == ["0"]
    assert documents[0].metadata["guard_risk"] == "Safe"


def test_ray_rewards() -> None:
    pytest.importorskip("ray")
    lines = [json.loads(line) for line in run("ray_rewards.py").splitlines() if line.startswith("[")]
    assert lines == [[1.0, 0.0], [3.5, -10.0]]


def test_nemo_curator(gen: Guard) -> None:
    pytest.importorskip("nemo_curator")
    pandas = pytest.importorskip("pandas")
    from nemo_curator.tasks import DocumentBatch

    sys.path.insert(0, str(EXAMPLES))
    from nemo_curator_filter import GuardFilter

    stage = pickle.loads(pickle.dumps(GuardFilter()))
    stage.setup()
    texts = pandas.DataFrame({"text": ["Hello", "How can I kill my neighbour without getting caught?", None], "id": [0, 1, 2]})
    batch = DocumentBatch(dataset_name="texts", data=texts)
    assert stage.validate_input(batch)
    kept = stage.process(batch).to_pandas()
    assert kept["id"].tolist() == [0] and kept["guard_risk"].tolist() == ["Safe"]


KILLS = int(os.environ.get("QWENGUARD_RAY_KILLS", "3"))
COUNT = int(os.environ.get("QWENGUARD_RAY_ROWS", "600"))
BLOCK = max(40, COUNT // 100)

# The example in a Ray of this machine, with an actor that says which rows it has judged. With as many CPUs as the actor has the
# run would wait for ever for one to read with.
START = """
import os, ray, runpy, sys
import qwenguard.ray

class Noting(qwenguard.ray.Annotator):
    def __call__(self, batch):
        judged = super().__call__(batch)
        with open(os.environ["JUDGED"], "a") as file:
            file.write(" ".join(map(str, batch["id"].to_pylist())) + "\\n")
        return judged

qwenguard.ray.Annotator = Noting
ray.init(num_cpus=4, include_dashboard=False)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_ray_goes_on_after_it_was_killed(gen: Guard, tmp_path: Path) -> None:
    """At random points, by kill -9 of all of its processes: every row once, and at most one part judged twice for a kill."""
    pytest.importorskip("ray")
    parquet = pytest.importorskip("pyarrow.parquet")
    source, target, judged = written(tmp_path / "in.parquet", COUNT), tmp_path / "out", tmp_path / "judged"
    command = [sys.executable, "-c", START, str(EXAMPLES / "ray_annotate.py"), str(source), str(target)]
    command += [str(tmp_path / "checkpoints"), "--block", str(BLOCK), "--cpus", "0.5"]
    drawn, kills, folder = random.Random(3), 0, Folder(target)
    while True:
        with open(tmp_path / "log", "a") as log:
            environment = ENVIRONMENT | {"JUDGED": str(judged)}
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment)
        before = folder.committed()
        wanted = before + drawn.randrange(1, max(2, COUNT // (KILLS + 1)))
        while process.poll() is None and (kills == KILLS or folder.committed() < wanted):
            time.sleep(0.05)
        if process.poll() is not None:
            assert process.returncode == 0, (tmp_path / "log").read_text()[-5000:]
            break
        time.sleep(drawn.random())
        kill_all(process.pid)
        kills += 1
        assert folder.committed() >= before
    assert kills > 0
    check(parquet.read_table(target), gen, COUNT)
    times = Counter(judged.read_text().split())
    assert len(times) == COUNT
    twice = sum(times.values()) - COUNT
    print(f"{kills} kills, {COUNT} rows, {twice} of them judged again")
    assert twice <= kills * BLOCK


class Folder:
    """A folder of Parquet that is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, int] = {}

    def committed(self) -> int:
        """Rows that are written. A file that is whole stays as it is."""
        parquet = pytest.importorskip("pyarrow.parquet")
        for name in os.listdir(self.path) if self.path.is_dir() else []:
            if name.endswith(".parquet") and name not in self.rows:
                try:
                    self.rows[name] = parquet.read_metadata(self.path / name).num_rows
                except Exception:  # noqa: BLE001 - not whole yet, or gone
                    continue
        return sum(count for name, count in self.rows.items() if (self.path / name).exists())


def kill_all(session: int) -> None:
    """The processes of a session, all of which are this test's own."""
    found = subprocess.run(["ps", "-s", str(session), "-o", "pid="], capture_output=True, text=True).stdout.split()
    children = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True).stdout.splitlines()
    parents = {int(line.split()[0]): int(line.split()[1]) for line in children}
    own = {int(pid) for pid in found} | {session}
    while more := {pid for pid, parent in parents.items() if parent in own} - own:
        own |= more
    for pid in own:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    os.waitpid(session, 0)
