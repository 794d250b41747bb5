"""Samples of the generator: which scene or text, which split, and how it becomes tiles and token ids.

A sample is a chat: a picture asked about several times, or several texts one after another. Sample number n is a pure
function of (seed, n, weights of the tasks); held-out content is told by the hash of its key.
"""
import dataclasses

import numpy as np
from PIL import Image

import recipe
import scenes
import texts
from split import held_out

MOST_QUESTIONS = 5
KIND_OF_TASK = {**{k: k for k in texts.KINDS}, **{t: "objects" for t in ("count", "colour", "place", "shape", "relation")},
                "read number": "printed", "read word": "printed", "chart": "bars", "table": "table", "panels": "panels"}


@dataclasses.dataclass
class Sample:
    turns: list  # of (task, question, answer)
    image: object = None


def draw(kind, rng, split):
    """One scene or text of that kind and split: (turns, image or None)."""
    while True:
        if kind in scenes.KINDS:
            scene = scenes.KINDS[kind](rng)
            if held_out(scene.key) == (split == "held-out"):
                return scene.questions, scene.image
        else:
            key, turns = texts.KINDS[kind](rng)
            if held_out(key) == (split == "held-out"):
                return turns, None


def training_sample(rng, weights):
    """weights: {kind: weight}."""
    kinds = list(weights)
    kind = rng.choices(kinds, [weights[k] for k in kinds])[0]
    turns, image = draw(kind, rng, "train")
    if image is not None:
        return Sample(rng.sample(turns, min(len(turns), MOST_QUESTIONS)), image)
    used = sum(len(q) for _, q, _ in turns)
    text_kinds = [k for k in kinds if k in texts.KINDS]
    text_weights = [weights[k] for k in text_kinds]
    while used < 90 and rng.random() < 0.9:
        more, _ = draw(rng.choices(text_kinds, text_weights)[0], rng, "train")
        used += sum(len(q) + 20 for _, q, _ in more)
        turns = turns + more
    return Sample(turns)


# --- pictures --------------------------------------------------------------------------------------------------------

def best_grid(width, height):
    """(columns, rows) in pixels: most effective pixels, then least waste, then first listed."""
    best, best_key = None, None
    for grid_h, grid_w in recipe.MODEL.vision.pinpoints:
        scale = min(grid_w / width, grid_h / height)
        effective = min(int(width * scale) * int(height * scale), width * height)
        key = (effective, effective - grid_w * grid_h)
        if best_key is None or key > best_key:
            best, best_key = (grid_w, grid_h), key
    return best


def cut(image):
    """RGB picture -> (uint8 tiles [n, side, side, 3], the order of packed rows).

    The order indexes the tiles' features, flattened [n * patches]; -1 is the newline.
    """
    v = recipe.MODEL.vision
    width, height = image.size
    grid_w, grid_h = best_grid(width, height)
    if width * grid_h > grid_w * height:
        new = grid_w, grid_w * height // width
    else:
        new = grid_h * width // height, grid_h
    canvas = Image.new("RGB", (grid_w, grid_h))
    canvas.paste(image.resize(new, Image.BICUBIC), ((grid_w - new[0]) // 2, (grid_h - new[1]) // 2))
    columns, rows = grid_w // v.tile, grid_h // v.tile
    pixels = np.asarray(canvas).reshape(rows, v.tile, columns, v.tile, 3).transpose(0, 2, 1, 3, 4)
    thumbnail = np.asarray(image.resize((v.tile, v.tile), Image.BICUBIC))
    tiles = np.concatenate([thumbnail[None], pixels.reshape(-1, v.tile, v.tile, 3)])

    side, patches = v.side, v.side**2
    high, wide = rows * side, columns * side
    r, c = np.meshgrid(np.arange(high), np.arange(wide), indexing="ij")
    order = (1 + (r // side) * columns + c // side) * patches + (r % side) * side + c % side
    if width * high > wide * height:
        pad = (high - height * wide // width) // 2
        order = order[pad:high - pad]
    else:
        pad = (wide - width * high // height) // 2
        order = order[:, pad:wide - pad]
    order = np.concatenate([order, np.full((len(order), 1), -1)], axis=1)
    return tiles, np.concatenate([np.arange(patches), order.reshape(-1)])


# --- tokens ----------------------------------------------------------------------------------------------------------

def prompt_text(turns, image, answers):
    """The chat up to the assistant's word for the last of `turns`; `answers` are those of the earlier ones."""
    bos, eos = recipe.SPECIALS[0], recipe.SPECIALS[1]
    out = ""
    for i, question in enumerate(turns):
        picture = "<image>" if image and i == 0 else ""
        out += f"{bos}user name=user\n{picture}{question}{eos}\n{bos}ai name=assistant\n"
        if i < len(answers):
            out += f"{answers[i]}{eos}\n"
    return out


def encode(sample, tokenizer):
    """(ids, targets, task numbers' answers): targets[i] is the id wanted after ids[:i + 1], or -1; spans of answers."""
    questions = [q for _, q, _ in sample.turns]
    answers = [a for _, _, a in sample.turns]
    ids = tokenizer.encode(prompt_text(questions, sample.image is not None, answers)).ids
    if sample.image is not None:
        tiles, order = cut(sample.image)
        at = ids.index(recipe.IMAGE)
        ids = ids[:at] + [recipe.IMAGE] * len(order) + ids[at + 1:]
    else:
        tiles = order = None
    # The answers lie between the header of an assistant's turn and the end of its sentence: every second sentence.
    starts = [i for i, t in enumerate(ids) if t == recipe.BOS]
    ends = [i for i, t in enumerate(ids) if t == recipe.EOS]
    header = 1 + len(tokenizer.encode("ai name=assistant\n").ids)
    spans = [(starts[k] + header, ends[k]) for k in range(1, len(starts), 2)]
    assert len(spans) == len(sample.turns), (spans, sample.turns)
    return np.array(ids), spans, tiles, order
