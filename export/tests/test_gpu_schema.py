"""GPU graphs against the operators' definitions, which needs no GPU, but an ONNX Runtime that has these definitions.

Where the one that is installed is older, as in the project's own environment, a newer one is taken from the folder
`newer` of the environment: see the Makefile.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from checkpoints import Spec, gen_spec, small_config
from onnx import TensorProto, helper

from qwenguard_export import gpu_schema
from qwenguard_export.errors import ExportError
from qwenguard_export.targets import TargetOptions

WHOLE_BLOCKS = {"hidden_size": 64, "head_dim": 16, "intermediate_size": 96}

_CHECK = """
import sys
from pathlib import Path
import onnx
from qwenguard_export import gpu_schema
from qwenguard_export.errors import ExportError

assert gpu_schema.is_known(), "this onnxruntime does not have the definitions"
for path in map(Path, sys.argv[1:]):
    try:
        gpu_schema.check(onnx.load(path, load_external_data=False), path.parent, path.name)
        print("fits")
    except ExportError as error:
        print(" ".join(str(error).split()))
"""


def check(*graphs: Path) -> list[str]:
    """What the check says of each graph: that it fits, or why it does not."""
    environment = dict(os.environ)
    if not gpu_schema.is_known():
        newer = Path(sys.prefix) / "newer"
        assert newer.is_dir(), f"these tests need onnxruntime {gpu_schema.NEEDED} or later, installed or in {newer}"
        environment["PYTHONPATH"] = str(newer)
    command = [sys.executable, "-c", _CHECK, *map(str, graphs)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize("bits", [16, 8, 4])
@pytest.mark.parametrize("variant", ["stream", "gen"])
def test_graphs_fit(export_spec, tmp_path, bits, variant):
    spec = Spec(config=small_config(**WHOLE_BLOCKS))
    if variant == "gen":
        spec = gen_spec(**WHOLE_BLOCKS, tie_word_embeddings=False)
    export_spec(spec, parity=False, made_for=TargetOptions(("webgpu", "cuda"), gpu_weights=bits))
    bundle = tmp_path / "bundle"
    assert check(bundle / "paged_webgpu.onnx", bundle / "paged_cuda.onnx") == ["fits", "fits"]


def attention(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == "PagedAttention")


def past_lens_of_another_type(model: onnx.ModelProto) -> None:
    attention(model).input[6] = "input_ids"


def no_number_of_heads(model: onnx.ModelProto) -> None:
    (one,) = [one for one in attention(model).attribute if one.name == "kv_num_heads"]
    attention(model).attribute.remove(one)


def an_attribute_too_many(model: onnx.ModelProto) -> None:
    attention(model).attribute.append(helper.make_attribute("no_such", 1))


def metadata_of_another_type(model: onnx.ModelProto) -> None:
    (value,) = [value for value in model.graph.input if value.name == "metadata"]
    value.type.tensor_type.elem_type = TensorProto.INT64


def an_input_too_many(model: onnx.ModelProto) -> None:
    attention(model).input.extend(["", "metadata"])


def a_norm_of_another_type(model: onnx.ModelProto) -> None:
    (weight,) = [tensor for tensor in model.graph.initializer if tensor.name == "norm"]
    weight.data_type = TensorProto.BFLOAT16
    weight.raw_data = weight.raw_data[: len(weight.raw_data) // 2]


DAMAGE = [
    past_lens_of_another_type,
    no_number_of_heads,
    an_attribute_too_many,
    metadata_of_another_type,
    an_input_too_many,
    a_norm_of_another_type,
]


@pytest.mark.parametrize("target", ["webgpu", "cuda"])
def test_graphs_that_do_not_fit(export_spec, tmp_path, target):
    export_spec(Spec(), parity=False, made_for=TargetOptions((target,)))
    graph, damaged = tmp_path / f"bundle/paged_{target}.onnx", []
    for damage in DAMAGE:
        model = onnx.load(graph, load_external_data=False)
        damage(model)
        damaged.append(graph.with_name(f"{damage.__name__}.onnx"))
        onnx.save(model, damaged[-1])
    found = check(*damaged)
    assert len(found) == len(DAMAGE)
    for path, message in zip(damaged, found, strict=True):
        assert message.startswith(f"{path.name}: ONNX Runtime refuses the graph: "), message


def test_the_export_checks_its_graphs(export_spec, tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr(gpu_schema, "is_known", lambda: True)
    monkeypatch.setattr(gpu_schema, "check", lambda model, folder, file: checked.append(file))
    report = export_spec(Spec(), parity=False, made_for=TargetOptions(("cpu", "webgpu", "cuda")))
    assert checked == ["paged_webgpu.onnx", "paged_cuda.onnx"] and report.notes == []

    def refuse(model, folder, file):
        raise ExportError(f"{file}: ONNX Runtime refuses the graph")

    monkeypatch.setattr(gpu_schema, "check", refuse)
    with pytest.raises(ExportError, match="^paged_cuda.onnx: ONNX Runtime refuses"):
        export_spec(Spec(), force=True, made_for=TargetOptions(("cuda",)))


def test_what_was_not_checked_is_said(export_spec, monkeypatch):
    monkeypatch.setattr(gpu_schema, "is_known", lambda: False)
    report = export_spec(Spec(), parity=False, made_for=TargetOptions(("cpu", "cuda")))
    (note,) = [line for line in report.lines() if line.startswith("paged_cuda.onnx")]
    assert note.endswith("which needs onnxruntime 1.31 or later")


@pytest.mark.parametrize(
    ("version", "known"), [("1.30.9", False), ("1.31.0", True), ("1.31.0rc1", True), ("2.0", True)]
)
def test_versions(monkeypatch, version, known):
    monkeypatch.setattr(gpu_schema.ort, "__version__", version)
    assert gpu_schema.is_known() is known
