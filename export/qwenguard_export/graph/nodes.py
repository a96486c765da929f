"""Nodes of a graph, with the weights that they use."""

from __future__ import annotations

from typing import Any

from onnx import NodeProto, helper

from ..store import BITS, WeightStore

CONTRIB_DOMAIN = "com.microsoft"
OWN_DOMAIN = "ai.qwenguard"

# MatMulNBits with 8-bit activations, which it has fast kernels for.
_ACCURACY_LEVEL = 4


class Nodes:
    """Nodes in the order in which they run. Methods return the name of what their node computes."""

    def __init__(self, store: WeightStore, epsilon: float) -> None:
        self.store = store
        self.nodes: list[NodeProto] = []
        self._epsilon = epsilon

    def node(self, operator: str, name: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        output = output or f"{name}/output"
        self.add(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def add(self, node: NodeProto) -> None:
        self.nodes.append(node)

    def projection(self, name: str, source: str, weight: str, tensors: list[str]) -> str:
        """Multiplies by stacked matrices, quantised as the bundle is."""
        if self.store.precision not in BITS:
            return self.matmul(name, source, weight, tensors)
        quantized = self.store.quantized(weight, tensors)
        inputs = [source, quantized.packed, quantized.scales]
        sizes = {"K": quantized.columns, "N": quantized.rows}
        if self.store.precision == "int8":
            return self.node("MatMulInt8", name, inputs, domain=OWN_DOMAIN, **sizes, block=self.store.block)
        return self.node(
            "MatMulNBits",
            name,
            inputs,
            domain=CONTRIB_DOMAIN,
            **sizes,
            bits=BITS[self.store.precision],
            block_size=self.store.block,
            accuracy_level=_ACCURACY_LEVEL,
        )

    def matmul(self, name: str, source: str, weight: str, tensors: list[str], output: str | None = None) -> str:
        """Multiplies by stacked matrices in float32."""
        self.store.transposed(weight, tensors)
        return self.node("MatMul", name, [source, weight], output=output)

    def norm(self, name: str, source: str, weight: str) -> str:
        return self.node("SimplifiedLayerNormalization", name, [source, weight], axis=-1, epsilon=self._epsilon)

    def skip_norm(self, name: str, branch: str, stream: str, weight: str, keep_sum: bool = True) -> tuple[str, str]:
        """Adds a branch to the residual stream; returns the normalised sum and the sum."""
        normed, total = f"{name}/output", f"{name}/sum"
        self.add(
            helper.make_node(
                "SkipSimplifiedLayerNormalization",
                [branch, stream, weight],
                # Outputs 1 and 2, mean and deviation, are for training.
                [normed, "", "", total] if keep_sum else [normed],
                name=name,
                domain=CONTRIB_DOMAIN,
                epsilon=self._epsilon,
            )
        )
        return normed, total

    def vector(self, name: str, source: str) -> str:
        """A tensor of one dimension, as stored."""
        self.store.vector(name, source)
        return name
