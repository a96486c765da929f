"""Blockwise quantisation: how much it loses, and that the operator reads it as we do."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from qwenguard_export.exported import operators
from qwenguard_export.quantize import pack_panels, panel_shapes, quantize_rows, zero_points_shape
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


@pytest.mark.parametrize("columns", [32, 33, 80, 1024])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_zero_points_lose_less(columns, group):
    """Than symmetric weights, in the error that both searches lessen: no group more, and those to one side far less."""
    generator = np.random.default_rng(8)
    weight = generator.standard_normal((24, columns), dtype=np.float32)
    weight[5] = 0
    weight[6:12] = np.abs(weight[6:12]) + 0.5
    weight[12:18] = -np.abs(weight[12:18])
    symmetric = quantize_rows(weight, 4, group, _FLOAT32)
    found = quantize_rows(weight, 4, group, _FLOAT32, zero_points=True)
    with_zero_points, without = (_group_errors(weight, *one) for one in (found, symmetric))
    # Sums of float32 decide which of two is better.
    assert (with_zero_points <= without * 1.001 + 1e-12).all()
    assert with_zero_points[6:18].sum() < 0.6 * without[6:18].sum()
    zero_points = found[2]
    assert zero_points.dtype == np.uint8 and zero_points.max() <= 15 and (found[1] >= 0).all()
    # What is padded, and what is 0, stays 0.
    restored = _dequantize(*found[:2], 4, zero_points)
    assert not restored[5].any() and not restored[:, columns:].any()


@pytest.mark.parametrize("group", [32, 128])
def test_the_search_is_that_of_plain_loops(group):
    """Written for reading, in float64, a group at a time."""
    generator = np.random.default_rng(9)
    weight = generator.standard_normal((12, 2 * group), dtype=np.float32) ** 3
    weight[3:6] += 1
    weight[6] = np.abs(weight[6])
    weight[7] = -np.abs(weight[7])
    errors = _group_errors(weight, *quantize_rows(weight, 4, group, _FLOAT32, zero_points=True))
    for row in range(12):
        for index, values in enumerate(weight[row].reshape(2, group)):
            assert errors[row, index] == pytest.approx(_least_error(values), rel=1e-3)


def _least_error(values: np.ndarray) -> float:
    values = values.astype(np.float64)
    low, high = min(values.min(), 0), max(values.max(), 0)
    ranges = [(8 if -low >= high else 7, max(-low, high) / 8)]
    spread = round(-15 * low / (high - low))
    for zero in (min(max(spread + step, 0), 15) for step in (-1, 0, 1)):
        below, above = -low / zero if zero else 0, high / (15 - zero) if zero < 15 else 0
        ranges.append((zero, max(below, above)))
    errors = []
    for zero, reach in ranges:
        for largest in (7.2, 7.6, 8.0, 8.4, 8.8):
            levels = np.clip(np.rint(values / (reach * 8 / largest)), -zero, 15 - zero)
            squares = (values**2 * levels**2).sum()
            scale = (values**3 * levels).sum() / squares if squares else 0
            errors.append((values**2 * (values - levels * scale) ** 2).sum())
    return min(errors)


def _group_errors(weight: np.ndarray, packed: np.ndarray, scales: np.ndarray, zero_points=None) -> np.ndarray:
    """Squared errors, in which a weight counts by its square, [rows, groups]."""
    restored = _dequantize(packed, scales, 4, zero_points).astype(np.float64)
    padded = np.zeros(restored.shape)
    padded[:, : weight.shape[1]] = weight
    return (padded**2 * (padded - restored) ** 2).reshape(*scales.shape, -1).sum(axis=-1)


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
    types = np.dtype(np.float32), np.dtype(scale_type)
    exact, rounded = (_dequantize(*quantize_rows(weight, bits, 32, one), bits) for one in types)
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
    values, panel_scales = pack_panels(packed, scales, bits=bits)
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


@pytest.mark.parametrize("rows", [3, 32, 40, 96])
@pytest.mark.parametrize("columns", [32, 48, 200])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_zero_points_in_panels(rows, columns, group):
    generator = np.random.default_rng(5)
    weight = generator.standard_normal((rows, columns), dtype=np.float32)
    packed, scales, _ = quantize_rows(weight, 4, group, _FLOAT32, zero_points=True)
    # All that there may be, the ends too.
    zero_points = generator.permutation(np.arange(scales.size) % 16).reshape(scales.shape).astype(np.uint8)
    values, panel_scales, found = pack_panels(packed, scales, zero_points, bits=4)
    assert (values.shape, panel_scales.shape) == panel_shapes(rows, columns, 4, group)
    assert (found.shape, found.dtype) == (zero_points_shape(rows, columns, group), np.uint8)
    for row in range(values.shape[0] * 32):
        one = found[row // 32, :, row % 16] >> (4 if row % 32 >= 16 else 0) & 15
        assert (one == (zero_points[row] if row < rows else 8)).all()

    x = generator.standard_normal((5, columns), dtype=np.float32)
    wanted = x @ _dequantize(packed, scales, 4, zero_points)[:, :columns].T
    np.testing.assert_allclose(_matmul(x, values, panel_scales, rows, 4, group, found), wanted, atol=1e-4)


def test_panels_are_cut_across_pieces():
    generator = np.random.default_rng(4)
    packed = generator.integers(0, 256, (150, 2, 32), dtype=np.uint8)
    scales = generator.standard_normal((150, 2), dtype=np.float32)
    zero_points = generator.integers(0, 16, (150, 2), dtype=np.uint8)
    cuts = [1, 31, 33, 40, 130]
    for parts in ((packed, scales), (packed, scales, zero_points)):
        pieces = zip(*(np.split(part, cuts) for part in parts), strict=True)
        whole = list(_whole_panels(pieces))
        assert all(len(piece[0]) % 32 == 0 for piece in whole[:-1])
        for part, found in zip(parts, zip(*whole, strict=True), strict=True):
            assert (np.concatenate(found) == part).all()


def _matmul(
    x: np.ndarray, values: np.ndarray, scales: np.ndarray, rows: int, bits: int, group: int, zero_points=None
) -> np.ndarray:
    columns = x.shape[1]
    tensors = {"values": values, "scales": scales}
    if zero_points is not None:
        tensors["zero_points"] = zero_points
    node = helper.make_node(
        f"MatMulInt{bits}", ["x", *tensors], ["y"], domain="ai.qwenguard", K=columns, N=rows, group=group
    )
    graph = helper.make_graph(
        [node],
        "matmul",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["tokens", columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["tokens", rows])],
        [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.qwenguard", 1)]
    model = helper.make_model(graph, ir_version=10, opset_imports=opsets, functions=operators([node]))
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


def _dequantize(packed: np.ndarray, scales: np.ndarray, bits: int, zero_points=None) -> np.ndarray:
    zero = 2 ** (bits - 1) if zero_points is None else zero_points[:, :, None]
    centred = _levels(packed, bits).astype(np.float32) - zero
    return (centred * scales.astype(np.float32)[:, :, None]).reshape(len(packed), -1)


def _levels(packed: np.ndarray, bits: int) -> np.ndarray:
    return packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1)
