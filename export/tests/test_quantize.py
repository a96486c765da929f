"""Blockwise quantisation: how much it loses, and that the operator reads it as we do."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from qwenguard_export.quantize import quantize_rows


@pytest.mark.parametrize("columns", [32, 33, 80, 96, 1024])
@pytest.mark.parametrize("block", [32, 64, 128])
@pytest.mark.parametrize(("bits", "limit"), [(8, 0.007), (4, 0.12)])
def test_weight_error(columns, block, bits, limit):
    weight = np.random.default_rng(1).standard_normal((24, columns), dtype=np.float32)
    weight[5] = 0
    packed, scales = quantize_rows(weight, bits, block)
    restored = _dequantize(packed, scales, bits)[:, :columns]
    assert np.linalg.norm(restored - weight) / np.linalg.norm(weight) < limit
    assert not restored[5].any()


@pytest.mark.parametrize("columns", [48, 80, 256])
@pytest.mark.parametrize("block", [32, 64, 128])
@pytest.mark.parametrize("bits", [8, 4])
def test_operator_reads_the_format(columns, block, bits):
    generator = np.random.default_rng(2)
    packed, scales = quantize_rows(generator.standard_normal((40, columns), dtype=np.float32), bits, block)
    x = generator.standard_normal((5, columns), dtype=np.float32)
    wanted = x @ _dequantize(packed, scales, bits)[:, :columns].T
    found = _matmul_nbits(x, packed, scales, bits, block)
    # What is left is the rounding of x to 8 bits.
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 0.01


def _matmul_nbits(x: np.ndarray, packed: np.ndarray, scales: np.ndarray, bits: int, block: int) -> np.ndarray:
    rows, columns = len(packed), x.shape[1]
    node = helper.make_node(
        "MatMulNBits",
        ["x", "packed", "scales"],
        ["y"],
        domain="com.microsoft",
        K=columns,
        N=rows,
        bits=bits,
        block_size=block,
        accuracy_level=4,
    )
    graph = helper.make_graph(
        [node],
        "matmul",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["tokens", columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["tokens", rows])],
        [numpy_helper.from_array(packed, "packed"), numpy_helper.from_array(scales.reshape(-1), "scales")],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, ir_version=10, opset_imports=opsets)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def _dequantize(packed: np.ndarray, scales: np.ndarray, bits: int) -> np.ndarray:
    values = packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1)
    centred = values.astype(np.float32) - 2 ** (bits - 1)
    return (centred * scales[:, :, None]).reshape(len(packed), -1)
