"""Annotates Parquet with Ray Data, on one machine or many. A run that was killed goes on where it was:

    python ray_annotate.py INPUT OUTPUT CHECKPOINTS [--bundle DIR] [--actors N] [--cpus N]

INPUT has a column `id`, unique and never null, and `messages`, or `prompt` with or without `response`.
"""

import argparse

import ray
from ray.data.checkpoint import CheckpointConfig

from qwenguard.ray import Annotator

# Ray commits as many rows at once: what is lost if it is killed.
BLOCK = 256


def main() -> None:
    """Annotates what is not annotated yet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("checkpoints", help="a folder that every machine sees, for this job alone")
    parser.add_argument("--bundle")
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--cpus", type=float, default=1, help="of each actor: its threads")
    parser.add_argument("--block", type=int, default=BLOCK)
    options = parser.parse_args()

    context = ray.data.DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        id_column="id", checkpoint_path=options.checkpoints, delete_checkpoint_on_success=False
    )
    dataset = ray.data.read_parquet(options.input)
    # Without it all rows of a file are one write, and there is nothing to go on from.
    dataset = dataset.repartition(target_num_rows_per_block=options.block)
    annotated = dataset.map_batches(
        Annotator,
        fn_constructor_kwargs={"bundle": options.bundle},
        batch_format="pyarrow",
        batch_size=options.block,
        num_cpus=options.cpus,
        compute=ray.data.ActorPoolStrategy(size=options.actors),
        udf_modifying_row_count=False,
    )
    annotated.write_parquet(options.output)


if __name__ == "__main__":
    main()
