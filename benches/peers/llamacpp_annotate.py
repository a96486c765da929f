"""llama.cpp as an engine for annotate.py: llamacpp_annotate.py MODEL.gguf. Writes the model if it is not there: that of
llamacpp.py with the vocabulary of Qwen3, whose output layer is its embedding. It does as well as it can:

- All sequences keep the tokens that all conversations begin with, so that nothing is computed or copied for them.
- Pieces of one length go into a batch together, as many as it takes, so that no smaller batch is cut off of it. Longer
  pieces are cut evenly.
- Decisions of all texts that there is memory for are computed together, and only the logits that decide.
"""

import argparse
import itertools
import json
import os
import sys
import time

import llama_cpp as llama
import numpy as np

from llamacpp import info, load_model, write_model

VOCABULARY = 151936
ORDINARY = 151643  # ids from here on are special tokens
CACHE_BYTES = 4 << 30
BYTES_PER_TOKEN = 28 * 2 * 8 * 128 * 2


class Engine:
    def __init__(self, path, options):
        self.model = load_model(path)
        self.options = options
        self.batch = llama.llama_batch_init(options.batch, 0, 1)
        self.random = np.random.default_rng(2)
        self.context, self.shape = None, None
        self.computed = 0

    def prepare(self, prefix, texts):
        """Sequences that begin with the prefix, unless they are there from the last call."""
        longest = max(sum(chunk["feed"] for chunk in text) for text in texts)
        room = -(-(prefix + longest) // 256) * 256
        count = min(len(texts), self.options.sequences, CACHE_BYTES // (room * BYTES_PER_TOKEN))
        if (prefix, room, count) == self.shape:
            return
        if self.context:
            llama.llama_free(self.context)
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_seq_max = count * room, count
        params.n_batch = params.n_ubatch = self.options.batch
        params.n_threads = params.n_threads_batch = len(os.sched_getaffinity(0))
        params.kv_unified = self.options.unified
        self.context = llama.llama_init_from_model(self.model, params)
        self.memory = llama.llama_get_memory(self.context)
        self.shape, self.count, self.prefix = (prefix, room, count), count, prefix
        self.lengths = [0] * count
        self.feed([(0, {"feed": prefix, "rows": []})])
        for sequence in range(1, count):
            llama.llama_memory_seq_cp(self.memory, 0, sequence, -1, -1)
        self.lengths = [prefix] * count

    def annotate(self, texts):
        """Computes what decides texts: the first chunks of some of them, then their second ones, and so on."""
        for start in range(0, len(texts), self.count):
            for chunks in itertools.zip_longest(*texts[start : start + self.count]):
                chunks = [(sequence, chunk) for sequence, chunk in enumerate(chunks) if chunk]
                for sequence, chunk in chunks:
                    self.cut(sequence, self.lengths[sequence] - chunk["drop"])
                self.feed(chunks)
            for sequence in range(self.count):
                self.cut(sequence, self.prefix)

    def cut(self, sequence, length):
        if length < self.lengths[sequence]:
            llama.llama_memory_seq_rm(self.memory, sequence, length, -1)
            self.lengths[sequence] = length

    def feed(self, chunks):
        """Feeds a chunk to each of some sequences."""
        for length, group in itertools.groupby(sorted(chunks, key=size), size):
            group = list(group)
            pieces = -(-length // self.options.batch)
            at_once = max(1, self.options.batch // length)
            for start in range(0, len(group), at_once):
                for piece in range(pieces):
                    span = range(length * piece // pieces, length * (piece + 1) // pieces)
                    self.decode(group[start : start + at_once], span)

    def decode(self, chunks, span):
        """Computes a span of each of some chunks."""
        batch = self.batch
        batch.n_tokens = len(chunks) * len(span)
        tokens = iter(self.random.integers(ORDINARY, size=batch.n_tokens).tolist())
        index = 0
        for sequence, chunk in chunks:
            for place in span:
                batch.token[index] = next(tokens)
                batch.pos[index] = self.lengths[sequence] + place - span.start
                batch.n_seq_id[index] = 1
                batch.seq_id[index][0] = sequence
                batch.logits[index] = place in chunk["rows"]
                index += 1
            self.lengths[sequence] += len(span)
        if llama.llama_decode(self.context, batch) != 0:
            sys.exit("llama_decode failed")
        llama.llama_synchronize(self.context)
        self.computed += batch.n_tokens


def size(chunk):
    return chunk[1]["feed"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--batch", type=int, default=512, help="tokens of a batch")
    parser.add_argument("--sequences", type=int, default=64, help="texts at once, if there is memory for them")
    parser.add_argument("--unified", action="store_true", help="one buffer for all sequences")
    options = parser.parse_args()
    if not os.path.exists(options.model):
        write_model(options.model, "q8_0", VOCABULARY)
    engine = Engine(options.model, options)
    for line in sys.stdin:
        if line.strip() == "info":
            print(json.dumps(info()), flush=True)
            continue
        work = json.loads(line)
        engine.prepare(work["prefix"], work["texts"])
        engine.computed = 0
        start = time.perf_counter()
        engine.annotate(work["texts"])
        ms = (time.perf_counter() - start) * 1e3
        print(json.dumps({"ms": ms, "computed": engine.computed}), flush=True)


main()
