"""ONNX Runtime must not report about its use: it reads a variable when it is loaded."""

import os
import subprocess
import sys

_PROGRAM = """
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            print("imported with", os.environ.get("ORT_DISABLE_TELEMETRY"))

sys.meta_path.insert(0, Watch())
import qwenguard_export.cli, qwenguard_export.export, qwenguard_export.exported, qwenguard_export.quantize
"""


def test_the_variable_is_set_before_the_runtime_is_imported() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[:1] == ["imported with 1"]
