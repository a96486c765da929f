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

HERE = Path(__file__).parents[1]
# Those whose packages are not installed in the tests.
MODULES = [module.name for module in pkgutil.iter_modules(qwenguard.__path__) if module.name not in ("_native", "__main__", "ray")]


@pytest.mark.parametrize("name", ["", *MODULES])
def test_examples_of_doc_comments(name: str) -> None:
    module = importlib.import_module(f"qwenguard.{name}" if name else "qwenguard")
    found = doctest.testmod(module)
    assert found.failed == 0


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


def test_the_types_are_strict() -> None:
    page = "".join(re.findall(r"```python\n(.*?)```", (HERE / "README.md").read_text(), re.DOTALL))
    example = HERE / "examples/chat.py"
    for arguments in (["-c", page], [str(example)], ["-p", "qwenguard"]):
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
