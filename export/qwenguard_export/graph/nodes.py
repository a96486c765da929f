"""Nodes of a graph, with the weights that they use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from ..config import ModelConfig
from ..store import WeightStore
from ..weights import onnx_type

CONTRIB_DOMAIN = "com.microsoft"
OWN_DOMAIN = "ai.qwenguard"

_FLOAT32 = np.dtype(np.float32)


class Nodes(ABC):
    """Nodes in the order in which they run. Methods return the name of what their node computes.

    The abstract ones are the steps that targets compute in types and with operators of their own.
    """

    # What goes in and out of the layers' matrices.
    hidden_type = _FLOAT32
    # The residual stream, and the weights that normalise it for a half layer.
    stream_type = _FLOAT32

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

    def cast(self, name: str, source: str, dtype: np.dtype, output: str | None = None) -> str:
        return self.node("Cast", name, [source], output, to=onnx_type(dtype))

    def matmul(self, name: str, source: str, weight: str, tensors: list[str], output: str | None = None) -> str:
        """Multiplies by stacked matrices in float32."""
        self.store.transposed(weight, tensors)
        return self.node("MatMul", name, [source, weight], output=output)

    def layer_norm(self, name: str, source: str, weight: str) -> str:
        return self.node("SimplifiedLayerNormalization", name, [source, weight], axis=-1, epsilon=self._epsilon)

    def skip_layer_norm(
        self, name: str, branch: str, stream: str, weight: str, keep_sum: bool = True
    ) -> tuple[str, str]:
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

    def vector(self, name: str, source: str, dtype: np.dtype = _FLOAT32) -> str:
        """A tensor of one dimension."""
        self.store.vector(name, source, dtype)
        return name

    def wanted_rows(self, name: str, hidden: str, rows: str) -> str:
        """The rows of the hidden states that heads are computed for."""
        return self.node("Gather", name, [hidden, rows], axis=0)

    @abstractmethod
    def projection(self, name: str, source: str, weight: str, tensors: list[str]) -> str:
        """Multiplies by stacked matrices, stored as the target stores those of the layers."""

    def norm(self, name: str, source: str, weight: str) -> str:
        """Normalises float32 to float32; the weight is float32 too."""
        return self.layer_norm(name, source, weight)

    @abstractmethod
    def input_norm(self, name: str, stream: str, weight: str) -> str:
        """Normalises the residual stream, for a half layer to start from."""

    @abstractmethod
    def skip_norm(self, name: str, branch: str, stream: str, weight: str) -> tuple[str, str]:
        """Adds a branch to the residual stream; returns the sum normalised as by `input_norm`, and the sum."""

    @abstractmethod
    def final_norm(self, name: str, branch: str, stream: str, weight: str) -> str:
        """Adds the last branch to the residual stream and normalises the sum: float32, and so is the weight."""

    @abstractmethod
    def vocabulary(self, name: str, wanted: str, config: ModelConfig, output: str) -> None:
        """The logits of all tokens, float32 as `wanted` is. A matrix tied to the embedding is stored already."""
