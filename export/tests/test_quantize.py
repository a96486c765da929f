"""Blockwise quantisation: how much it loses, and that the operator reads it as we do."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from qwenguard_export.exported import operators
from qwenguard_export.quantize import pack_panels, panel_shapes, quantize_rows
from qwenguard_export.store import _BFLOAT16, _FLOAT32, _whole_panels


@pytest.mark.parametrize("columns", [32, 33, 80, 96, 1024])
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize(("bits", "limit"), [(8, 0.007), (4, 0.12)])
def test_weight_error(columns, group, bits, limit):
    weight = np.random.default_rng(1).standard_normal((24, columns), dtype=np.float32)
    weight[5] = 0
    packed, scales = quantize_rows(weight, bits, group, _FLOAT32)
    restored = _dequantize(packed, scales, bits)[:, :columns]
    assert np.linalg.norm(restored - weight) / np.linalg.norm(weight) < limit
    assert not restored[5].any()


@pytest.mark.parametrize("columns", [48, 80, 256])
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("bits", [8, 4])
def test_operator_reads_the_format(columns, group, bits):
    generator = np.random.default_rng(2)
    packed, scales = quantize_rows(generator.standard_normal((40, columns), dtype=np.float32), bits, group, _FLOAT32)
    x = generator.standard_normal((5, columns), dtype=np.float32)
    wanted = x @ _dequantize(packed, scales, bits)[:, :columns].T
    found = _matmul_nbits(x, packed, scales, bits, group)
    # What is left is the rounding of x to 8 bits.
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 0.01


@pytest.mark.parametrize("scale_type", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("bits", [8, 4])
def test_scales_of_16_bits_cost_little(scale_type, bits):
    """Beside scales in float32."""
    weight = np.random.default_rng(7).standard_normal((64, 1024), dtype=np.float32)
    exact, rounded = (_dequantize(*quantize_rows(weight, bits, 32, np.dtype(one)), bits) for one in (np.float32, scale_type))
    assert np.linalg.norm(rounded - weight) < 1.02 * np.linalg.norm(exact - weight)


@pytest.mark.parametrize("bits", [8, 4])
def test_extreme_values(bits):
    """Groups with nothing but zeros, a value alone, the least that there is, and large ones."""
    weight = np.zeros((4, 32), dtype=np.float32)
    weight[1, 3], weight[2], weight[3] = 0.25, np.finfo(np.float32).tiny, 1e9
    packed, scales = quantize_rows(weight, bits, 32, _BFLOAT16)
    restored = _dequantize(packed, scales, bits)
    assert np.isfinite(restored).all() and not restored[0].any()
    np.testing.assert_allclose(restored[[1, 3]], weight[[1, 3]], rtol=0.005)


@pytest.mark.parametrize("rows", [3, 32, 40, 96])
@pytest.mark.parametrize("columns", [32, 48, 200])
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("bits", [8, 4])
def test_panels(rows, columns, group, bits):
    """Every weight is where the layout says, and the operator's function finds it there."""
    generator = np.random.default_rng(3)
    packed, scales = quantize_rows(generator.standard_normal((rows, columns), dtype=np.float32), bits, group, _BFLOAT16)
    values, panel_scales = pack_panels(packed, scales, bits)
    assert (values.shape, panel_scales.shape) == panel_shapes(rows, columns, bits, group)
    flat = _levels(packed, bits).reshape(rows, -1)
    for row in range(values.shape[0] * 32):
        for column in range(flat.shape[1]):
            if bits == 8:
                found = values[row // 32, column // 4, row % 32, column % 4]
            else:
                found = values[row // 32, column // 8, row % 32, column % 4] >> 4 * (column // 4 % 2) & 15
            assert found == (flat[row, column] if row < rows else 2 ** (bits - 1))
    for row in range(values.shape[0] * 32):
        assert (panel_scales[row // 32, :, row % 32] == (scales[row] if row < rows else 0)).all()

    x = generator.standard_normal((5, columns), dtype=np.float32)
    wanted = x @ _dequantize(packed, scales, bits)[:, :columns].T
    np.testing.assert_allclose(_matmul(x, values, panel_scales, rows, bits, group), wanted, atol=1e-4)


def test_panels_are_cut_across_pieces():
    generator = np.random.default_rng(4)
    packed = generator.integers(0, 256, (150, 2, 32), dtype=np.uint8)
    scales = generator.standard_normal((150, 2), dtype=np.float32)
    cuts = [1, 31, 33, 40, 130]
    pieces = zip(np.split(packed, cuts), np.split(scales, cuts), strict=True)
    whole = list(_whole_panels(pieces))
    assert all(len(packed) % 32 == 0 for packed, _ in whole[:-1])
    assert (np.concatenate([packed for packed, _ in whole]) == packed).all()
    assert (np.concatenate([scales for _, scales in whole]) == scales).all()


def _matmul(x: np.ndarray, values: np.ndarray, scales: np.ndarray, rows: int, bits: int, group: int) -> np.ndarray:
    columns = x.shape[1]
    operator = f"MatMulInt{bits}"
    node = helper.make_node(
        operator, ["x", "values", "scales"], ["y"], domain="ai.qwenguard", K=columns, N=rows, group=group
    )
    graph = helper.make_graph(
        [node],
        "matmul",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["tokens", columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["tokens", rows])],
        [numpy_helper.from_array(values, "values"), helper.make_tensor("scales", TensorProto.BFLOAT16, scales.shape, scales.tobytes(), raw=True)],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.qwenguard", 1)]
    model = helper.make_model(graph, ir_version=10, opset_imports=opsets, functions=operators())
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def _matmul_nbits(x: np.ndarray, packed: np.ndarray, scales: np.ndarray, bits: int, group: int) -> np.ndarray:
    rows, columns = len(packed), x.shape[1]
    node = helper.make_node(
        "MatMulNBits",
        ["x", "packed", "scales"],
        ["y"],
        domain="com.microsoft",
        K=columns,
        N=rows,
        bits=bits,
        block_size=group,
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
    centred = _levels(packed, bits).astype(np.float32) - 2 ** (bits - 1)
    return (centred * scales.astype(np.float32)[:, :, None]).reshape(len(packed), -1)


def _levels(packed: np.ndarray, bits: int) -> np.ndarray:
    return packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1)
