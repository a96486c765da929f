"""Blockwise weight quantisation, and the layouts of the operators that read it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Where a group of 4 bits has its value of largest magnitude, in levels: each is tried, and the one with the smallest
# squared error is taken, in which a weight counts by its square, as in llama.cpp. Of what was tried on the nano guard this kept
# most decisions (docs/benchmarks.md); the plain squared error, though 6 % smaller, lost more of them.
_LARGEST_LEVELS = (-7.2, -7.6, -8.0, -8.4, -8.8)


def packed_shape(rows: int, columns: int, bits: int, group: int) -> tuple[int, int, int]:
    """Shape of the packed weight of a [rows, columns] matrix."""
    return rows, -(-columns // group), group * bits // 8


def quantize_rows(
    weight: np.ndarray, bits: int, group: int, scale_type: np.dtype, zero_points: bool = False
) -> tuple[np.ndarray, ...]:
    """Quantises float32 [rows, columns], as a checkpoint stores it, in groups along the columns.

    Returns the packed weight, of 4 bits with the even columns in the lower halves of bytes, and the scales [rows, groups] in
    their type. Symmetric: the value of largest magnitude in a group maps to -2^(bits-1) or near it, so a scale may be negative.
    Where `zero_points` are wanted, of 4 bits, they come third, [rows, groups]: the levels that stand for 0. Scales are
    then positive.
    """
    rows, columns = weight.shape
    groups = packed_shape(rows, columns, bits, group)[1]
    # The last group is filled up with zeros.
    padded = np.zeros((rows, groups * group), dtype=np.float32)
    padded[:, :columns] = weight
    grouped = padded.reshape(rows, groups, group)
    largest = np.take_along_axis(grouped, np.abs(grouped).argmax(axis=-1, keepdims=True), axis=-1)
    if bits == 4:
        levels, scales, *zeros = _four_bits_around(grouped) if zero_points else _four_bits(grouped, largest)
        # Levels are so few that a scale's rounding changes none.
        return levels[..., 0::2] | levels[..., 1::2] << 4, _rounded(scales, scale_type), *zeros
    assert not zero_points
    return _eight_bits(grouped, largest, scale_type)


class _Search:
    """The best levels, counted from that of 0, of groups [rows, groups, group] so far."""

    def __init__(self, weight: np.ndarray) -> None:
        self.levels = np.zeros(weight.shape, dtype=np.int8)
        self.scales = np.zeros(weight.shape[:2], dtype=np.float32)
        self._weight, self._importance = weight, weight * weight
        self._gain = np.full(weight.shape[:2], -1, dtype=np.float32)

    def consider(self, levels: np.ndarray) -> np.ndarray:
        """Takes these levels where they are better, and says where."""
        # By least squares: the scale for these levels, and by how much they lessen the error.
        weight, importance = self._weight, self._importance
        product, square = (importance * weight * levels).sum(axis=-1), (importance * levels * levels).sum(axis=-1)
        scale = np.divide(product, square, out=np.zeros_like(product), where=square > 0)
        gain = product * scale
        better = gain > self._gain
        self._gain[better], self.scales[better], self.levels[better] = gain[better], scale[better], levels[better]
        return better


def _four_bits(weight: np.ndarray, largest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels and scales of groups [rows, groups, group], whose values of largest magnitude are [rows, groups, 1]."""
    search = _Search(weight)
    inverse = _inverse(largest)
    for level in _LARGEST_LEVELS:
        search.consider(np.clip(np.rint(weight * (inverse * np.float32(level))), -8, 7))
    return (search.levels + 8).astype(np.uint8), search.scales


def _four_bits_around(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels, scales and zero points of groups [rows, groups, group]."""
    search = _Search(weight)
    zero_points = np.zeros(weight.shape[:2], dtype=np.int8)
    for zero, unit in _ranges(np.minimum(weight.min(axis=-1), 0), np.maximum(weight.max(axis=-1), 0)):
        levels = np.rint(weight * _inverse(unit)[..., None])
        better = search.consider(np.clip(levels, -zero[..., None], 15 - zero[..., None]))
        zero_points[better] = zero[better]
    levels = (search.levels + zero_points[..., None]).astype(np.uint8)
    return levels, search.scales, zero_points.astype(np.uint8)


def _ranges(low: np.ndarray, high: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The zero points and units that are tried for groups with these ends, of which one is 0 if all is on one side.

    First what symmetric weights have, so that none is worse: 8, or 7 for what a negative scale does. Then the zero
    point with which 16 levels reach from end to end, and its neighbours. Two neighbours on either side take a thousandth more
    off the nano guard's error.
    """
    symmetric = np.where(-low >= high, np.float32(8), np.float32(7))
    spread = np.rint(_quotient(-15 * low, high - low))
    zeros = [np.clip(spread + step, 0, 15) for step in (-1, 0, 1)]
    reaches = [np.maximum(_quotient(-low, zero), _quotient(high, 15 - zero)) for zero in zeros]
    tried = [(symmetric, np.maximum(-low, high) / np.float32(8)), *zip(zeros, reaches, strict=True)]
    for zero, reach in tried:
        for level in _LARGEST_LEVELS:
            yield zero, reach * np.float32(-8 / level)


def _inverse(values: np.ndarray) -> np.ndarray:
    """0 for what is nearly zero: the scale of a group of zeros, or of such values, is 0."""
    return np.divide(1, values, out=np.zeros_like(values), where=np.abs(values) > np.finfo(np.float32).tiny)


def _quotient(values: np.ndarray, divisors: np.ndarray) -> np.ndarray:
    return np.divide(values, divisors, out=np.zeros_like(values), where=divisors > 0)


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


def zero_points_shape(rows: int, columns: int, group: int) -> tuple[int, int, int]:
    """Shape of the zero points of such a matrix in panels."""
    panels, groups, panel = panel_shapes(rows, columns, 4, group)[1]
    return panels, groups, panel // 2


def pack_panels(
    packed: np.ndarray, scales: np.ndarray, zero_points: np.ndarray | None = None, *, bits: int
) -> tuple[np.ndarray, ...]:
    """Lays out what quantize_rows gives in panels.

    A last panel that is not full is filled up with zero weights: 128, or 8 in 4 bits, with scale 0. Of 4 bits a byte has
    two: the lower of the first four inputs of eight, the upper of the last four. A byte of zero points has that of an
    output of the panel's first half below, and above it that of the output which lies half a panel further.
    """
    levels = packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1)
    rows, groups, group = levels.shape
    missing = -rows % PANEL
    levels = np.pad(levels, ((0, missing), (0, 0), (0, 0)), constant_values=1 << (bits - 1))
    scales = np.pad(scales, ((0, missing), (0, 0)))
    values = levels.reshape(-1, PANEL, groups * group // _QUAD, _QUAD).transpose(0, 2, 1, 3)
    if bits == 4:
        values = values[:, 0::2] | values[:, 1::2] << 4
    scales = np.ascontiguousarray(scales.reshape(-1, PANEL, groups).transpose(0, 2, 1))
    if zero_points is None:
        return np.ascontiguousarray(values), scales
    zeros = np.pad(zero_points, ((0, missing), (0, 0)), constant_values=8).reshape(-1, PANEL, groups).transpose(0, 2, 1)
    zeros = zeros[..., : PANEL // 2] | zeros[..., PANEL // 2 :] << 4
    return np.ascontiguousarray(values), scales, np.ascontiguousarray(zeros)
