"""How much memory the process used at most."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_bytes() -> int | None:
    """Peak resident size of this process, or None where the system does not say."""
    if sys.platform == "linux":
        # getrusage would also count what the parent process used before it started us.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return None
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
