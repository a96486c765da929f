"""The committed bundle of the demonstration guard is what the exporter makes of the committed checkpoint."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx

from qwenguard_export.cli import main

NANO = Path(__file__).parents[1] / "nano"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def nodes(graph: Path) -> list[str]:
    return [str(node) for node in onnx.load_model(graph, load_external_data=False).graph.node]


def test_the_committed_bundle_is_up_to_date(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    assert main([str(NANO / "checkpoint"), str(bundle), "--no-parity"]) == 0
    for name in ("weights.bin", "tokenizer.json", "chat_template.jinja"):
        assert digest(bundle / name) == digest(NANO / "bundle" / name), name
    # Its bytes are up to the version of the onnx package.
    assert nodes(bundle / "paged.onnx") == nodes(NANO / "bundle/paged.onnx")


def test_the_committed_bundle_is_small() -> None:
    assert sum(file.stat().st_size for file in (NANO / "bundle").iterdir()) <= 8 * 2**20
