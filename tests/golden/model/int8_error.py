#!/usr/bin/env python3
"""How far eight bits move the answer, kind by kind: the torch reference on rounded weights against itself on whole ones,
over the prompts and answers of some goldens.

    int8_error.py [CASE...]

Error: median over positions of |difference| / |logits| (L2). Same: positions whose first choice stays, and of those that
do not, the largest share of the row's largest logit that the whole weights' first choice lost by.
"""
import json
import os
import sys

import numpy as np

import int8_weights
import model_configs
import reference
import reference_cases

CASES = ("g2_text", "g2_long", "g3_t257", "g4_all_experts", "g5_text")  # no pictures: the tower stays as it is
FORMS = {"experts": (int8_weights.EXPERTS,), "attention": (int8_weights.ATTENTION,), "head": (int8_weights.HEAD,),
         "experts, attention": (int8_weights.EXPERTS, int8_weights.ATTENTION), "all three": int8_weights.ALL}
DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")


def sequence(name):
    """Prompt and greedy ids of a golden."""
    with open(os.path.join(DATA, name + ".json"), encoding="utf-8") as file:
        arrays = {a["name"]: a for a in json.load(file)["arrays"]}
    with open(os.path.join(DATA, name + ".bin"), "rb") as file:
        blob = file.read()
    parts = [np.frombuffer(blob, "<i4", a["shape"][0], a["offset"]) for a in (arrays["prompt_ids"], arrays["greedy_ids"])]
    return np.concatenate(parts).tolist()


def logits(m, weights, ids):
    ref = reference.Composed(m, {k: reference.torch.from_numpy(np.array(v, dtype=np.float32)) for k, v in weights.items()})
    return np.asarray(ref.forward(ref.embed(ids, None)))


def main():
    models = {c.name: c.model for c in reference_cases.CASES}
    for name in sys.argv[1:] or CASES:
        m, ids = model_configs.MODELS[models[name]], sequence(name)
        weights = {k: v.numpy() for k, v in reference.released_weights(m).items()}
        whole = logits(m, weights, ids)
        best = whole.argmax(axis=1)
        for form, kinds in FORMS.items():
            found = logits(m, int8_weights.int8_weights(weights, kinds), ids)
            error = np.median(np.linalg.norm(found - whole, axis=1) / np.linalg.norm(whole, axis=1))
            other = np.flatnonzero(found.argmax(axis=1) != best)
            lost = (whole.max(axis=1) - whole[np.arange(len(ids)), found.argmax(axis=1)]) / np.abs(whole).max(axis=1)
            print(f"{name:16} {form:20} error {error:.1e}   same {len(ids) - len(other)} of {len(ids)}"
                  + (f", by at most {lost.max():.1e}" if len(other) else ""), flush=True)


if __name__ == "__main__":
    main()
