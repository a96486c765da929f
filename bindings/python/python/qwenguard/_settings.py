"""Configurations, policies and reward rules: a TOML document, or a mapping of the same names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Union

from ._errors import ConfigError

Settings = Union[str, Mapping[str, Any]]
"""A TOML document, or a mapping of the same names, such as ``{"answer": {"mode": "loose"}}``."""


def document(settings: Settings | None) -> tuple[bool, str] | None:
    """Whether it is JSON, and the text. A mapping becomes JSON, which says the same."""
    if settings is None:
        return None
    if isinstance(settings, str):
        return False, settings
    if isinstance(settings, Mapping):
        try:
            return True, json.dumps(dict(settings), allow_nan=False)
        except ValueError as error:
            raise ConfigError(f"configuration: the dictionary cannot be read: {error}") from None
    raise TypeError(f"settings must be a TOML document or a mapping, not {type(settings).__name__}")
