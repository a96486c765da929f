"""Checks the graphs for GPUs against the operators' definitions, where there is no GPU.

A session on ONNX Runtime's CPU provider resolves all types first and looks for kernels then. Of bfloat16, which it has
hardly a kernel for, a graph that is right fails for want of a kernel, and one that is wrong fails as invalid. A float16
graph is looked at as if it were bfloat16: float16 is cast to float32 on the way, which confuses the matter.
"""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
from onnx import ModelProto, TensorProto

from .errors import ExportError, check_interrupted

# The first version whose PagedAttention has the inputs that the graphs give it: norms of q and k, and metadata.
NEEDED = "1.31"

_LOG_FATAL = 4


def is_known() -> bool:
    """Whether the ONNX Runtime that is installed knows the operators as the graphs use them."""
    return _version(ort.__version__) >= _version(NEEDED)


def check(model: ModelProto, folder: Path, file: str) -> None:
    """Fails if the graph does not fit the operators' definitions. `folder` has its weights."""
    check_interrupted()
    options = ort.SessionOptions()
    options.log_severity_level = _LOG_FATAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    try:
        ort.InferenceSession(_in_bfloat16(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions have no narrower base
        if "NOT_IMPLEMENTED" in str(error):
            return
        raise ExportError(f"{file}: ONNX Runtime refuses the graph: {error}") from error
    raise ExportError(f"{file}: ONNX Runtime runs the graph on a CPU, so that its types were not checked")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


def _in_bfloat16(model: ModelProto) -> ModelProto:
    result = ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            tensor.data_type = TensorProto.BFLOAT16
    for value in (*result.graph.input, *result.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    for node in result.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.BFLOAT16
    return result
