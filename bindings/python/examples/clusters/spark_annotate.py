"""Annotates Parquet with Spark: python spark_annotate.py INPUT OUTPUT [BUNDLE]

INPUT has columns `prompt` and `response`. Every executor's process opens the guard once, whatever the number of its tasks.
"""

import sys
from collections.abc import Iterator

import pyarrow
from pyspark.sql import SparkSession

from qwenguard import Guard


def main() -> None:
    """Annotates it."""
    source, target, *bundle = sys.argv[1:]
    spark = SparkSession.builder.getOrCreate()
    rows = spark.read.parquet(source)
    # As many threads as spark.task.cpus says; a pickle of the guard is its path and its settings.
    config = "runtime.threads = 1"
    guard = Guard.open(bundle[0], config=config) if bundle else Guard.nano_gen(config=config)

    def annotate(batches: Iterator[pyarrow.RecordBatch]) -> Iterator[pyarrow.RecordBatch]:
        for batch in batches:
            yield guard.annotate_table(batch, progress=False)

    # The types of the new columns: those of a table without rows.
    empty = guard.annotate_table(pyarrow.table({"prompt": pyarrow.array([], "string"), "response": pyarrow.array([], "string")}))
    new = ", ".join(f"{field.name} {sql_type(field.type)}" for field in empty.schema if field.name.startswith("guard_"))
    old = ", ".join(f"`{name}` {kind}" for name, kind in rows.dtypes)
    rows.mapInArrow(annotate, f"{old}, {new}").write.parquet(target)
    spark.stop()


def sql_type(kind: pyarrow.DataType) -> str:
    """A type of Arrow as Spark calls it."""
    names = {"string": "string", "float": "float", "double": "double", "bool": "boolean"}
    if pyarrow.types.is_list(kind):
        return f"array<{sql_type(kind.value_type)}>"
    if pyarrow.types.is_map(kind):
        return f"map<{sql_type(kind.key_type)}, {sql_type(kind.item_type)}>"
    return names[str(kind)]


if __name__ == "__main__":
    main()
