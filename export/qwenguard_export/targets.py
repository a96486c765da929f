"""What a bundle's graphs are made for, as the command line names it."""

from __future__ import annotations

from dataclasses import dataclass

from . import limits

CPU, WEBGPU, CUDA, PORTABLE = TARGETS = ("cpu", "webgpu", "cuda", "portable")

GPUS = (WEBGPU, CUDA)

# Names that stand for several.
_GROUPS = {"gpu": GPUS}

PRECISIONS = ("fp16", "fp32")
GPU_WEIGHTS = (16, 8, 4)

# Of the portable graphs: contexts, and numbers of slots.
# With three sizes of a run and two ways to append these make `limits.VARIANTS` graphs at most.
_MOST_SIZES = 4


@dataclass(frozen=True)
class TargetOptions:
    """Which targets, and how the graphs of those other than the CPU are made."""

    targets: tuple[str, ...] = (CPU,)
    gpu_weights: int = 16
    portable_precision: str = "fp16"
    portable_contexts: tuple[int, ...] = (1024, 4096)
    portable_slots: tuple[int, ...] = (1,)


def parse_targets(text: str) -> tuple[str, ...]:
    """The targets of a list like `cpu,gpu`, in the order in which they are built. Raises ValueError."""
    named: list[str] = []
    for name in text.split(","):
        if name not in TARGETS and name not in _GROUPS:
            raise ValueError(f"{name!r} is not a target, expected some of {', '.join([*TARGETS, *_GROUPS])}")
        named += _GROUPS.get(name, (name,))
    for name in named:
        if named.count(name) > 1:
            raise ValueError(f"the target {name} is named twice in {text!r}")
    return tuple(name for name in TARGETS if name in named)


def parse_contexts(text: str) -> tuple[int, ...]:
    return _sizes(text, "context", 64, limits.CONTEXT)


def parse_slots(text: str) -> tuple[int, ...]:
    return _sizes(text, "number of slots", 1, limits.VARIANT_SLOTS)


def _sizes(text: str, what: str, least: int, most: int) -> tuple[int, ...]:
    """Numbers between commas, all different. Raises ValueError."""
    sizes = []
    for part in text.split(","):
        if not part.isascii() or not part.isdigit() or len(part) > 9 or not least <= int(part) <= most:
            raise ValueError(f"{part!r} is not a {what} from {least} to {most}")
        if int(part) in sizes:
            raise ValueError(f"the {what} {part} comes twice in {text!r}")
        sizes.append(int(part))
    if len(sizes) > _MOST_SIZES:
        raise ValueError(f"{len(sizes)} values, at most {_MOST_SIZES} make sense")
    return tuple(sizes)
