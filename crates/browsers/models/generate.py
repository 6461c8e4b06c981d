"""Writes the ONNX files beside it; run by hand (`pip install onnx numpy`), the files are kept.

probe.onnx: y = x W, the tiny graph that proves a provider.
mixer.onnx: three dense layers with tanh, for tests; gather.onnx: an int64 input beside, so that some nodes stay on the
processor under WebGPU.
endless.onnx: a Loop that would end after 2^63 - 1 turns, for the watchdog; each turn needs the last one's result.
half.onnx, int8.onnx, int4.onnx: one dense layer in 16-bit floats, in 8-bit integers (dynamically quantised), with 4-bit
weights (MatMulNBits).
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

turn = helper.make_graph(
    [
        helper.make_node("Identity", ["go"], ["goes_on"]),
        helper.make_node("Add", ["last", "x"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["next"]),
    ],
    "turn",
    [
        helper.make_tensor_value_info("number", TensorProto.INT64, ()),
        helper.make_tensor_value_info("go", TensorProto.BOOL, ()),
        floats("last", 2, 16),
    ],
    [helper.make_tensor_value_info("goes_on", TensorProto.BOOL, ()), floats("next", 2, 16)],
)
save(
    "endless",
    [helper.make_node("Loop", ["turns", "", "x"], ["y"], body=turn)],
    [floats("x", 2, 16)],
    [floats("y", 2, 16)],
    {"turns": numpy.array(2**63 - 1, dtype=numpy.int64)},
)

# Whole numbers again, so that every format is exact: x in -3..3, weights in -8..7.
weights = random.integers(-8, 8, (64, 16))
save(
    "half",
    [helper.make_node("MatMul", ["x", "w"], ["y"])],
    [helper.make_tensor_value_info("x", TensorProto.FLOAT16, (2, 64))],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT16, (2, 16))],
    {"w": weights.astype(numpy.float16)},
)
save(
    "int8",
    [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        helper.make_node("MatMulInteger", ["xq", "w", "xz", "wz"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "xs"], ["y"]),
    ],
    [floats("x", 2, 64)],
    [floats("y", 2, 16)],
    {"w": weights.astype(numpy.int8), "wz": numpy.array(0, dtype=numpy.int8)},
)
# One column after the other, in blocks of 32 rows; two weights per byte, the lower one first, with zero point 8.
columns = (weights.T + 8).astype(numpy.uint8).reshape(16, 2, 32)
packed = (columns[:, :, 0::2] | (columns[:, :, 1::2] << 4)).astype(numpy.uint8)
graph = helper.make_graph(
    [
        helper.make_node(
            "MatMulNBits", ["x", "w", "scales"], ["y"], domain="com.microsoft", K=64, N=16, bits=4, block_size=32
        )
    ],
    "int4",
    [floats("x", 2, 64)],
    [floats("y", 2, 16)],
    [
        numpy_helper.from_array(packed, "w"),
        numpy_helper.from_array(numpy.ones(32, dtype=numpy.float32), "scales"),
    ],
)
opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), HERE / "int4.onnx")

x = (numpy.arange(128) % 7 - 3).reshape(2, 64)
print("what half, int8 and int4 make of x = (0, 1, ..., 127) mod 7 - 3:", (x @ weights).flatten().tolist())
