#!/usr/bin/env python3
"""Writes data/<case>.json and data/<case>.bin: what the reference says that each tiny model answers.

    make_model_goldens.py                 every case
    make_model_goldens.py g2_text g4_text these cases
Needs torch, transformers and numpy (README.md names the versions used). Two sources must agree before a file is
written: the torch reference in float32 (reference.py) and the float64 NumPy model (oracle.py).
"""
import argparse
import importlib.util
import itertools
import json
import os
import sys
import time

import numpy as np

import int8_weights
import model_configs
import oracle
import reference
import reference_cases

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "data")
TOLERANCE = 1e-4  # what float32 implementations are held to, relative to the largest logit of the row
MIN_GAP = 20 * TOLERANCE  # greedy choices closer than this (relative, again) say nothing: next seed
MIN_MARGIN = 1e-4  # router logits: second choice against the first one left out
AGREE = 2e-5  # the two sources, relative to the row's (or tensor's) largest value
MIN_DISTINCT = 12  # different greedy ids: an answer that repeats itself early tests little
NEW_TOKENS = 64
TOP = 8
PROMPT_FLOATS = 3000  # logits of prompt rows kept whole of one case, besides every decode row
SAMPLE = 48  # rows kept of features and packed features


def spread(count, most):
    """At most `most` indices of range(count), even, with both ends."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def relative(a, b):
    """Largest difference, relative to the largest value of b's row (last axis)."""
    if a.size == 0:
        return 0.0
    return float((np.abs(a - b).max(axis=-1) / np.abs(b).max(axis=-1)).max())


class Blob:
    """The arrays of one case, in one little-endian file."""

    def __init__(self):
        self.bytes, self.table = b"", []

    def add(self, name, value, dtype):
        value = np.ascontiguousarray(value, dtype={"f32": "<f4", "i32": "<i4"}[dtype])
        self.table.append({"name": name, "dtype": dtype, "shape": list(value.shape), "offset": len(self.bytes)})
        self.bytes += value.tobytes()

    def sample(self, name, rows, most=SAMPLE):
        """`rows` [n, d]: indices, first 8 values and L2 norm of some rows."""
        index = spread(len(rows), most)
        self.add(name + "_index", index, "i32")
        self.add(name + "_first", rows[index, :8], "f32")
        self.add(name + "_norm", np.linalg.norm(rows[index].astype(np.float64), axis=-1), "f32")


class Inputs:
    """A case with a seed: prompt ids, and the tiles and tokens of each picture."""

    def __init__(self, case, m, seed):
        text = iter(reference_cases.text_ids(case, m, seed))
        self.ids, self.images = [], []
        for part in case.parts:
            if isinstance(part, int):
                self.ids += itertools.islice(text, part)
                continue
            number = len(self.images)
            _, _, (rows, columns) = oracle.kept(m, part.height, part.width)
            tokens = oracle.image_tokens(m, part.height, part.width)
            self.images.append({"height": part.height, "width": part.width, "grid_rows": rows,
                                "grid_columns": columns, "tiles": 1 + rows * columns, "tokens": tokens,
                                "tile_seed": 10 * seed + number})
            self.ids += [m.image_token] * tokens

    def tiles(self, m, i):
        image = self.images[i]
        return reference_cases.tiles(image["tile_seed"], image["tiles"], m.vision.tile)


def features(source, m, inputs):
    """(vit rows, packed rows) over all pictures, or (None, None)."""
    if not inputs.images:
        return None, None
    vits, packed = [], []
    for i, image in enumerate(inputs.images):
        f = source.vit(inputs.tiles(m, i))
        vits.append(np.asarray(f).reshape(-1, f.shape[-1]))
        packed.append(source.pack(source.project(f), image["height"], image["width"]))
        assert len(packed[-1]) == image["tokens"], (len(packed[-1]), image)
    join = np.concatenate if isinstance(packed[0], np.ndarray) else reference.torch.cat
    return np.concatenate(vits), join(packed)


