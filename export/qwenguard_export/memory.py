"""How much memory the process used at most."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_bytes() -> int | None:
    """Largest peak resident size of this process and those that it ran, or None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    ran = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    if sys.platform != "linux":
        return max(ran, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
    # getrusage would also count what the parent process used before it started us.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return max(ran, int(line.split()[1]) * 1024)
    return None
