"""Exports Qwen3Guard-Stream checkpoints as libqwenguard bundles."""

import os

# Newer versions of ONNX Runtime report about their use unless this is set before they are imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