def greedy(ref, m, embeds, count):
    """(ids, logits [count, vocab], states after the prompt), or None when a choice is too close to call."""
    logits, cache = ref.start(embeds)
    states = ref.states(cache)
    ids, rows = [], []
    for i in range(count):
        second, first = np.sort(logits)[-2:]
        token = int(np.argmax(logits))
        if first - second < MIN_GAP * np.abs(logits).max() or token == m.image_token:
            return None
        ids.append(token)
        rows.append(logits)
        if i + 1 < count:
            logits = ref.step(token, len(embeds) + i, cache)
    return ids, np.stack(rows), states


def attempt(case, m, ref, orc, seed):
    inputs = Inputs(case, m, seed)
    vit, packed = features(ref, m, inputs)
    found = greedy(ref, m, ref.embed(inputs.ids, packed), NEW_TOKENS)
    if found is None:
        return None
    ids, decoded, states = found
    if len(set(ids)) < MIN_DISTINCT:
        return None
    sequence = inputs.ids + ids[:-1]
    logits = ref.forward(ref.embed(sequence, packed))
    trace = dict(ref.trace)
    agree = {"cached decode against one pass": relative(decoded, logits[len(inputs.ids) - 1:])}
    orc_vit, orc_packed = features(orc, m, inputs)
    orc_logits, orc_hidden, margin, used = orc.forward(orc.embed(sequence, orc_packed))
    if margin < MIN_MARGIN:
        return None
    agree["logits against float64"] = relative(logits, orc_logits)
    agree["layer outputs against float64"] = max(
        relative(trace["layer", i].numpy(), h) for i, h in enumerate(orc_hidden))
    if packed is not None:
        agree["vit against float64"] = relative(vit, orc_vit)
        agree["packed features against float64"] = relative(packed.numpy(), orc_packed)
    worst = max(agree.values())
    if worst > AGREE:
        sys.exit(f"{case.name}: the two sources disagree: {agree}")
    if case.name == "g4_all_experts":
        assert used[0] == set(range(m.experts)), f"layer 0 used only {len(used[0])} experts"
    if m.tie_gate_layers:
        assert all(e % 3 < 2 for layer in m.tie_gate_layers for e in used[layer]), "a tie went to a higher index"
    top = np.sort(decoded, axis=-1)
    gaps = (top[:, -1] - top[:, -2]) / np.abs(decoded).max(axis=-1)
    return {"inputs": inputs, "ids": ids, "logits": logits, "trace": trace, "states": states, "vit": vit,
            "packed": packed, "gaps": gaps, "margin": margin, "agree": agree, "seed": seed}


