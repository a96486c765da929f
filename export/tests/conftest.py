from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoints import Spec

from qwenguard_export.export import Options, Report, export

Export = Callable[..., Report]


@pytest.fixture
def export_spec(tmp_path: Path) -> Export:
    """Writes a checkpoint and exports it to tmp_path / "bundle"."""

    def run(spec: Spec, *, precision: str = "fp32", **options: Any) -> Report:
        checkpoint = spec.write(tmp_path / "checkpoint")
        return export(Options(checkpoint, tmp_path / "bundle", precision, **options))

    return run
