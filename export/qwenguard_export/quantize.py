"""Blockwise weight quantisation, and the layouts of the operators that read it."""

from __future__ import annotations

import numpy as np

# Where a group of 4 bits has its value of largest magnitude, in levels: each is tried, and the one with the smallest
# squared error is taken, in which a weight counts by its square, as in llama.cpp. Of what was tried on the nano guard this kept
# most decisions (docs/benchmarks.md); the plain squared error, though 6 % smaller, lost more of them.
_LARGEST_LEVELS = (-7.2, -7.6, -8.0, -8.4, -8.8)


def packed_shape(rows: int, columns: int, bits: int, group: int) -> tuple[int, int, int]:
    """Shape of the packed weight of a [rows, columns] matrix."""
    return rows, -(-columns // group), group * bits // 8


def quantize_rows(
    weight: np.ndarray, bits: int, group: int, scale_type: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Quantises float32 [rows, columns], as a checkpoint stores it, in groups along the columns.

    Returns the packed weight, of 4 bits with the even columns in the lower halves of bytes, and the scales [rows, groups] in
    their type. Symmetric: the value of largest magnitude in a group maps to -2^(bits-1) or near it, so a scale may be negative.
    """
    rows, columns = weight.shape
    groups = packed_shape(rows, columns, bits, group)[1]
    # The last group is filled up with zeros.
    padded = np.zeros((rows, groups * group), dtype=np.float32)
    padded[:, :columns] = weight
    grouped = padded.reshape(rows, groups, group)
    largest = np.take_along_axis(grouped, np.abs(grouped).argmax(axis=-1, keepdims=True), axis=-1)
    if bits == 4:
        levels, scales = _four_bits(grouped, largest)
        # Levels are so few that a scale's rounding changes none.
        return levels[..., 0::2] | levels[..., 1::2] << 4, _rounded(scales, scale_type)
    return _eight_bits(grouped, largest, scale_type)


def _four_bits(weight: np.ndarray, largest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels and scales of groups [rows, groups, group], whose values of largest magnitude are [rows, groups, 1]."""
    best_gain = np.full(weight.shape[:2], -1, dtype=np.float32)
    best_levels = np.zeros(weight.shape, dtype=np.int8)
    scales = np.zeros(weight.shape[:2], dtype=np.float32)
    # The scale of a group of zeros, or of what is nearly zero, is 0.
    importance = weight * weight
    inverse = np.divide(1, largest, out=np.zeros_like(largest), where=np.abs(largest) > np.finfo(np.float32).tiny)
    for level in _LARGEST_LEVELS:
        levels = np.clip(np.rint(weight * (inverse * np.float32(level))), -8, 7)
        # By least squares: the scale for these levels, and by how much they lessen the error.
        product, square = (importance * weight * levels).sum(axis=-1), (importance * levels * levels).sum(axis=-1)
        scale = np.divide(product, square, out=np.zeros_like(product), where=square > 0)
        gain = product * scale
        better = gain > best_gain
        best_gain[better], scales[better], best_levels[better] = gain[better], scale[better], levels[better]
    return (best_levels + 8).astype(np.uint8), scales


def _eight_bits(weight: np.ndarray, largest: np.ndarray, scale_type: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """As `_four_bits`. Levels are those for the scale as it is stored, so that its rounding costs little."""
    scales = _rounded(largest / -128, scale_type)
    wide = scales.astype(np.float32)
    levels = np.divide(weight, wide, out=np.zeros_like(weight), where=wide != 0)
    return (np.clip(np.rint(levels), -128, 127) + 128).astype(np.uint8), scales[..., 0]


def _rounded(scales: np.ndarray, scale_type: np.dtype) -> np.ndarray:
    """What is too large for the type becomes infinite, which the caller refuses."""
    with np.errstate(over="ignore"):
        return scales.astype(scale_type)


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
