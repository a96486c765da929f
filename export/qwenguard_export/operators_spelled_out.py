"""Operators that stock ONNX Runtime has no CPU kernel of, as functions of standard ones.

Attention is that of one sequence from its beginning, without a cache. Multiplication is by unpacked weights: the real
one also rounds activations, to 15 bits, which is far less than what the weights lost.
"""

from __future__ import annotations

from collections.abc import Iterable

from onnx import FunctionProto, NodeProto
from onnx.parser import parse_function

# Attention whose q, k and v are separate, normalised and in float32: what an operator of a GPU does, spelled out.
ATTENTION_OF_HEADS = "AttentionOfHeads"

_DOMAIN = '<domain: "ai.qwenguard", opset_import: ["" : 21]>'

_SIZES = """
{
    zero = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    all = Constant <value_ints = [-1]> ()
    heads_scalar = Constant <value_int: int = @num_heads> ()
    kv_heads_scalar = Constant <value_int: int = @kv_num_heads> ()
    size_scalar = Constant <value_int: int = @head_dim> ()
    heads = Reshape (heads_scalar, one)
    kv_heads = Reshape (kv_heads_scalar, one)
    size = Reshape (size_scalar, one)

"""

_SPLIT = """
    split_shape = Concat <axis = 0> (zero, all, size)
    split_sizes = Concat <axis = 0> (heads, kv_heads, kv_heads)
    rows = Reshape (qkv, split_shape)
    q, k, v = Split <axis = 1> (rows, split_sizes)
"""

_NORMS = """
    eps = Constant <value_float: float = @epsilon> ()
    q_squares = Mul (q, q)
    q_mean = ReduceMean (q_squares, all)
    q_variance = Add (q_mean, eps)
    q_deviation = Sqrt (q_variance)
    q_unit = Div (q, q_deviation)
    q_normed = Mul (q_unit, q_norm)
    k_squares = Mul (k, k)
    k_mean = ReduceMean (k_squares, all)
    k_variance = Add (k_mean, eps)
    k_deviation = Sqrt (k_variance)
    k_unit = Div (k, k_deviation)
    k_normed = Mul (k_unit, k_norm)
"""

_SEPARATE = """
    head_shape_of_rows = Concat <axis = 0> (zero, all, size)
    q_normed = Reshape (query, head_shape_of_rows)
    k_normed = Reshape (key, head_shape_of_rows)
    v = Reshape (value, head_shape_of_rows)
"""

# Needs q_normed, k_normed and v, [tokens, heads, size].
_ATTENTION = """
    tokens = Shape <start = 0, end = 1> (v)
    cos_rows = Slice (cos, zero, tokens, zero)
    sin_rows = Slice (sin, zero, tokens, zero)
    cos_heads = Unsqueeze (cos_rows, one)
    sin_heads = Unsqueeze (sin_rows, one)
    q_first, q_second = Split <axis = -1, num_outputs = 2> (q_normed)
    k_first, k_second = Split <axis = -1, num_outputs = 2> (k_normed)
    q_a = Mul (q_first, cos_heads)
    q_b = Mul (q_second, sin_heads)
    q_c = Mul (q_second, cos_heads)
    q_d = Mul (q_first, sin_heads)
    q_low = Sub (q_a, q_b)
    q_high = Add (q_c, q_d)
    q_rotated = Concat <axis = -1> (q_low, q_high)
    k_a = Mul (k_first, cos_heads)
    k_b = Mul (k_second, sin_heads)
    k_c = Mul (k_second, cos_heads)
    k_d = Mul (k_first, sin_heads)
    k_low = Sub (k_a, k_b)
    k_high = Add (k_c, k_d)
    k_rotated = Concat <axis = -1> (k_low, k_high)

    grouped_shape = Concat <axis = 0> (kv_heads, all, tokens, size)
    q_by_head = Transpose <perm = [1, 0, 2]> (q_rotated)
    q_grouped = Reshape (q_by_head, grouped_shape)
    k_by_head = Transpose <perm = [1, 2, 0]> (k_rotated)
    k_grouped = Unsqueeze (k_by_head, one)
    v_by_head = Transpose <perm = [1, 0, 2]> (v)
    v_grouped = Unsqueeze (v_by_head, one)

    factor = Constant <value_float: float = @scale> ()
    products = MatMul (q_grouped, k_grouped)
    scores = Mul (products, factor)
    blocked = Constant <value_float = -3.0e38> ()
    square_shape = Concat <axis = 0> (tokens, tokens)
    square = Expand (blocked, square_shape)
    diagonal = Constant <value_int = 1> ()
    future = Trilu <upper = 1> (square, diagonal)
    masked = Add (scores, future)
    weights = Softmax <axis = -1> (masked)
    mixed = MatMul (weights, v_grouped)

    head_shape = Concat <axis = 0> (heads, tokens, size)
    by_head = Reshape (mixed, head_shape)
    by_token = Transpose <perm = [1, 0, 2]> (by_head)
    flat_shape = Concat <axis = 0> (tokens, all)
    attended = Reshape (by_token, flat_shape)
    key_cache_out = Identity (key_cache)
    value_cache_out = Identity (value_cache)
}
"""

