"""The engines' side of the conversation with table.py, see benches/steps.rs for the commands."""

import json
import re
import sys
import time

SHAPE = {"hidden": 1024, "layers": 28, "heads": 16, "kv_heads": 8, "head_dim": 128, "ffn": 3072}
STREAMS = 16
LONG = 2000  # above this context there is one stream


def serve(info, prepare, step, roll_back, warm=1):
    """Answers commands. `prepare(count, context)` makes streams, `step(streams, new)` computes new tokens of the first
    of them and `roll_back(streams, new)` removes these again. The first `warm` steps of a command do not count."""
    prepared = None
    for line in sys.stdin:
        words = line.split()
        if words == ["info"]:
            print(json.dumps(info()), flush=True)
            continue
        streams, new, context = map(int, re.split("[x@]", words[0]))
        if context != prepared:
            prepare(1 if context > LONG else STREAMS, context)
            prepared = context
        times = []
        for _ in range(int(words[1]) + warm):
            start = time.perf_counter()
            step(streams, new)
            times.append((time.perf_counter() - start) * 1e3)
            roll_back(streams, new)
        print(json.dumps(times[warm:]), flush=True)
