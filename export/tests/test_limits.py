"""The exporter's limits are the library's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qwenguard_export import limits

LIBRARY = Path(__file__).parents[2]

# Of the library alone: settings, what the exporter does not choose, and what follows from other limits.
OTHERS = {"SETTINGS_BYTES", "FILES", "GRAPH_ITEMS", "CACHE_BLOCKS", "TEMPLATE_ITEMS", "TEMPLATE_NESTING", "VARIANT_TOKENS"}


def source(name: str) -> str:
    path = LIBRARY / name
    if not path.is_file():
        pytest.skip(f"{name} is not here: the exporter was taken out of its repository")
    return path.read_text()


def test_numbers():
    constants = re.findall(r"const (\w+): \w+ = ([\d_< ]+);", source("src/limits.rs"))
    assert len(constants) > 20
    for name, value in constants:
        if name not in OTHERS:
            assert getattr(limits, name) == eval(value), name


def test_categories_are_what_the_c_interface_has_room_for():
    (found,) = re.findall(r"#define QG_MAX_CATEGORIES (\d+)", source("include/qwenguard.h"))
    assert int(found) == limits.CATEGORIES


def test_levels():
    levels = set(re.findall(r'"(\w+)" => Some\(Risk::', source("src/verdict.rs")))
    assert levels == set(limits.RISKS)


def test_steps_of_the_tokenizer():
    (split,) = re.findall(r'const SPLIT: &str =\s*r"(.*)";', source("src/text/pipeline.rs"))
    assert split == limits.SPLIT
    definition = source("src/text/definition.rs")
    for name in ("NORMALIZERS", "PRE_TOKENIZERS"):
        (listed,) = re.findall(rf"const {name}: [^=]*= \[(.*)\];", definition)
        assert tuple(re.findall(r'"(\w+)"', listed)) == getattr(limits, name)
    assert f"const STEPS: usize = {limits.STEPS};" in definition
    assert f"(1..={limits.SPLIT_BYTES})" in definition
