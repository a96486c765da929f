"""PyTorch as an engine for table.py: pytorch.py cached|official. The trunk of Qwen3-0.6B with random weights in bf16,
without a head. `cached` keeps keys and values; `official` does what the published API does for every token of a
stream: the whole conversation again, stream by stream."""

import os
import sys

import torch
import transformers

from engine import SHAPE, serve

VOCABULARY = 1024


class Engine:
    warm = 1

    def __init__(self):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.manual_seed(1)
        config = transformers.Qwen3Config(
            vocab_size=VOCABULARY,
            hidden_size=SHAPE["hidden"],
            intermediate_size=SHAPE["ffn"],
            num_hidden_layers=SHAPE["layers"],
            num_attention_heads=SHAPE["heads"],
            num_key_value_heads=SHAPE["kv_heads"],
            head_dim=SHAPE["head_dim"],
            max_position_embeddings=32768,
            dtype=torch.bfloat16,
        )
        with torch.device("cpu"):
            self.model = transformers.Qwen3Model(config).to(torch.bfloat16).eval()

    def forward(self, streams, new, cache=None):
        ids = torch.randint(VOCABULARY, (streams, new))
        return self.model(input_ids=ids, past_key_values=cache, use_cache=True)

    def info(self):
        return {"version": f"{torch.__version__}, transformers {transformers.__version__}"}


class Cached(Engine):
    def prepare(self, count, length):
        self.length, self.caches = length, {}
        cache = self.forward(1, length).past_key_values
        self.one = [(layer.keys, layer.values) for layer in cache.layers]

    def step(self, streams, new):
        self.forward(streams, new, self.cache(streams))

    def cache(self, streams):
        """A cache of so many streams; only one is kept, because batches of different sizes cannot share."""
        if streams not in self.caches:
            cache = transformers.DynamicCache()
            for index, (keys, values) in enumerate(self.one):
                cache.update(keys.repeat(streams, 1, 1, 1), values.repeat(streams, 1, 1, 1), index)
            self.caches = {streams: cache}
        return self.caches[streams]

    def roll_back(self, streams, _new):
        for layer in self.caches[streams].layers:
            layer.keys, layer.values = layer.keys[..., : self.length, :], layer.values[..., : self.length, :]


class Official(Engine):
    warm = 0  # a step takes seconds

    def prepare(self, _count, length):
        self.length = length

    def step(self, streams, new):
        for _ in range(streams):
            for token in range(new):
                self.forward(1, self.length + token + 1)

    def roll_back(self, _streams, _new):
        pass


def main():
    engine = {"cached": Cached, "official": Official}[sys.argv[1]]()
    with torch.inference_mode():
        serve(engine.info, engine.prepare, engine.step, engine.roll_back, warm=engine.warm)


main()
