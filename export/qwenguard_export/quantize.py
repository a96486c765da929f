"""Blockwise weight quantisation by ONNX Runtime's own functions, and the layouts of the operators that read it."""

from __future__ import annotations

import numpy as np

# The wrapper class around these functions, in onnxruntime.quantization, works on whole ONNX models and pulls in
# further packages; the functions are what it calls.
from onnxruntime.capi._pybind_state import quantize_matmul_4bits, quantize_matmul_8bits

_QUANTIZERS = {4: quantize_matmul_4bits, 8: quantize_matmul_8bits}


def packed_shape(rows: int, columns: int, bits: int, block: int) -> tuple[int, int, int]:
    """Shape of the packed weight of a [rows, columns] matrix."""
    return rows, -(-columns // block), block * bits // 8


def quantize_rows(weight: np.ndarray, bits: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantises float32 [rows, columns], as a checkpoint stores it, in blocks along the columns.

    Returns the packed weight and the scales [rows, blocks]. Symmetric: the value of largest magnitude in a block maps
    to -2^(bits-1), so a scale may be negative.
    """
    rows, columns = weight.shape
    shape = packed_shape(rows, columns, bits, block)
    blocks = shape[1]
    # The functions take [columns, rows], and read the last block to its end.
    transposed = np.zeros((blocks * block, rows), dtype=np.float32)
    transposed[:columns] = weight.T
    packed = np.zeros(shape, dtype=np.uint8)
    scales = np.zeros((rows, blocks), dtype=np.float32)
    # Written to only when not symmetric, but required.
    zero_points = np.zeros((rows, -(-blocks * bits // 8)), dtype=np.uint8)
    _QUANTIZERS[bits](packed, transposed, scales, zero_points, block, rows, columns, True)
    return packed, scales


# Rows of a weight that ai.qwenguard::MatMulInt8 works on together, and values of a row that lie side by side.
PANEL = 32
_QUAD = 4


def panel_shapes(rows: int, columns: int, block: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the values and the scales of a [rows, columns] matrix in panels."""
    panels, blocks = -(-rows // PANEL), -(-columns // block)
    return (panels, blocks * block // _QUAD, PANEL, _QUAD), (panels, blocks, PANEL)


def pack_panels(packed: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lays out what quantize_rows gives for 8 bits in panels.

    A last panel that is not full is filled up with zero weights: 128, with scale 0.
    """
    rows, blocks, block = packed.shape
    missing = -rows % PANEL
    packed = np.pad(packed, ((0, missing), (0, 0), (0, 0)), constant_values=128)
    scales = np.pad(scales, ((0, missing), (0, 0)))
    values = packed.reshape(-1, PANEL, blocks * block // _QUAD, _QUAD).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(values), np.ascontiguousarray(scales.reshape(-1, PANEL, blocks).transpose(0, 2, 1))
