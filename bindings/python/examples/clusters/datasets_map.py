"""Annotates a data set of Hugging Face's `datasets`: python datasets_map.py INPUT.parquet OUTPUT.parquet [BUNDLE]

INPUT has columns `prompt` and `response`. Only what is safe is written.
"""

import sys
from typing import Any

from datasets import Dataset

from qwenguard import Guard


def main() -> None:
    """Annotates and filters it."""
    source, target, *bundle = sys.argv[1:]
    guard = Guard.open(bundle[0]) if bundle else Guard.nano_gen()

    def annotate(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        found = guard.annotate_table(batch, progress=False)
        # Maps have no type there; probabilities of categories are in the other columns' company.
        return {name: found[name] for name in found if name != "guard_category_probs"}

    rows = Dataset.from_parquet(source)
    annotated = rows.map(annotate, batched=True, batch_size=256, new_fingerprint=None)
    annotated.filter(lambda risk: risk == "Safe", input_columns="guard_risk").to_parquet(target)


if __name__ == "__main__":
    main()
