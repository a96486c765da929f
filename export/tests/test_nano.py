"""The committed bundles of the demonstration guards are what the exporter makes of the committed checkpoints."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import pytest

from qwenguard_export.cli import main

EXPORT = Path(__file__).parents[1]
GUARDS = ["nano", "nano-gen"]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def nodes(graph: Path) -> list[str]:
    return [str(node) for node in onnx.load_model(graph, load_external_data=False).graph.node]


@pytest.mark.parametrize("guard", GUARDS)
def test_the_committed_bundle_is_up_to_date(tmp_path: Path, guard: str) -> None:
    bundle, committed = tmp_path / "bundle", EXPORT / guard / "bundle"
    assert main([str(EXPORT / guard / "checkpoint"), str(bundle), "--no-parity"]) == 0
    for name in ("weights.bin", "tokenizer.json", "chat_template.jinja"):
        assert digest(bundle / name) == digest(committed / name), name
    # Its bytes are up to the version of the onnx package.
    assert nodes(bundle / "paged.onnx") == nodes(committed / "paged.onnx")


@pytest.mark.parametrize("guard", GUARDS)
def test_the_committed_bundle_is_small(guard: str) -> None:
    assert sum(file.stat().st_size for file in (EXPORT / guard / "bundle").iterdir()) <= 8 * 2**20
