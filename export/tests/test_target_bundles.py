"""Bundles with graphs for other targets than CPUs: what is in them, and what the graphs look like."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from checkpoints import Spec, gen_config, gen_spec, random_tensors, small_config
from onnx import TensorProto

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

from qwenguard_export.errors import ExportError
from qwenguard_export.targets import TargetOptions

FP16, BF16, FP32, INT32, INT64 = (
    TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64,
)  # fmt: skip
HALVES = {"webgpu": FP16, "cuda": BF16}
# All sizes are multiples of a group.
WHOLE_BLOCKS = {"hidden_size": 64, "head_dim": 16, "intermediate_size": 96}
LABELS = ["response_risk", "response_category", "query_risk", "query_category"]


def manifest(bundle: Path) -> dict:
    return tomllib.loads((bundle / "guard.toml").read_text())


def graph_of(bundle: Path, name: str) -> onnx.ModelProto:
    return onnx.load(bundle / name, load_external_data=False)


def signature(values) -> dict[str, tuple[int, list]]:
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            [dimension.dim_param or dimension.dim_value for dimension in value.type.tensor_type.shape.dim],
        )
        for value in values
    }


def places(model: onnx.ModelProto) -> dict[str, tuple[str, int, int]]:
    """Of the weights that are in a file: which one, offset, length."""
    found = {}
    for tensor in model.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries:
            found[tensor.name] = entries["location"], int(entries["offset"]), int(entries["length"])
    return found


def tensor(bundle: Path, model: onnx.ModelProto, name: str) -> np.ndarray:
    (stored,) = [one for one in model.graph.initializer if one.name == name]
    return onnx.numpy_helper.to_array(stored, str(bundle))


EVERYTHING = TargetOptions(("cpu", "webgpu", "cuda", "portable"), portable_contexts=(64, 1024))


@pytest.mark.parametrize("spec", [Spec(), gen_spec(eos_token_id=257)], ids=["stream", "gen"])
def test_contents(export_spec, tmp_path, spec):
    export_spec(spec, precision="int8", parity=False, made_for=EVERYTHING)
    bundle = tmp_path / "bundle"
    guard = manifest(bundle)
    is_gen, context = guard["variant"] == "gen", guard["model"]["context"]
    graphs = guard["graphs"]
    assert (guard["precision"], guard["group"], graphs["paged_cpu"]) == ("int8", 32, {"file": "paged.onnx"})
    assert graphs["paged_webgpu"] == {
        "file": "paged_webgpu.onnx", "weights": "weights_fp16.bin", "cache": "fp16", "block_tokens": 128,
        "weight_bits": 16,
    }  # fmt: skip
    assert graphs["paged_cuda"] == {
        "file": "paged_cuda.onnx", "weights": "weights_bf16.bin", "cache": "bf16", "block_tokens": 256,
        "weight_bits": 16,
    }  # fmt: skip
    portable = graphs["portable"]
    assert (portable["weights"], portable["cache"]) == ("weights_fp16.bin", "fp16")
    assert portable["embedding"] == {"offset": 0, "type": "fp16"}
    # The larger context is the model's own, with room for a row of padding.
    largest = -(-(context + 1) // 64) * 64 if context < 1024 else 1024
    assert portable["variants"][0] == {
        "file": "portable_rows_n1_c64.onnx", "append": "rows", "new_tokens": 1, "context": 64, "slots": 1,
    }  # fmt: skip
    variants = {(one["append"], one["new_tokens"], one["context"]) for one in portable["variants"]}
    assert variants == {(a, n, c) for a in ("rows", "scatter") for n in (1, 16, 64) for c in (64, largest)}
    assert portable.get("heads") == ([{"name": "next_token", "file": "portable_next_token.onnx"}] if is_gen else None)
    assert set(guard["files"]) == {path.name for path in bundle.iterdir()} - {"guard.toml"}
    for name, entry in guard["files"].items():
        data = (bundle / name).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


def test_the_graph_for_cpus_does_not_depend_on_other_targets(export_spec, tmp_path):
    files = ["paged.onnx", "weights.bin", "tokenizer.json", "chat_template.jinja"]
    export_spec(Spec(), precision="int8", parity=False)
    alone = {name: (tmp_path / "bundle" / name).read_bytes() for name in files}
    guard = manifest(tmp_path / "bundle")
    export_spec(Spec(), precision="int8", parity=False, force=True, made_for=EVERYTHING)
    assert alone == {name: (tmp_path / "bundle" / name).read_bytes() for name in files}
    again = manifest(tmp_path / "bundle")
    for text in again["self_test"]:
        # What other graphs compute stands beside.
        assert set(text.pop("graphs")) == {"paged_webgpu", "paged_cuda", "portable"}
    assert {key: again[key] for key in guard if key not in ("graphs", "files")} == {
        key: guard[key] for key in guard if key not in ("graphs", "files")
    }


@pytest.mark.parametrize("spec", [Spec(), gen_spec()], ids=["stream", "gen"])
def test_same_input_gives_same_bytes(export_spec, tmp_path, spec):
    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()}

    export_spec(spec, precision="int8", made_for=EVERYTHING)
    first = contents()
    export_spec(spec, precision="int8", force=True, made_for=EVERYTHING)
    assert contents() == first


@pytest.mark.parametrize("target", ["webgpu", "cuda"])
@pytest.mark.parametrize("spec", [Spec(), gen_spec()], ids=["stream", "gen"])
def test_interface_of_gpu_graphs(export_spec, tmp_path, target, spec):
    export_spec(spec, parity=False, made_for=TargetOptions((target,)))
    model = graph_of(tmp_path / "bundle", f"paged_{target}.onnx")
    is_gen = "guard_inner_size" not in spec.config
    rows = ["candidate_rows", "next_token_rows"] if is_gen else ["response_rows", "query_rows"]
    caches = [f"{kind}_cache.{layer}" for layer in range(3) for kind in ("key", "value")]
    cache = (HALVES[target], ["num_blocks", 128 if target == "webgpu" else 256, 2, 24])
    assert signature(model.graph.input) == {
        "input_ids": (INT64, ["tokens"]),
        "cu_seqlens": (INT32, ["batch_plus_1"]),
        "past_lens": (INT32, ["batch"]),
        "block_table": (INT32, ["batch", "max_blocks"]),
        **{name: (INT64, [f"{name}_count"]) for name in rows},
        "metadata": (INT32, [3]),
        **dict.fromkeys(caches, cache),
    }
    classes = {"next_token": 300} if is_gen else dict(zip(LABELS, (3, 4, 3, 5), strict=True))
    found = signature(model.graph.output)
    for name, count in classes.items():
        assert found[name][0] == FP32 and found[name][1][1] == count
    assert found["row_check"] == (FP32, ["tokens"])
    assert {name: found[name] for name in found if "cache" in name} == {
        name.replace("cache", "cache_out"): cache for name in caches
    }
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 21, "com.microsoft": 1}
    assert {node.name.split("/")[1] for node in model.graph.node} == {
        "embed", "layers.0", "layers.1", "layers.2", "norm", "heads",
    }  # fmt: skip


@pytest.mark.parametrize("target", ["webgpu", "cuda"])
def test_attention_of_gpu_graphs(export_spec, tmp_path, target):
    """Norms of q and k are nodes for WebGPU, and inputs of the operator for CUDA."""
    export_spec(Spec(), parity=False, made_for=TargetOptions((target,)))
    model = graph_of(tmp_path / "bundle", f"paged_{target}.onnx")
    attention = [node for node in model.graph.node if node.op_type == "PagedAttention"]
    assert len(attention) == 3 and {node.domain for node in attention} == {"com.microsoft"}
    caches = ["key_cache.1", "value_cache.1"]
    batch = ["cu_seqlens", "past_lens", "block_table", "rope.cos", "rope.sin"]
    inputs = list(attention[1].input)
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in attention[1].attribute}
    assert attributes.pop("scale") == pytest.approx(24**-0.5)
    if target == "cuda":
        norms = ["layers.1.attn.q_norm", "layers.1.attn.k_norm"]
        assert inputs == ["/layers.1/attn/qkv/output", "", "", *caches, *batch, "", "", *norms, "", "", "metadata"]
        assert attributes.pop("qk_norm_epsilon") == pytest.approx(1e-6)
    else:
        assert inputs[3:] == [*caches, *batch, "", "", "", "", "", "", "metadata"]
        assert all(inputs[:3])
    assert attributes == {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1}
    assert list(attention[1].output)[1:] == ["key_cache_out.1", "value_cache_out.1"]


def test_the_residual_stream_is_in_float32_for_webgpu(export_spec, tmp_path):
    export_spec(Spec(), parity=False, made_for=TargetOptions(("webgpu",)))
    model = graph_of(tmp_path / "bundle", "paged_webgpu.onnx")
    kinds = {one.name: one.data_type for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "SkipSimplifiedLayerNormalization":
            assert kinds[node.input[2]] == FP32
    count = Counter(node.op_type for node in model.graph.node if node.name.startswith("/layers.1/"))
    # Two on each way into the stream and out of it.
    assert count["Cast"] == 4 and count["SkipSimplifiedLayerNormalization"] == 2


@pytest.mark.parametrize("target", ["webgpu", "cuda"])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("tied", [True, False])
def test_quantised_gpu_weights(export_spec, tmp_path, target, bits, tied):
    spec = gen_spec(**WHOLE_BLOCKS, tie_word_embeddings=tied)
    export_spec(spec, parity=False, made_for=TargetOptions((target,), gpu_weights=bits))
    guard, model = manifest(tmp_path / "bundle"), graph_of(tmp_path / "bundle", f"paged_{target}.onnx")
    half = {"webgpu": "fp16", "cuda": "bf16"}[target]
    assert guard["graphs"][f"paged_{target}"]["weights"] == f"weights_{half}_int{bits}.bin"
    assert guard["graphs"][f"paged_{target}"]["weight_bits"] == bits
    assert (guard["precision"], guard["group"]) == (f"int{bits}", 32)
    matmuls = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    # q, k and v are one, gate and values two; a head of its own is quantised too, in 8 bits.
    assert len(matmuls) == 3 * 5 + (0 if tied else 1)
    kinds = {one.name: (one.data_type, list(one.dims)) for one in model.graph.initializer}
    for node in matmuls:
        sizes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        own_bits = 8 if node.name.startswith("/heads") else bits
        assert (sizes["bits"], sizes["block_size"]) == (own_bits, 32)
        groups = sizes["K"] // 32
        assert kinds[node.input[1]] == (TensorProto.UINT8, [sizes["N"], groups, 32 * own_bits // 8])
        assert kinds[node.input[2]] == (HALVES[target], [sizes["N"] * groups])
    head = next(node for node in model.graph.node if node.name == "/heads/next_token/matmul")
    assert (head.op_type, head.input[1]) == (("Gemm", "embed") if tied else ("MatMulNBits", "heads.next_token.packed"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 48}, "the hidden size of 48 is not a multiple of the group of 32"),
        ({"head_dim": 24}, "the size of all heads of 96 is not a multiple of the group of 64"),
        ({"intermediate_size": 104}, "the intermediate size of 104 is not a multiple of the group of 32"),
    ],
)
def test_sizes_that_are_no_whole_groups(export_spec, tmp_path, changes, message):
    group = 64 if "head_dim" in changes else 32
    spec = Spec(config=small_config(**{**WHOLE_BLOCKS, **changes}))
    with pytest.raises(ExportError, match=f"^--gpu-weights 8: {message}"):
        export_spec(spec, group=group, parity=False, made_for=TargetOptions(("cuda",), gpu_weights=8))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize(
    ("size", "block"), [({"head_dim": 64}, 256), ({"head_dim": 72}, 128), ({"head_dim": 128}, 128)]
)
def test_blocks_of_the_cuda_cache(export_spec, tmp_path, size, block):
    export_spec(Spec(config=small_config(**size)), parity=False, made_for=TargetOptions(("cuda",)))
    assert manifest(tmp_path / "bundle")["graphs"]["paged_cuda"]["block_tokens"] == block


@pytest.mark.parametrize("spec", [Spec(), gen_spec(), gen_spec(tie_word_embeddings=False)], ids=["s", "tied", "own"])
def test_graphs_of_the_same_types_share_their_weights(export_spec, tmp_path, spec):
    export_spec(spec, parity=False, made_for=TargetOptions(("webgpu", "portable"), portable_contexts=(64,)))
    bundle = tmp_path / "bundle"
    assert sorted(path.name for path in bundle.glob("*.bin")) == ["weights_fp16.bin"]
    by_graph = {path.name: places(graph_of(bundle, path.name)) for path in bundle.glob("*.onnx")}
    webgpu, portable = by_graph["paged_webgpu.onnx"], by_graph["portable_rows_n16_c64.onnx"]
    shared = set(webgpu) & set(portable)
    assert {"layers.2.attn.qkv", "layers.0.mlp.gate_proj", "layers.1.mlp.down_proj"} <= shared
    assert all(webgpu[name] == portable[name] for name in shared)
    size = (bundle / "weights_fp16.bin").stat().st_size
    everything = {place for graph in by_graph.values() for place in graph.values()}
    assert all(file == "weights_fp16.bin" and start + length <= size for file, start, length in everything)
    # Nothing is stored twice: what different graphs name differently are parts of the embedding or the head.
    whole = sum(length for _, _, length in {place for name, place in webgpu.items()} | {place for name, place in
                portable.items()})  # fmt: skip
    assert size <= whole + 4096 * len(everything)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_embedding_is_where_guard_toml_says(export_spec, tmp_path, precision, tied):
    spec = gen_spec(tie_word_embeddings=tied)
    made_for = TargetOptions(("portable",), portable_precision=precision, portable_contexts=(64,))
    export_spec(spec, parity=False, made_for=made_for)
    portable = manifest(tmp_path / "bundle")["graphs"]["portable"]
    dtype = {"fp16": np.float16, "fp32": np.float32}[precision]
    assert portable["embedding"]["type"] == portable["cache"] == precision
    data = (tmp_path / "bundle" / portable["weights"]).read_bytes()[portable["embedding"]["offset"] :]
    rows = np.frombuffer(data[: 300 * 48 * dtype().itemsize], dtype).reshape(300, 48)
    wanted = random_tensors(gen_config(tie_word_embeddings=tied))["model.embed_tokens.weight"].astype(dtype)
    np.testing.assert_array_equal(rows, wanted)


def test_a_small_embedding_is_in_the_file_too(export_spec, tmp_path):
    config = small_config(hidden_size=8, vocab_size=260)
    made_for = TargetOptions(("portable",), portable_contexts=(64,))
    export_spec(Spec(config=config, special_tokens=["<|im_start|>", "<|im_end|>"]), parity=False, made_for=made_for)
    data = (tmp_path / "bundle/weights_fp16.bin").read_bytes()
    wanted = random_tensors(config)["model.embed_tokens.weight"].astype(np.float16)
    assert data[: wanted.nbytes] == wanted.tobytes()


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("slots", [1, 3])
def test_interface_of_portable_graphs(export_spec, tmp_path, precision, slots):
    made_for = TargetOptions(("portable",), portable_precision=precision, portable_contexts=(64,),
                             portable_slots=(slots,))  # fmt: skip
    export_spec(gen_spec(), parity=False, made_for=made_for)
    half = {"fp16": FP16, "fp32": FP32}[precision]
    caches = [f"{kind}.{layer}" for layer in range(3) for kind in ("key", "value")]
    name = "" if slots == 1 else f"_b{slots}"
    count = len(manifest(tmp_path / "bundle")["heads"][0]["tokens"])
    for append in ("rows", "scatter"):
        for new in (1, 16, 64):
            model = graph_of(tmp_path / "bundle", f"portable_{append}_n{new}_c64{name}.onnx")
            inputs, outputs = signature(model.graph.input), signature(model.graph.output)
            assert inputs == {
                "embeds": (FP32, [slots, new, 48]),
                "cos": (FP32, [slots, 1, new, 24]),
                "sin": (FP32, [slots, 1, new, 24]),
                "mask": (half, [slots, 1, 1, 64]),
                **({"slots": (INT64, [slots, 2, new, 3])} if append == "scatter" else {}),
                **{f"past_{cache}": (half, [slots, 2, 64, 24]) for cache in caches},
            }
            prefix, length = ("new", new) if append == "rows" else ("present", 64)
            assert outputs == {
                "candidates": (FP32, [slots, new, count]),
                "row_check": (FP32, [slots, new]),
                "hidden": (FP32, [slots, new, 48]),
                **{f"{prefix}_{cache}": (half, [slots, 2, length, 24]) for cache in caches},
            }
            assert {entry.domain: entry.version for entry in model.opset_import} == {"": 17}
            onnx.checker.check_model(tmp_path / "bundle" / f"portable_{append}_n{new}_c64{name}.onnx", full_check=True)
    head = graph_of(tmp_path / "bundle", "portable_next_token.onnx")
    assert signature(head.graph.input) == {"hidden": (half, [1, 48])}
    assert signature(head.graph.output) == {"next_token": (FP32, [1, 300])}


@pytest.mark.parametrize(
    ("target", "dtype"), [("webgpu", np.float16), ("cuda", ml_dtypes.bfloat16), ("portable", np.float16)]
)
def test_weights_are_those_of_the_checkpoint(export_spec, tmp_path, target, dtype):
    export_spec(Spec(), parity=False, made_for=TargetOptions((target,), portable_contexts=(64,)))
    bundle = tmp_path / "bundle"
    name = f"paged_{target}.onnx" if target != "portable" else "portable_scatter_n64_c64.onnx"
    model, tensors = graph_of(bundle, name), random_tensors(small_config())
    prefix = "model.layers.2."
    stacked = np.concatenate([tensors[f"{prefix}self_attn.{part}_proj.weight"] for part in "qkv"])
    np.testing.assert_array_equal(tensor(bundle, model, "layers.2.attn.qkv"), stacked.T.astype(dtype))
    for part in ("gate_proj", "up_proj", "down_proj"):
        wanted = tensors[f"{prefix}mlp.{part}.weight"].T.astype(dtype)
        np.testing.assert_array_equal(tensor(bundle, model, f"layers.2.mlp.{part}"), wanted)
    np.testing.assert_array_equal(tensor(bundle, model, "norm"), tensors["model.norm.weight"])


@pytest.mark.parametrize("target", ["webgpu", "cuda", "portable", "gpu"])
def test_bundles_without_a_graph_for_cpus(export_spec, tmp_path, target):
    targets = ("webgpu", "cuda") if target == "gpu" else (target,)
    report = export_spec(Spec(), made_for=TargetOptions(targets, portable_contexts=(128,)))
    guard = manifest(tmp_path / "bundle")
    assert "paged_cpu" not in guard["graphs"] and not (tmp_path / "bundle/weights.bin").exists()
    # That is: no weights are quantised.
    assert guard["precision"] == "fp32" and "group" not in guard
    assert report.parity is None and set(guard["parity"]) == set(guard["graphs"]) == set(report.parities)
    assert len(guard["self_test"]) == 4
    assert all(np.isfinite(test["logits"][name]).all() for test in guard["self_test"] for name in LABELS)
    first = min(guard["graphs"], key=["paged_webgpu", "paged_cuda", "portable"].index)
    for test in guard["self_test"]:
        assert set(test["graphs"]) == set(guard["graphs"])
        assert test["graphs"][first] == test["logits"]


def test_each_graph_has_logits_of_its_own_in_the_self_test(export_spec, tmp_path):
    export_spec(Spec(), parity=False, made_for=TargetOptions(("cpu", "webgpu", "cuda")))
    tests = manifest(tmp_path / "bundle")["self_test"]
    for test in tests:
        assert set(test["graphs"]) == {"paged_webgpu", "paged_cuda"}
        for logits in test["graphs"].values():
            assert {name: len(row) for name, row in logits.items()} == {n: len(r) for n, r in test["logits"].items()}
            # 16 bits beside 32: not the same numbers, nor far from them.
            off = [abs(a - b) for name, row in logits.items() for a, b in zip(row, test["logits"][name], strict=True)]
            assert 0 < max(off) < 0.2


@pytest.mark.parametrize("target", ["webgpu", "portable"])
def test_weights_beyond_float16(export_spec, tmp_path, target):
    tensors = random_tensors(small_config())
    tensors["model.layers.1.mlp.down_proj.weight"][3, 4] = 1e5
    with pytest.raises(ExportError, match="^tensor model.layers.1.mlp.down_proj.weight: holds values that are not"):
        export_spec(Spec(tensors=tensors), made_for=TargetOptions((target,)))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
