"""Comparing with what the vectors expect: all fields are equal, and numbers with a point nearly."""

from typing import Any

from qwenguard import GuardError

TOLERANCE = 1e-3


def same(place: str, wanted: Any, found: Any) -> None:
    """Fails where they differ."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        assert wanted.keys() == found.keys(), f"{place} has {sorted(found)}, not {sorted(wanted)}"
        for key in wanted:
            same(f"{place}.{key}", wanted[key], found[key])
    elif isinstance(wanted, list) and isinstance(found, list):
        assert len(wanted) == len(found), f"{place} has {len(found)} items, not {len(wanted)}"
        for index, (one, other) in enumerate(zip(wanted, found)):
            same(f"{place}[{index}]", one, other)
    elif isinstance(wanted, float) and isinstance(found, float):
        assert abs(wanted - found) <= TOLERANCE, f"{place} is {found}, not {wanted}"
    else:
        assert type(wanted) is type(found) and wanted == found, f"{place} is {found!r}, not {wanted!r}"


def error(failure: GuardError) -> dict[str, Any]:
    """A failure as the vectors have it."""
    return {"error": {"status": f"QG_ERROR_{failure.status.name}", "message": str(failure)}}
