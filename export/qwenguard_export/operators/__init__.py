"""Checks that a provider would run a graph as a whole: one node that it does not take cuts the graph in pieces, with
copies between devices at every cut.

What a provider takes is written down in tables beside this file.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from onnx import ModelProto, NodeProto, TensorProto, TypeProto, defs, helper, shape_inference

from ..errors import ExportError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DIRECTML, COREML = "directml", "coreml"


@dataclass(frozen=True)
class _Values:
    """What is known of the values of a graph."""

    types: dict[str, TypeProto.Tensor]
    weights: set[str]
    inputs: set[str]
    opset: int


@cache
def table(provider: str) -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath(f"{provider}.toml").read_text("utf-8"))


def check(model: ModelProto, file: str, provider: str) -> None:
    """Fails for a graph that the provider would not run as a whole."""
    rules = table(provider)
    for node in model.graph.node:
        # Those are looked at first: of operators that are not standard no types can be inferred.
        if node.domain or node.op_type not in rules["operators"]:
            raise _refusal(file, node, rules, "there is no kernel")
    values = _values(model)
    for node in model.graph.node:
        problem = _problem(node, rules, values)
        if problem:
            raise _refusal(file, node, rules, problem)


def _refusal(file: str, node: NodeProto, rules: dict[str, Any], problem: str) -> ExportError:
    return ExportError(f"{file}: node {node.name}: {rules['provider']} does not run {node.op_type}: {problem}")


def _values(model: ModelProto) -> _Values:
    graph = shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    types = {value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)}
    types |= {tensor.name: _type_of(tensor) for tensor in graph.initializer}
    standard = next(entry.version for entry in model.opset_import if entry.domain == "")
    weights = {tensor.name for tensor in graph.initializer}
    return _Values(types, weights, {value.name for value in graph.input}, standard)


def _type_of(tensor: TensorProto) -> TypeProto.Tensor:
    return helper.make_tensor_type_proto(tensor.data_type, tensor.dims).tensor_type


def _problem(node: NodeProto, rules: dict[str, Any], values: _Values) -> str | None:
    rule = rules["operators"][node.op_type]
    since = defs.get_schema(node.op_type, values.opset).since_version
    first, last = rule["opsets"]
    if not first <= since <= last:
        return f"it is version {since} of the operator, {first} to {last} are known"
    for index, name in enumerate(node.input):
        problem = name and _value_problem(name, rule.get("inputs", {}).get(str(index), rule["types"]), rules, values)
        if problem:
            return problem
        if name not in values.weights and index in rule.get("constant", []):
            return f"{name} is not a weight"
    for name in node.output:
        # The limit of a dimension is for what is read.
        problem = _value_problem(name, rule["types"], {**rules, "dimension": None}, values)
        if problem:
            return problem
    if rule.get("from_node") and node.input[0] in values.inputs:
        return f"{node.input[0]} is an input of the graph"
    return _attribute_problem(node, rule.get("attributes", {}))


def _value_problem(name: str, kinds: list[str], rules: dict[str, Any], values: _Values) -> str | None:
    kind = values.types.get(name)
    if kind is None or not kind.elem_type:
        return f"the type of {name} is not known"
    element = TensorProto.DataType.Name(kind.elem_type).lower()
    if element not in kinds:
        return f"{name} is {element}, not {' or '.join(kinds)}"
    sizes = [dimension.dim_value for dimension in kind.shape.dim]
    if not kind.HasField("shape") or not all(size > 0 for size in sizes):
        return f"the shape of {name} is not static"
    if len(sizes) > rules["rank"]:
        return f"{name} has {len(sizes)} dimensions, at most {rules['rank']} are supported"
    most = rules.get("dimension")
    if most and max(sizes, default=0) > most:
        return f"{name} has a dimension of {max(sizes)}, at most {most} are supported"
    return None


def _attribute_problem(node: NodeProto, wanted: dict[str, Any]) -> str | None:
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if attribute.name in wanted and value != wanted[attribute.name]:
            return f"{attribute.name} is {value}, not {wanted[attribute.name]}"
    return None
