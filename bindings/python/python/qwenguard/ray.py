"""Ray Data: a callable for ``map_batches``. It needs ``ray[data]``; this module itself does not import it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from ._guard import Guard
from ._results import Decoding, TextOverflow
from ._settings import Settings


class Annotator:
    """A stateful callable: each actor opens the guard once and annotates batches, with as many threads as it has CPUs. The columns
    are those of :meth:`Guard.annotate_table`::

        dataset.map_batches(
            Annotator,
            fn_constructor_kwargs={"bundle": "/models/guard-gen-int8", "prompt": "prompt", "response": "response"},
            batch_format="pyarrow",
            batch_size=256,
            num_cpus=4,
            compute=ray.data.ActorPoolStrategy(size=8),
        )

    :param bundle: the folder of a bundle, which every machine has; without one the built-in guard that writes its verdicts.
    :param config: how it is opened. ``runtime.threads`` is set to the CPUs of the actor if it does not say it.
    :param policy: the rules of ``guard_decision``.

    All others are those of :meth:`Guard.annotate_table`.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | None = None,
        *,
        config: Settings | None = None,
        policy: Settings | None = None,
        messages: str | None = None,
        prompt: str | None = None,
        response: str | None = None,
        prefix: str = "guard_",
        decoding: Decoding | str = Decoding.CONSTRAINED,
        overflow: TextOverflow | str = TextOverflow.REFUSE,
        reward: Settings | None = None,
        helpfulness: str | None = None,
        thinking: str | None = None,
    ) -> None:
        config = with_threads(config, _cpus())
        if bundle is None:
            self.guard = Guard.nano_gen(config=config, policy=policy)
        else:
            self.guard = Guard.open(bundle, config=config, policy=policy)
        self._options: dict[str, Any] = {
            "messages": messages,
            "prompt": prompt,
            "response": response,
            "prefix": prefix,
            "decoding": decoding,
            "overflow": overflow,
            "reward": reward,
            "helpfulness": helpfulness,
            "thinking": thinking,
        }

    def __call__(self, batch: Any) -> Any:
        """A batch with the columns of the guard: of Arrow, pandas, or a mapping of arrays."""
        return self.guard.annotate_table(batch, progress=False, **self._options)


def with_threads(config: Settings | None, threads: int | None) -> Settings | None:
    """The configuration with so many threads, unless it says how many."""
    if threads is None:
        return config
    if config is None:
        return {"runtime": {"threads": threads}}
    if isinstance(config, str):
        return _in_document(config, threads)
    runtime = config.get("runtime", {})
    # What is no table is told of when the guard is opened.
    return {**config, "runtime": {"threads": threads, **runtime}} if isinstance(runtime, Mapping) else config


def _in_document(document: str, threads: int) -> Settings:
    if sys.version_info >= (3, 11):
        import tomllib

        try:
            return with_threads(tomllib.loads(document), threads) or {}
        except tomllib.TOMLDecodeError:
            # As above.
            return document
    else:
        return _in_lines(document, threads)


def _in_lines(document: str, threads: int) -> str:
    """The document with a line that sets the threads, unless one of its lines does: Python 3.10 has no parser of TOML."""
    lines = document.split("\n")
    if any(re.match(r"[^#]*\bthreads[\"']?\s*=", line) for line in lines):
        return document
    for index, line in enumerate(lines):
        if re.match(r"\s*\[\s*runtime\s*\]", line):
            return "\n".join([*lines[: index + 1], f"threads = {threads}", *lines[index + 1 :]])
    return "\n".join([f"runtime.threads = {threads}", *lines])


def _cpus() -> int | None:
    """The CPUs that Ray gave to this actor; none outside of one."""
    try:
        import ray
    except ImportError:
        return None
    if not ray.is_initialized():
        return None
    resources = ray.get_runtime_context().get_assigned_resources()
    cpus = resources.get("CPU")
    return None if cpus is None else max(1, int(cpus))
