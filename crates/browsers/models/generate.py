"""Writes the ONNX files beside it; run by hand (`pip install onnx numpy`), the files are kept.

probe.onnx: y = x W, the tiny graph that proves a provider.
mixer.onnx: three dense layers with tanh, for tests; gather.onnx: an int64 input beside, so that some nodes stay on the
processor under WebGPU.
"""

import pathlib

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent


def save(name, nodes, inputs, outputs, weights):
    graph = helper.make_graph(nodes, name, inputs, outputs, [numpy_helper.from_array(v, k) for k, v in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, HERE / f"{name}.onnx")


def floats(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


# Small whole numbers: exact in any float format, whatever the order of the sums.
probe = (numpy.arange(12, dtype=numpy.float32) - 5).reshape(4, 3)
save("probe", [helper.make_node("MatMul", ["x", "w"], ["y"])], [floats("x", 2, 4)], [floats("y", 2, 3)], {"w": probe})

random = numpy.random.default_rng(7)
weights = {}
nodes = []
previous = "x"
for layer, (rows, columns) in enumerate([(16, 32), (32, 32), (32, 8)]):
    weights[f"w{layer}"] = (random.standard_normal((rows, columns)) / rows**0.5).astype(numpy.float32)
    weights[f"b{layer}"] = (random.standard_normal(columns) / 8).astype(numpy.float32)
    nodes += [
        helper.make_node("MatMul", [previous, f"w{layer}"], [f"m{layer}"]),
        helper.make_node("Add", [f"m{layer}", f"b{layer}"], [f"a{layer}"]),
        helper.make_node("Tanh", [f"a{layer}"], ["y" if layer == 2 else f"t{layer}"]),
    ]
    previous = f"t{layer}"
save("mixer", nodes, [floats("x", 2, 16)], [floats("y", 2, 8)], weights)

table = random.standard_normal((10, 8)).astype(numpy.float32)
save(
    "gather",
    [
        helper.make_node("Mul", ["ids", "two"], ["doubled"]),
        helper.make_node("Gather", ["table", "doubled"], ["rows"]),
        helper.make_node("Tanh", ["rows"], ["y"]),
    ],
    [helper.make_tensor_value_info("ids", TensorProto.INT64, (3,))],
    [floats("y", 3, 8)],
    {"table": table, "two": numpy.array(2, dtype=numpy.int64)},
)
