"""Where ONNX Runtime is: the library in the package ``onnxruntime``, which is not imported for it."""

from __future__ import annotations

import importlib.util
import os
from functools import lru_cache
from pathlib import Path

# Builds of ONNX Runtime from 1.29 on would report about their use: nothing leaves the host. It has to be set before one is
# initialised.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_NAMES = ("libonnxruntime.so*", "libonnxruntime*.dylib", "onnxruntime.dll")


def library() -> str | None:
    """The library to load where the configuration names none: none if the environment names one, or there is no package."""
    if os.environ.get("ORT_DYLIB_PATH"):
        return None
    return _packaged()


@lru_cache(maxsize=1)
def _packaged() -> str | None:
    spec = importlib.util.find_spec("onnxruntime")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for name in _NAMES:
            found = sorted(path for path in Path(folder, "capi").glob(name) if "providers" not in path.name)
            if found:
                return str(found[-1])
    return None
