"""Blockwise weight quantisation by ONNX Runtime's own functions, and the layouts of the operators that read it."""

from __future__ import annotations

import numpy as np

# The wrapper class around these functions, in onnxruntime.quantization, works on whole ONNX models and pulls in
# further packages; the functions are what it calls.
from onnxruntime.capi._pybind_state import quantize_matmul_4bits, quantize_matmul_8bits

_QUANTIZERS = {4: quantize_matmul_4bits, 8: quantize_matmul_8bits}


def packed_shape(rows: int, columns: int, bits: int, group: int) -> tuple[int, int, int]:
    """Shape of the packed weight of a [rows, columns] matrix."""
    return rows, -(-columns // group), group * bits // 8


def quantize_rows(weight: np.ndarray, bits: int, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantises float32 [rows, columns], as a checkpoint stores it, in groups along the columns.

    Returns the packed weight and the scales [rows, groups]. Symmetric: the value of largest magnitude in a group maps
    to -2^(bits-1), so a scale may be negative.
    """
    rows, columns = weight.shape
    shape = packed_shape(rows, columns, bits, group)
    groups = shape[1]
    # The functions take [columns, rows], and read the last group to its end.
    transposed = np.zeros((groups * group, rows), dtype=np.float32)
    transposed[:columns] = weight.T
    packed = np.zeros(shape, dtype=np.uint8)
    scales = np.zeros((rows, groups), dtype=np.float32)
    # Written to only when not symmetric, but required.
    zero_points = np.zeros((rows, -(-groups * bits // 8)), dtype=np.uint8)
    _QUANTIZERS[bits](packed, transposed, scales, zero_points, group, rows, columns, True)
    return packed, scales


# Rows of a weight that ai.qwenguard::MatMulInt8 and MatMulInt4 work on together, and values of a row that lie side by side.
PANEL = 32
_QUAD = 4


def panel_shapes(rows: int, columns: int, bits: int, group: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the values and the scales of a [rows, columns] matrix in panels."""
    panels, groups = -(-rows // PANEL), -(-columns // group)
    return (panels, groups * group * bits // (8 * _QUAD), PANEL, _QUAD), (panels, groups, PANEL)


def pack_panels(packed: np.ndarray, scales: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Lays out what quantize_rows gives in panels.

    A last panel that is not full is filled up with zero weights: 128, or 8 in 4 bits, with scale 0. Of 4 bits a byte has
    two: the lower of the first four inputs of eight, the upper of the last four.
    """
    levels = packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1)
    rows, groups, group = levels.shape
    missing = -rows % PANEL
    levels = np.pad(levels, ((0, missing), (0, 0), (0, 0)), constant_values=1 << (bits - 1))
    scales = np.pad(scales, ((0, missing), (0, 0)))
    values = levels.reshape(-1, PANEL, groups * group // _QUAD, _QUAD).transpose(0, 2, 1, 3)
    if bits == 4:
        values = values[:, 0::2] | values[:, 1::2] << 4
    return np.ascontiguousarray(values), np.ascontiguousarray(scales.reshape(-1, PANEL, groups).transpose(0, 2, 1))
