#!/usr/bin/env python3
"""Expected values for coordinator/image and worker/vision/packing, computed by Pillow, by transformers and by formulas
written here, never by our own code.

    pip install pillow numpy torch transformers && python3 tests/golden/image/make_image_goldens.py [PART...]

writes geometry.json (canvas, resized size, token count), pixels.json (SHA-256 of resized pictures and tiles),
packing.json (SHA-256 of the order of feature rows), codecs.json with files/ (small encoded pictures, and the RGB pixels
that Pillow reads from them); or only the parts named.
Canvas, unpadded map and order of rows are LLaVA-NeXT's select_best_resolution, unpad_image and pack_image_features.
Reference steps: Image.open, ImageOps.exif_transpose, convert("RGB"), then the released processor's order: thumbnail,
resize with the aspect kept (floor), centre on black, cut row by row.

Pass order: Pillow up to 12 always resized horizontally first, and that is what the model was trained with. Pillow 13
takes the vertical pass first where the height shrinks more than the width, which moves some pixels by a level or two.
resize() below asks for one pass at a time, so every version gives the horizontal-first result.
"""
import hashlib
import json
import pathlib
import random
import struct
import sys
import types

import numpy as np
import PIL
import torch
from PIL import Image
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel, select_best_resolution, unpad_image

import codec_files
from pictures import picture

HERE = pathlib.Path(__file__).resolve().parent

RELEASED = {"tile": 336, "patch": 14,
            "pinpoints": [[336 * a, 336 * b] for a in range(1, 7) for b in range(1, 7) if a * b <= 18]}
CONFIGS = {
    "released": RELEASED,
    "tile8": {"tile": 8, "patch": 4, "pinpoints": [[8, 8]]},
    "tile24": {"tile": 24, "patch": 4, "pinpoints": [[24, 24], [24, 48], [48, 24], [48, 48], [72, 24], [24, 72]]},
    "tile32": {"tile": 32, "patch": 16, "pinpoints": [[32, 32], [64, 32], [32, 64]]},
    "lopsided": {"tile": 16, "patch": 8, "pinpoints": [[16, 64], [48, 16], [32, 48]]},  # (height, width), not symmetric
}
# Sizes (h, w) whose rows of the published table somebody else computed as well.
TABLE = [(336, 336), (1, 1), (100, 100), (224, 224), (337, 337), (480, 640), (600, 800), (720, 1280), (768, 1024),
         (1024, 768), (833, 1106), (1000, 1000), (1080, 1920), (1920, 1080), (1600, 2560), (2016, 2016), (3000, 4000),
         (300, 2000), (2000, 300), (50, 5000)]
HARD = [(1348, 1798), (1, 145), (1, 300), (1, 2015), (145, 1), (2016, 1), (2015, 1), (5, 800), (2, 1000), (336, 672),
        (335, 337), (4000, 4000), (16000, 9000)]


def fit(h, w, height, width):
    if w / h > width / height:
        new_h, new_w = width * h // w, width
    else:
        new_h, new_w = height, height * w // h
    return new_h, new_w, (height - new_h) // 2, (width - new_w) // 2