_PAGED_ATTENTION = f"""
{_DOMAIN}
PagedAttention <layer, num_heads, kv_num_heads, head_dim, scale, epsilon>
(qkv, key_cache, value_cache, cu_seqlens, past_lens, block_table, cos, sin, q_norm, k_norm)
=> (attended, key_cache_out, value_cache_out)
{_SIZES}{_SPLIT}{_NORMS}{_ATTENTION}"""

_ATTENTION_OF_HEADS = f"""
{_DOMAIN}
{ATTENTION_OF_HEADS} <num_heads, kv_num_heads, head_dim, scale>
(query, key, value, key_cache, value_cache, cos, sin)
=> (attended, key_cache_out, value_cache_out)
{_SIZES}{_SEPARATE}{_ATTENTION}"""

# Weights by panels, as bytes.
_BYTES = """
    levels_by_quad = Identity (packed)
    offset = Constant <value = uint8 {128}> ()
"""

# The same of 4 bits: of eight neighbours the first four are lower bits, the last four upper bits.
_NIBBLES = """
    four = Constant <value = uint8 {4}> ()
    fifteen = Constant <value = uint8 {15}> ()
    pair_axis = Constant <value_ints = [2]> ()
    lower = BitwiseAnd (packed, fifteen)
    upper = BitShift <direction = "RIGHT"> (packed, four)
    first = Unsqueeze (lower, pair_axis)
    second = Unsqueeze (upper, pair_axis)
    pairs = Concat <axis = 2> (first, second)
    panel_count = Shape <start = 0, end = 1> (packed)
    quad = Shape <start = 2, end = 4> (packed)
    any = Constant <value_ints = [-1]> ()
    quads_shape = Concat <axis = 0> (panel_count, any, quad)
    levels_by_quad = Reshape (pairs, quads_shape)
    offset = Constant <value = uint8 {8}> ()
"""

# Weights as integers, and their scales, by outputs.
_BY_OUTPUT = """
    zeros = Constant <value_ints = [0, 0]> ()
    one = Constant <value_ints = [1]> ()
    all = Constant <value_ints = [-1]> ()
    columns_scalar = Constant <value_int: int = @K> ()
    rows_scalar = Constant <value_int: int = @N> ()
    columns = Reshape (columns_scalar, one)
    rows = Reshape (rows_scalar, one)
    panels = Shape <start = 0, end = 1> (packed)
    panel = Shape <start = 2, end = 3> (packed)
    padded_rows = Mul (panels, panel)
    matrix_shape = Concat <axis = 0> (padded_rows, all)

    packed_rows = Transpose <perm = [0, 2, 1, 3]> (levels_by_quad)
    padded = Reshape (packed_rows, matrix_shape)
    ends = Concat <axis = 0> (rows, columns)
    levels = Slice (padded, zeros, ends)
    wide_scales = Cast <to = 1> (scales)
    scale_rows = Transpose <perm = [0, 2, 1]> (wide_scales)
    padded_scales = Reshape (scale_rows, matrix_shape)
    zero = Constant <value_ints = [0]> ()
    row_scales = Slice (padded_scales, zero, rows)
"""

# One offset for all weights.
_ONE_OFFSET = """
    scales_shape = Shape (row_scales)
    offsets = Expand (offset, scales_shape)
"""

