"""The exporter's memory does not grow with the model."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import Spec, small_config

# What the exporter may use beyond its libraries and the largest tensor: one chunk and its conversions.
_CONSTANT_MIB = 48


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_peak_memory(tmp_path):
    small = Spec().write(tmp_path / "small")
    config = small_config(vocab_size=60000, hidden_size=256, intermediate_size=24000, num_hidden_layers=2)
    large = Spec(config=config).write(tmp_path / "large")
    base, _ = build_peak(small, "int8", tmp_path)
    for precision in ("int8", "fp32"):
        used, largest = build_peak(large, precision, tmp_path)
        assert largest == pytest.approx(60000 * 256 * 4 / 2**20, abs=1)
        assert used - base < largest + _CONSTANT_MIB


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    "arguments",
    [
        ("--target", "gpu,portable", "--portable-context", "64"),
        ("--target", "gpu", "--gpu-weights", "8"),
    ],
)
def test_peak_memory_of_other_targets(tmp_path, arguments):
    """No weight has a dimension that CoreML does not take."""
    small = Spec(config=small_config(hidden_size=64, head_dim=16, intermediate_size=96)).write(tmp_path / "small")
    config = small_config(vocab_size=60000, hidden_size=256, intermediate_size=16384, num_hidden_layers=2, head_dim=64)
    large = Spec(config=config).write(tmp_path / "large")
    base, _ = peak(small, tmp_path / "a", *arguments)
    used, largest = peak(large, tmp_path / "b", *arguments)
    assert used - base < largest + _CONSTANT_MIB


def build_peak(checkpoint: Path, precision: str, folder: Path) -> tuple[int, int]:
    return peak(checkpoint, folder / f"{checkpoint.name}-{precision}", "--precision", precision)


def peak(checkpoint: Path, out: Path, *arguments: str) -> tuple[int, int]:
    """Before the graph is run, which takes a layer more."""
    command = [sys.executable, "-m", "qwenguard_export", str(checkpoint), str(out), "--no-parity"]
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    match = re.search(r"\((\d+) MiB before the graph was run\), largest tensor: (\d+) MiB", result.stdout)
    return int(match[1]), int(match[2])
