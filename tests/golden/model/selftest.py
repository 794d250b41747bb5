#!/usr/bin/env python3
"""Checks the checkpoint writers with nothing but python3 (run by ctest): the released table and its hash, the committed
values of the weight formula, and that what is written can be read back."""
import json
import math
import os
import struct
import tempfile
import unittest

import demo_checkpoint
import model_configs
import released_checkpoint
import safetensors_writer
import tiny_checkpoint
import weight_formula

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")


def tensor_bytes(folder):
    """{name: (shape, dtype, bytes)} of every shard in the folder."""
    out = {}
    for file in sorted(f for f in os.listdir(folder) if f.endswith(".safetensors")):
        path = os.path.join(folder, file)
        table, start, _ = safetensors_writer.read_header(path)
        table.pop("__metadata__")
        with open(path, "rb") as f:
            blob = f.read()
        for name, e in table.items():
            begin, end = (start + o for o in e["data_offsets"])
            out[name] = (tuple(e["shape"]), e["dtype"], blob[begin:end])
    return out


class FormulaTest(unittest.TestCase):
    def test_committed_values(self):
        with open(os.path.join(DATA, "weight_formula.json"), encoding="utf-8") as f:
            picks = json.load(f)["weights"]
        for pick in picks:
            m = model_configs.MODELS[pick["model"]]
            flat = tiny_checkpoint.weight(m, pick["name"], tuple(pick["shape"]))
            bits = [struct.unpack("<I", struct.pack("<f", float(flat[i])))[0] for i in pick["indices"]]
            self.assertEqual(bits, pick["bits"], pick["name"])

    def test_splitmix_is_the_published_one(self):
        # The first outputs of SplitMix64 for seed 1234567, as its authors' test vectors have them.
        outputs = [weight_formula.mix((1234567 + (i + 1) * weight_formula.GOLDEN) & weight_formula.MASK)
                   for i in range(3)]
        self.assertEqual(outputs, [6457827717110365317, 3203168211198807973, 9817491932198370423])
        self.assertEqual(weight_formula.fnv1a64("a"), 0xAF63DC4C8601EC8C)

    def test_bf16_rounds_to_nearest_even(self):
        flat = weight_formula.array.array("f", [1.0, 1.00390625, 1.01171875, -0.2])
        halves = struct.unpack("<4H", weight_formula.to_bf16_bytes(flat))
        self.assertEqual(halves, (0x3F80, 0x3F80, 0x3F82, 0xBE4D))


class CheckpointTest(unittest.TestCase):
    def test_released_table(self):
        released_checkpoint.check_table(dict(model_configs.tensors(model_configs.MODELS["released"])))

    def test_released_files(self):
        with tempfile.TemporaryDirectory() as folder:
            released_checkpoint.write(folder, ["image_newline"])

    def test_native_holds_the_same_numbers(self):
        m = model_configs.MODELS["g0"]
        with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
            tiny_checkpoint.write_checkpoint(m, a, shard_bytes=20000)
            tiny_checkpoint.write_checkpoint(m, b, native=True)
            released, native = tensor_bytes(a), tensor_bytes(b)
            with open(os.path.join(a, "model.safetensors.index.json"), encoding="utf-8") as f:
                self.assertEqual(json.load(f)["weight_map"].keys(), released.keys())
            for name, shape, sources in model_configs.native_tensors(m):
                self.assertEqual(native[name][0], shape)
                self.assertEqual(native[name][2], b"".join(released[s][2] for s in sources), name)
            self.assertEqual(sum(len(v[2]) for v in native.values()), sum(len(v[2]) for v in released.values()))

    def test_demo(self):
        m = model_configs.MODELS["demo"]
        with tempfile.TemporaryDirectory() as folder:
            demo_checkpoint.write_demo(folder)
            found = tensor_bytes(folder)
            expected = dict(model_configs.tensors(m))
            self.assertEqual({n: s for n, (s, _, _) in found.items()}, expected)
            self.assertTrue(all(len(b) == 2 * math.prod(s) for s, _, b in found.values()))
            with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as f:
                tokens = json.load(f)
            ids = sorted([*tokens["model"]["vocab"].values(), *(t["id"] for t in tokens["added_tokens"])])
            self.assertEqual(ids, list(range(m.vocab)))


if __name__ == "__main__":
    unittest.main()
