"""Step times of PyTorch on a GPU, for the same cases as benches/gpu.rs: pytorch.py 0.6B|4B...

A Qwen3 decoder with random weights in bf16, without heads: fused projections, static key-value caches, attention by
FlashAttention through PyTorch's own function, each step as it is and as a CUDA graph. Every stream has the same context,
so that no mask is needed and nothing is padded: this is the best case for PyTorch, not what a server gets.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention.bias import causal_lower_right

# hidden, layers, heads, key-value heads, intermediate.
SHAPES = {"0.6B": (1024, 28, 16, 8, 3072), "4B": (2560, 36, 32, 8, 9728)}
HEAD, VOCABULARY, THETA, EPSILON = 128, 151936, 1e6, 1e-6

# Streams, new tokens of each, and the context before.
CASES = [(1, 1, 1000), (16, 1, 1000), (64, 1, 1000), (256, 1, 1000), (1, 512, 64), (4, 2048, 64)]
WARM_UP, TIMES = 3, 20


class Decoder:
    def __init__(self, hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int) -> None:
        self.heads, self.kv_heads, self.queries = heads, kv_heads, heads * HEAD

        def matrix(rows: int, columns: int) -> torch.Tensor:
            return torch.randn(rows, columns, dtype=torch.bfloat16, device="cuda") * 0.02

        def norm(size: int) -> torch.Tensor:
            return torch.ones(size, dtype=torch.bfloat16, device="cuda")

        self.embedding, self.norm = matrix(VOCABULARY, hidden), norm(hidden)
        self.layers = [
            {
                "norm": norm(hidden),
                "qkv": matrix((heads + 2 * kv_heads) * HEAD, hidden),
                "q_norm": norm(HEAD),
                "k_norm": norm(HEAD),
                "out": matrix(hidden, heads * HEAD),
                "mlp_norm": norm(hidden),
                "gate_up": matrix(2 * intermediate, hidden),
                "down": matrix(hidden, intermediate),
            }
            for _ in range(layers)
        ]

    def prepare(self, streams: int, new: int, past: int) -> None:
        """The inputs of a step, and caches that are full up to it."""
        shape = (streams, self.kv_heads, past + new, HEAD)
        self.caches = [
            tuple(torch.randn(shape, dtype=torch.bfloat16, device="cuda") for _ in "kv") for _ in self.layers
        ]
        positions = torch.arange(past, past + new, device="cuda").float()
        angles = torch.outer(positions, THETA ** (-torch.arange(0, HEAD, 2, device="cuda").float() / HEAD))
        angles = torch.cat([angles, angles], -1)
        self.cos, self.sin = angles.cos().bfloat16(), angles.sin().bfloat16()
        self.past, self.ids = past, torch.randint(VOCABULARY, (streams, new), device="cuda")
        self.bias = None if new == 1 else causal_lower_right(new, past + new)

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x.chunk(2, -1)
        return x * self.cos + torch.cat([-right, left], -1) * self.sin

    def step(self) -> torch.Tensor:
        streams, new = self.ids.shape
        x = F.embedding(self.ids, self.embedding)
        for layer, (keys, values) in zip(self.layers, self.caches):
            h = F.rms_norm(x, x.shape[-1:], layer["norm"], EPSILON)
            qkv = F.linear(h, layer["qkv"]).view(streams, new, -1, HEAD).transpose(1, 2)
            q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads], 1)
            q = self.rotate(F.rms_norm(q, (HEAD,), layer["q_norm"], EPSILON))
            keys[:, :, self.past :] = self.rotate(F.rms_norm(k, (HEAD,), layer["k_norm"], EPSILON))
            values[:, :, self.past :] = v
            h = F.scaled_dot_product_attention(q, keys, values, attn_mask=self.bias, enable_gqa=True)
            x = x + F.linear(h.transpose(1, 2).reshape(streams, new, self.queries), layer["out"])
            h = F.rms_norm(x, x.shape[-1:], layer["mlp_norm"], EPSILON)
            gate, up = F.linear(h, layer["gate_up"]).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, layer["down"])
        return F.rms_norm(x, x.shape[-1:], self.norm, EPSILON)


def median_ms(step) -> float:
    times = []
    for _ in range(WARM_UP + TIMES):
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[WARM_UP:])


def captured(step) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


@torch.inference_mode()
def main() -> None:
    print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}")
    for name in sys.argv[1:]:
        decoder = Decoder(*SHAPES[name])
        print(f"{name}\n{'streams':>8} {'new':>6} {'context':>8} {'median':>9} {'graph':>9}")
        for streams, new, context in CASES:
            decoder.caches = []
            torch.cuda.empty_cache()
            decoder.prepare(streams, new, context)
            plain = median_ms(decoder.step)
            graph = captured(decoder.step)
            print(f"{streams:>8} {new:>6} {context:>8} {plain:>9.2f} {median_ms(graph.replay):>9.2f}", flush=True)
            del graph
        del decoder
        torch.cuda.empty_cache()


main()
