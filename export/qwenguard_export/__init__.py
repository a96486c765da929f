"""Exports Qwen3Guard-Stream checkpoints as libqwenguard bundles."""

__version__ = "0.1.0"