# An offset for every scale: the lower bits are of the first half of a panel's outputs.
_ZERO_POINTS = """
    lower_zeros = BitwiseAnd (zero_points, fifteen)
    upper_zeros = BitShift <direction = "RIGHT"> (zero_points, four)
    zeros_by_panel = Concat <axis = 2> (lower_zeros, upper_zeros)
    zero_rows = Transpose <perm = [0, 2, 1]> (zeros_by_panel)
    padded_zeros = Reshape (zero_rows, matrix_shape)
    offsets = Slice (padded_zeros, zero, rows)
"""

_MATMUL = """
    weight = DequantizeLinear <axis = 1, block_size: int = @group> (levels, row_scales, offsets)
    y = Gemm <transB = 1> (a, weight)
}
"""

_MATMUL_INT8 = f"""
{_DOMAIN}
MatMulInt8 <K, N, group> (a, packed, scales) => (y)
{{{_BYTES}{_BY_OUTPUT}{_ONE_OFFSET}{_MATMUL}"""

_MATMUL_INT4 = f"""
{_DOMAIN}
MatMulInt4 <K, N, group> (a, packed, scales) => (y)
{{{_NIBBLES}{_BY_OUTPUT}{_ONE_OFFSET}{_MATMUL}"""

_MATMUL_INT4_WITH_ZERO_POINTS = f"""
{_DOMAIN}
MatMulInt4 <K, N, group> (a, packed, scales, zero_points) => (y)
{{{_NIBBLES}{_BY_OUTPUT}{_ZERO_POINTS}{_MATMUL}"""

_GATHER_INT8 = """
<domain: "ai.qwenguard", opset_import: ["" : 21]>
GatherInt8 <K, N, group> (packed, scales, ids) => (rows)
{
    zero = Constant <value_ints = [0]> ()
    one = Constant <value_ints = [1]> ()
    all = Constant <value_ints = [-1]> ()
    columns_scalar = Constant <value_int: int = @K> ()
    columns = Reshape (columns_scalar, one)
    group_scalar = Constant <value_int: int = @group> ()
    group_size = Reshape (group_scalar, one)
    panel = Shape <start = 2, end = 3> (packed)
    count = Shape (ids)

    panel_index = Div (ids, panel)
    lane_index = Mod (ids, panel)
    lane = Unsqueeze (lane_index, one)
    level_panels = Gather <axis = 0> (packed, panel_index)
    levels_by_lane = Transpose <perm = [0, 2, 1, 3]> (level_panels)
    levels = GatherND <batch_dims = 1> (levels_by_lane, lane)
    scale_panels = Gather <axis = 0> (scales, panel_index)
    wide_scales = Cast <to = 1> (scale_panels)
    scales_by_lane = Transpose <perm = [0, 2, 1]> (wide_scales)
    row_scales = GatherND <batch_dims = 1> (scales_by_lane, lane)

    grouped_shape = Concat <axis = 0> (count, all, group_size)
    level_groups = Reshape (levels, grouped_shape)
    level_floats = Cast <to = 1> (level_groups)
    offset = Constant <value_float = 128.0> ()
    centred = Sub (level_floats, offset)
    last = Constant <value_ints = [2]> ()
    scale_groups = Unsqueeze (row_scales, last)
    values = Mul (centred, scale_groups)
    flat_shape = Concat <axis = 0> (count, all)
    padded = Reshape (values, flat_shape)
    rows = Slice (padded, zero, columns, one)
}
"""

_SWIGLU = """
<domain: "ai.qwenguard", opset_import: ["" : 21]>
SwiGlu (both) => (gated)
{
    gate, values = Split <axis = 1, num_outputs = 2> (both)
    sigmoid = Sigmoid (gate)
    swish = Mul (gate, sigmoid)
    gated = Mul (swish, values)
}
"""


def operators(nodes: Iterable[NodeProto] = ()) -> list[FunctionProto]:
    """All of them, in our domain, for these nodes: a function cannot tell whether an input is there."""
    has_zero_points = any(node.op_type == "MatMulInt4" and len(node.input) == 4 for node in nodes)
    matmul_int4 = _MATMUL_INT4_WITH_ZERO_POINTS if has_zero_points else _MATMUL_INT4
    texts = (_PAGED_ATTENTION, _ATTENTION_OF_HEADS, _MATMUL_INT8, matmul_int4, _GATHER_INT8, _SWIGLU)
    return [parse_function(text) for text in texts]