def geometry_row(h, w, config):
    height, width = select_best_resolution((h, w), config["pinpoints"])
    new_h, new_w, top, left = fit(h, w, height, width)
    side = config["tile"] // config["patch"]
    patches = torch.zeros((1, height // config["tile"] * side, width // config["tile"] * side))
    rows, cols = unpad_image(patches, (h, w)).shape[1:]
    return [h, w, height, width, new_h, new_w, top, left, rows, cols, side * side + rows * (cols + 1)]


def make_geometry():
    rng = random.Random(20241)
    cases = {}
    for name, config in CONFIGS.items():
        sizes = list(TABLE + HARD) if name == "released" else [(336, 336), (7, 3), (3, 7), (8, 8), (24, 25), (32, 64),
                                                              (64, 32), (32, 32), (1, 9), (9, 1)]
        for _ in range(560 if name == "released" else 60):
            limit = rng.choice([64, 700, 2500, 6000])
            sizes.append((rng.randint(1, limit), rng.randint(1, limit)))
        rows = [geometry_row(h, w, config) for h, w in sizes]
        cases[name] = [row for row in rows if row[4] > 0 and row[5] > 0]
    refused = [[1, 2017], [3000, 1], [1, 100000], [10, 30000]]
    for h, w in refused:
        row = geometry_row(h, w, RELEASED)
        assert row[4] == 0 or row[5] == 0, row
    write_json("geometry.json", {
        "columns": "height width canvas_h canvas_w resized_h resized_w top left rows cols tokens",
        "configs": CONFIGS, "cases": cases, "refused": refused})


def sha(data):
    return hashlib.sha256(data).hexdigest()


def resize(image, width, height):
    bicubic = Image.Resampling.BICUBIC
    if width < 1 or height < 1:
        raise ValueError(f"resize to {width}x{height}")
    out = image.resize((width, image.height), bicubic).resize((width, height), bicubic)
    if int(PIL.__version__.split(".")[0]) < 13:
        assert out.tobytes() == image.resize((width, height), bicubic).tobytes()
    return out


def tiles_of(image, config):
    height, width = select_best_resolution((image.height, image.width), config["pinpoints"])
    new_h, new_w, top, left = fit(image.height, image.width, height, width)
    canvas = Image.new("RGB", (width, height))
    canvas.paste(resize(image, new_w, new_h), (left, top))
    tile = config["tile"]
    out = [resize(image, tile, tile)]
    for y in range(0, height, tile):
        for x in range(0, width, tile):
            out.append(canvas.crop((x, y, x + tile, y + tile)))
    return [t.tobytes() for t in out]


def make_pixels():
    rng = random.Random(77)
    resizes = []
    pairs = [((1, 1), (336, 336)), ((1, 1), (1, 1)), ((2, 3), (3, 2)), ((7, 11), (7, 23)), ((7, 11), (31, 11)),
             ((7, 11), (7, 11)), ((300, 200), (5, 3)), ((37, 1001), (336, 336)), ((500, 400), (499, 401)),
             ((16, 16), (336, 336)), ((1200, 13), (336, 336)), ((2017, 31), (2016, 30))]
    for _ in range(60):
        pairs.append(((rng.randint(1, 260), rng.randint(1, 260)), (rng.randint(1, 260), rng.randint(1, 260))))
    for seed, ((h, w), (nh, nw)) in enumerate(pairs):
        image = Image.fromarray(picture(h, w, seed))
        resizes.append([h, w, seed, nh, nw, sha(resize(image, nw, nh).tobytes())])

    sizes = [("released", s) for s in TABLE + HARD[:5]]
    sizes += [("released", (rng.randint(1, 900), rng.randint(1, 900))) for _ in range(20)]
    for name in ("tile8", "tile24", "tile32", "lopsided"):
        sizes += [(name, (rng.randint(10, 130), rng.randint(10, 130))) for _ in range(12)]
    tiles = []
    for seed, (name, (h, w)) in enumerate(sizes):
        parts = tiles_of(Image.fromarray(picture(h, w, seed)), CONFIGS[name])
        key = sha(b"".join(parts) + struct.pack("<II", h, w))
        # 16 digits per tile keep the file small; the key covers every byte of all of them.
        tiles.append({"config": name, "height": h, "width": w, "seed": seed, "tiles": [sha(p)[:16] for p in parts],
                      "key": key})
    rng = random.Random(336)
    many = []
    while len(many) < 520:
        limit = rng.choice([40, 250, 500, 900])
        h, w, seed = rng.randint(1, limit), rng.randint(1, limit), 1000 + len(many)
        if max(h, w) > 300 * min(h, w):
            continue
        parts = tiles_of(Image.fromarray(picture(h, w, seed)), RELEASED)
        many.append([h, w, seed, len(parts), sha(b"".join(parts) + struct.pack("<II", h, w))[:16]])
    corner = picture(40, 30, 5)
    write_json("pixels.json", {"picture_40x30_seed5": sha(corner.tobytes()),
                               "resizes": resizes, "tiles": tiles, "random_released": many})


def packing_row(h, w, config):
    """[h, w, rows, digits of the SHA-256 over their order]: int32, patch p of tile t is t * patches + p, a newline -1."""
    side = config["tile"] // config["patch"]
    vision = types.SimpleNamespace(image_size=config["tile"], patch_size=config["patch"])
    model = types.SimpleNamespace(config=types.SimpleNamespace(vision_config=vision,
                                                               image_grid_pinpoints=config["pinpoints"]))
    height, width = select_best_resolution((h, w), config["pinpoints"])
    tiles = 1 + height // config["tile"] * (width // config["tile"])
    features = torch.arange(tiles * side * side).reshape(tiles, side * side, 1)
    packed, _ = LlavaNextModel.pack_image_features(model, [features], [[h, w]], "default", torch.tensor([-1]))
    order = packed[0].reshape(-1).numpy().astype("<i4")
    return [h, w, len(order), sha(order.tobytes())[:16]]


def make_packing():
    rng = random.Random(74)
    cases = {}
    for name, config in CONFIGS.items():
        sizes = list(TABLE + HARD) if name == "released" else []
        for _ in range(520 if name == "released" else 60):
            limit = rng.choice([64, 700, 2500, 6000])
            sizes.append((rng.randint(1, limit), rng.randint(1, limit)))
        cases[name] = [packing_row(h, w, config) for h, w in sizes if geometry_row(h, w, config)[4:6].count(0) == 0]
    write_json("packing.json", cases)


def write_json(name, value):
    """One list or object per line at the second level: small, and readable in a diff."""
    def dump(v, depth):
        if depth and isinstance(v, list):
            return "[\n" + ",\n".join(dump(x, 0) for x in v) + "\n]"
        if depth and isinstance(v, dict):
            return "{\n" + ",\n".join(f"{json.dumps(k)}: {dump(x, depth - 1)}" for k, x in v.items()) + "\n}"
        return json.dumps(v, separators=(",", ":"))
    (HERE / name).write_text(dump(value, 3) + "\n")


def make_codecs():
    write_json("codecs.json", {"cases": codec_files.make(HERE / "files")})


def main():
    parts = {"geometry": make_geometry, "pixels": make_pixels, "packing": make_packing, "codecs": make_codecs}
    unknown = set(sys.argv[1:]) - parts.keys()
    if unknown:
        sys.exit(f"no such parts: {sorted(unknown)}; there are {list(parts)}")
    for name, make in parts.items():
        if name in sys.argv[1:] or len(sys.argv) == 1:
            make()
    return 0


if __name__ == "__main__":
    sys.exit(main())
