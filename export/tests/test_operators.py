"""The static check of portable graphs: what would split is refused, with node, operator and provider named."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoints import Spec, gen_spec, small_config
from onnx import ModelProto, TensorProto, helper, numpy_helper

from qwenguard_export import operators
from qwenguard_export.errors import ExportError
from qwenguard_export.operators import COREML, DIRECTML
from qwenguard_export.targets import TargetOptions

FP16, FP32, INT64 = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.INT64


def graph(*nodes, inputs=(("x", FP32, [2, 8]),), output=("y", FP32, None), opset=17, **weights) -> ModelProto:
    """A graph of a few nodes; the last one gives `y`."""
    values = [helper.make_tensor_value_info(*value) for value in inputs]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    made = helper.make_graph(nodes, "g", values, [helper.make_tensor_value_info(*output)], initializers)
    return helper.make_model(made, ir_version=10, opset_imports=[helper.make_opsetid("", opset)])


def node(operator: str, *inputs: str, output: str = "y", domain: str = "", **attributes):
    return helper.make_node(operator, inputs, [output], name=f"/a/{operator}", domain=domain, **attributes)


MATRIX = np.ones((8, 4), np.float32)


@pytest.mark.parametrize("provider", [DIRECTML, COREML])
def test_what_is_taken(provider):
    operators.check(graph(node("MatMul", "x", "w"), w=MATRIX), "f.onnx", provider)
    operators.check(graph(node("Gemm", "x", "w", transB=1), w=MATRIX.T.copy()), "f.onnx", provider)
    operators.check(graph(node("Reshape", "x", "s"), s=np.array([4, 4])), "f.onnx", provider)


@pytest.mark.parametrize(
    ("provider", "model", "message"),
    [
        (COREML, graph(node("Min", "x", "x")), "CoreML does not run Min: there is no kernel"),
        (DIRECTML, graph(node("Erf", "x")), "DirectML does not run Erf: there is no kernel"),
        (
            DIRECTML,
            graph(node("Add", "x", "x", domain="com.example")),
            "DirectML does not run Add: there is no kernel",
        ),
        (
            COREML,
            graph(node("ScatterND", "x", "i", "u"), i=np.array([[0]]), u=np.ones((1, 8), np.float32)),
            "CoreML does not run ScatterND: there is no kernel",
        ),
        (
            COREML,
            graph(node("Reshape", "x", "s"), opset=21, s=np.array([4, 4])),
            "CoreML does not run Reshape: it is version 21 of the operator, 5 to 19 are known",
        ),
        (
            DIRECTML,
            graph(node("Mul", "x", "x"), inputs=[("x", TensorProto.DOUBLE, [2, 2])], output=("y", 11, None)),
            "DirectML does not run Mul: x is double, not float or float16",
        ),
        (
            COREML,
            graph(node("Cast", "x", to=INT64), node("Cast", "y", output="z", to=FP32), output=("z", FP32, None)),
            "CoreML does not run Cast: y is int64, not float or float16",
        ),
        (
            COREML,
            graph(node("Cast", "x", to=FP16), output=("y", FP16, None)),
            "CoreML does not run Cast: x is an input of the graph",
        ),
        (
            DIRECTML,
            graph(node("Sqrt", "x"), inputs=[("x", FP32, ["n", 8])]),
            "DirectML does not run Sqrt: the shape of x is not static",
        ),
        (
            COREML,
            graph(node("Sqrt", "x"), inputs=[("x", FP32, [1] * 6)]),
            "CoreML does not run Sqrt: x has 6 dimensions, at most 5 are supported",
        ),
        (
            DIRECTML,
            graph(node("Sqrt", "x"), inputs=[("x", FP32, [1] * 9)]),
            "DirectML does not run Sqrt: x has 9 dimensions, at most 8 are supported",
        ),
        (
            COREML,
            graph(node("MatMul", "x", "w"), w=np.ones((8, 16385), np.float32)),
            "CoreML does not run MatMul: w has a dimension of 16385, at most 16384 are supported",
        ),
        (
            COREML,
            graph(node("Gemm", "x", "w"), inputs=[("x", FP32, [2, 8]), ("w", FP32, [8, 4])]),
            "CoreML does not run Gemm: w is not a weight",
        ),
        (
            COREML,
            graph(node("Gemm", "x", "w", alpha=0.5), w=MATRIX),
            "CoreML does not run Gemm: alpha is 0.5, not 1.0",
        ),
        (
            COREML,
            graph(
                node("Reshape", "x", "s"),
                inputs=[("x", FP32, [2, 8]), ("s", INT64, [2])],
                output=("y", FP32, [4, 4]),
            ),
            "CoreML does not run Reshape: s is not a weight",
        ),
    ],
)  # fmt: skip
def test_what_would_split(provider, model, message):
    with pytest.raises(ExportError) as error:
        operators.check(model, "f.onnx", provider)
    assert str(error.value).startswith("f.onnx: node /a/") and str(error.value).endswith(message)


def test_outputs_may_be_larger_than_what_is_read():
    """CoreML's limit of a dimension is one of inputs."""
    wide = np.ones((8, 10000), np.float32)
    model = graph(
        node("MatMul", "x", "w", output="a"),
        node("Concat", "a", "a", axis=-1),
        w=wide,
    )
    operators.check(model, "f.onnx", COREML)


@pytest.mark.parametrize("provider", [DIRECTML, COREML])
def test_tables_say_where_they_are_from(provider):
    rules = operators.table(provider)
    assert rules["source"].startswith("github.com/microsoft/onnxruntime") and len(rules["commit"]) == 40
    assert rules["read"] and rules["operators"]
    for rule in rules["operators"].values():
        assert set(rule) <= {"opsets", "types", "inputs", "constant", "attributes", "from_node"}
        assert rule["opsets"][0] <= rule["opsets"][1]


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("variant", ["stream", "gen"])
def test_every_graph_is_checked(export_spec, tmp_path, monkeypatch, variant, precision):
    """And every operator of the tables is used, so that there is no row that nothing depends on."""
    checked, check = [], operators.check

    def remember(model, file, provider):
        checked.append((file, provider, {node.op_type for node in model.graph.node}))
        check(model, file, provider)

    monkeypatch.setattr(operators, "check", remember)
    made_for = TargetOptions(("portable",), portable_precision=precision, portable_contexts=(64,))
    export_spec(Spec() if variant == "stream" else gen_spec(), parity=False, made_for=made_for)
    by_provider = {
        provider: {file for file, other, _ in checked if other == provider} for provider in (DIRECTML, COREML)
    }
    graphs = {path.name for path in (tmp_path / "bundle").glob("*.onnx")}
    assert by_provider[DIRECTML] == graphs
    assert by_provider[COREML] == {name for name in graphs if "scatter" not in name}
    unused = {"Cast"} if precision == "fp32" else set()
    unused |= {"Gemm"} if variant == "stream" else set()
    assert set.union(*(found for _, _, found in checked)) == set(operators.table(DIRECTML)["operators"]) - unused


def test_a_graph_that_would_split_is_not_exported(export_spec, tmp_path):
    """Here for a matrix that is too large for CoreML."""
    config = small_config(intermediate_size=16392, num_hidden_layers=1)
    with pytest.raises(ExportError, match=r"^portable_rows_n1_c64.onnx: node /layers.0/mlp/gate_proj: CoreML .* 16392"):
        export_spec(Spec(config=config), made_for=TargetOptions(("portable",), portable_contexts=(64,)))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
