"""What the pages and doc comments show runs, and has types."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import qwenguard
from qwenguard import Guard

HERE = Path(__file__).parents[1]
# All of the package, but for what is not Python or is a program.
MODULES = [
    module.name
    for module in pkgutil.walk_packages(qwenguard.__path__, "qwenguard.")
    if module.name not in ("qwenguard._native", "qwenguard.__main__")
]


@pytest.mark.parametrize("name", ["qwenguard", *MODULES])
def test_examples_of_doc_comments(name: str) -> None:
    module = importlib.import_module(name)
    found = doctest.testmod(module)
    assert found.failed == 0
    # None that doctest does not find.
    assert found.attempted == len(re.findall(r"^\s*>>> ", inspect.getsource(module), re.MULTILINE))


def test_examples_are_there() -> None:
    assert {"qwenguard._guard", "qwenguard.ray", "qwenguard.eval.measures"} <= set(MODULES)
    for method in (Guard.annotate, Guard.annotate_all, Guard.annotate_table):
        assert ">>> " in (method.__doc__ or ""), method


def test_the_page_shows_what_happens() -> None:
    """The blocks of the page, one after the other; what `text` blocks after them say is what they print."""
    blocks = re.findall(r"```(python|text)\n(.*?)```", (HERE / "README.md").read_text(), re.DOTALL)
    assert len(blocks) > 4
    program, printed = "", ""
    for kind, text in blocks:
        if kind == "python":
            program += text
        else:
            printed += text
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed


def test_the_example_cuts_the_answer() -> None:
    done = subprocess.run([sys.executable, str(HERE / "examples/chat.py")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "turns: cut at byte 153" in done.stdout


# Columns of mappings are lists, and other tables stay what they are.
TYPES = """
from qwenguard import Guard

class Frame: ...

guard = Guard.nano_gen()
rows = guard.annotate_table({"prompt": ["Hello", None], "id": [1, 2]})
unsafe: float = rows["guard_unsafe"][0] + rows["id"][1]
texts: dict[str, tuple[str, ...]] = {"prompt": ("Hello",)}
mixed = {"prompt": ["Hello"], "response": ["Hi!"], "score": [1.5]}
rows = guard.annotate_table(texts)
rows = guard.annotate_table(mixed, reward={}, helpfulness="score")
print(rows["guard_reward"][0] > 0.5)
frame: Frame = guard.annotate_table(Frame())
async def main() -> None:
    async with guard, guard.stream() as stream:
        stream.finish()
"""


def test_the_types_are_strict() -> None:
    page = "".join(re.findall(r"```python\n(.*?)```", (HERE / "README.md").read_text(), re.DOTALL))
    example = HERE / "examples/chat.py"
    # The packages that these are for need not be here.
    clusters = [*map(str, (HERE / "examples/clusters").glob("*.py")), "--ignore-missing-imports", "--allow-subclassing-any"]
    for arguments in (["-c", page], ["-c", TYPES], [str(example)], clusters, ["-p", "qwenguard"]):
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", *arguments], capture_output=True, text=True, cwd=HERE / "examples"
        )
        assert done.returncode == 0, done.stdout


def test_every_public_name_is_documented() -> None:
    for name in qwenguard.__all__:
        thing = getattr(qwenguard, name)
        if isinstance(thing, type) or inspect.isfunction(thing):
            assert thing.__doc__, name


def test_the_native_module_is_as_its_stub_says() -> None:
    """Names and parameters."""
    from qwenguard import _native

    stub = ast.parse((Path(qwenguard.__file__).parent / "_native.pyi").read_text())
    seen = set()
    for node in stub.body:
        if isinstance(node, ast.FunctionDef):
            parameters = [argument.arg for argument in node.args.args]
            assert list(inspect.signature(getattr(_native, node.name)).parameters) == parameters, node.name
        elif isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("__"):
                    own = getattr(getattr(_native, node.name), method.name)
                    parameters = [argument.arg for argument in method.args.args]
                    assert list(inspect.signature(own).parameters) == parameters, method.name
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            seen.add(node.name)
    public = {name for name in dir(_native) if not name.startswith("_")}
    assert public == seen