def arrays(case, m, r):
    """Row i of the logits says what follows token i of prompt + greedy; see README.md for each array."""
    blob, prompt, steps = Blob(), len(r["inputs"].ids), NEW_TOKENS
    count = prompt + steps - 1
    blob.add("prompt_ids", r["inputs"].ids, "i32")
    blob.add("greedy_ids", r["ids"], "i32")
    blob.add("greedy_gaps", r["gaps"], "f32")
    rows = sorted({*spread(prompt, 64), *range(prompt - 1, count)})
    order = np.argsort(-r["logits"][rows], axis=-1, kind="stable")[:, :TOP]
    blob.add("rows", rows, "i32")
    blob.add("top_ids", order, "i32")
    blob.add("top_logits", np.take_along_axis(r["logits"][rows], order, axis=-1), "f32")
    blob.add("row_norms", np.linalg.norm(r["logits"][rows].astype(np.float64), axis=-1), "f32")
    ahead = [i for i in rows if i < prompt]
    full = sorted({*(ahead[i] for i in spread(len(ahead), max(2, PROMPT_FLOATS // m.vocab))), *range(prompt - 1, count)})
    blob.add("full_rows", full, "i32")
    blob.add("logits", r["logits"][full], "f32")
    at = spread(count, 6)
    blob.add("trace_rows", at, "i32")
    for kind in ("attn", "moe", "layer"):
        stack = np.stack([r["trace"][kind, i].numpy()[at] for i in range(m.layers)])
        blob.add(kind + "_first", stack[:, :, :8], "f32")
        blob.add(kind + "_norm", np.linalg.norm(stack.astype(np.float64), axis=-1), "f32")
    blob.add("state_layers", sorted(r["states"]), "i32")
    states = np.stack([r["states"][i] for i in sorted(r["states"])]).astype(np.float64)
    blob.add("state_norm", np.sqrt((states**2).sum(axis=(-1, -2))), "f32")
    if r["packed"] is not None:
        blob.sample("vit", r["vit"])
        blob.sample("packed", r["packed"].numpy())
    return blob


def write(case, m, r, source):
    blob = arrays(case, m, r)
    meta = {"case": case.name, "model": m.id, "config": f"configs/{m.id}.json", "weight_seed": m.weight_seed,
            "tie_gate_layers": list(m.tie_gate_layers), **({"int8": True} if case.int8 else {}), "images": r["inputs"].images, "bin": case.name + ".bin",
            "bin_bytes": len(blob.bytes), "arrays": blob.table,
            "prompt_seed": r["seed"], "min_gap_required": MIN_GAP, "min_gap": float(f"{r['gaps'].min():.3g}"),
            "min_routing_margin": float(f"{r['margin']:.3g}") if np.isfinite(r["margin"]) else None,
            "agreement": {k: float(f"{v:.3g}") for k, v in r["agree"].items()},
            "source": {"reference": source, **reference.versions()}}
    with open(os.path.join(DATA, case.name + ".bin"), "wb") as f:
        f.write(blob.bytes)
    with open(os.path.join(DATA, case.name + ".json"), "w", encoding="utf-8") as f:
        f.write(layout(meta))
    return len(blob.bytes)


def layout(meta):
    """JSON with one line for each array and picture, so that a diff can be read."""
    lines = []
    for key, value in meta.items():
        text = json.dumps(value)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[\n  " + ",\n  ".join(json.dumps(v) for v in value) + "\n ]"
        lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def has_native():
    return importlib.util.find_spec("transformers.models.minimax_vl_01") is not None


def build(m, kind, int8):
    """The two sources, of the same weights."""
    weights = reference.released_weights(m)
    if int8:
        weights = {k: reference.torch.from_numpy(np.asarray(v))
                   for k, v in int8_weights.int8_weights({k: v.numpy() for k, v in weights.items()}).items()}
    orc = oracle.Oracle(m, {k: v.numpy() for k, v in weights.items()})
    if kind == "composed":
        return reference.Composed(m, weights), orc
    import reference_native  # fails to import where transformers has no such model
    return reference_native.Native(m, weights), orc


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--reference", choices=["native", "composed"], default="native" if has_native() else "composed")
    args = parser.parse_args()
    unknown = set(args.cases) - {c.name for c in reference_cases.CASES}
    if unknown:
        parser.error(f"no such cases: {sorted(unknown)}")
    cases = [c for c in reference_cases.CASES if not args.cases or c.name in args.cases]
    os.makedirs(DATA, exist_ok=True)
    for (model_id, int8), group in itertools.groupby(cases, key=lambda c: (c.model, c.int8)):
        m = model_configs.MODELS[model_id]
        ref, orc = build(m, args.reference, int8)
        for case in group:
            start = time.monotonic()
            found, seed = None, 0
            while found is None:
                seed += 1
                found = attempt(case, m, ref, orc, seed)
            size = write(case, m, found, ref.name)
            print(f"{case.name}: seed {seed}, {len(found['inputs'].ids)} ids, {size:,} bytes, agreement "
                  f"{max(found['agree'].values()):.1e}, {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
