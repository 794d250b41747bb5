"""Weights as `--experts int8 --projections int8` holds them, from their description alone: in a matrix of an expert, of
attention or of the head each row becomes integers times the row's scale, its largest magnitude / 127. The rest stays."""
import re

import numpy as np

EXPERTS = re.compile(r"experts\.\d+\.w[123]\.weight$")
ATTENTION = re.compile(r"layers\.\d+\.self_attn\.(qkv_proj|output_gate|out_proj|q_proj|k_proj|v_proj|o_proj)\.weight$")
HEAD = re.compile(r"lm_head\.weight$")
ALL = (EXPERTS, ATTENTION, HEAD)


def rounded(matrix):
    """float32 [rows, columns] -> the float32 numbers that its eight bits stand for."""
    matrix = np.asarray(matrix, dtype=np.float32)
    scale = np.abs(matrix).max(axis=1, keepdims=True) / np.float32(127)
    integers = np.rint(matrix / np.where(scale == 0, np.float32(1), scale))
    assert np.abs(integers).max() <= 127
    return integers * scale


def int8_weights(weights, kinds=ALL):
    """{released name: array} with the matrices of these kinds rounded."""
    return {name: rounded(value) if is_int8(name, kinds) else value for name, value in weights.items()}


def is_int8(name, kinds=ALL):
    return "vision_tower" not in name and any(kind.search(name) for kind in kinds)
