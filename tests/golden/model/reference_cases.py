"""The cases of the model goldens: which prompts and pictures each model gets. Pictures are given as ready tiles by a
formula (weight_formula.h has the same), so that resizing, which has its own goldens, plays no part here."""
import dataclasses

import numpy as np

import weight_formula


@dataclasses.dataclass(frozen=True)
class Picture:
    height: int  # of the original; tiles follow from it
    width: int


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    model: str
    parts: tuple  # of int (so many random text ids) or Picture
    int8: bool = False  # experts, projections and head rounded to eight bits (int8_weights.py)


P = Picture
CASES = (
    Case("g0_text", "g0", (12,)),
    Case("g0_image_first", "g0", (P(8, 8), 6)),  # 10 tokens: the tester of transformers itself
    Case("g0_image_middle", "g0", (5, P(5, 12), 4)),
    Case("g0_image_last", "g0", (7, P(8, 8))),
    Case("g0_images", "g0", (3, P(8, 8), 2, P(20, 7), 1, P(8, 8), 4)),
    Case("g1_text", "g1", (23,)),
    Case("g1_image_middle", "g1", (4, P(8, 8), 6)),
    Case("g2_text", "g2", (20,)),
    Case("g2_long", "g2", (300,)),  # crosses the reference's block of 256
    Case("g2_image_first", "g2", (P(24, 24), 9)),
    Case("g2_image_middle", "g2", (6, P(50, 30), 7)),
    Case("g2_image_last", "g2", (11, P(20, 60))),
    Case("g2_images", "g2", (3, P(48, 48), 4, P(24, 70), 2, P(100, 31), 5)),
    Case("g2_int8", "g2", (6, P(50, 30), 7), int8=True),
    Case("g3_t1", "g3", (1,)),
    Case("g3_t255", "g3", (255,)),
    Case("g3_t256", "g3", (256,)),
    Case("g3_t257", "g3", (257,)),
    Case("g3_t600", "g3", (600,)),
    Case("g4_text", "g4", (24,)),
    Case("g4_all_experts", "g4", (200,)),
    Case("g5_text", "g5", (24,)),
    Case("g5_image_middle", "g5", (5, P(48, 30), 6)),
    Case("g6_336x336", "g6", (4, P(336, 336), 5)),
    Case("g6_480x640", "g6", (4, P(480, 640), 5)),
    Case("g6_300x2000", "g6", (4, P(300, 2000), 5)),
    Case("g6_50x5000_100x100", "g6", (4, P(50, 5000), 3, P(100, 100), 5)),
)


def text_ids(case, m, seed):
    """As many ids as the case's text parts hold, never the picture token."""
    count = sum(p for p in case.parts if isinstance(p, int))
    ids = [weight_formula.random_u64(seed, "prompt:" + case.name, i) % m.vocab for i in range(count)]
    return [(i + 1) % m.vocab if i == m.image_token else i for i in ids]


def tiles(seed, count, side):
    """uint8 [count, side, side, 3]."""
    t, y, x, c = np.ogrid[:count, :side, :side, :3]
    v = x * (3 + 5 * t + seed) + y * (7 + 3 * t + 2 * seed) + x * y // 8 * (c + 1) + 41 * c * (t + 1) + 17 * seed
    return (v & 255).astype(np.uint8)
