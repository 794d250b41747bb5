#!/usr/bin/env python3
"""Draws the held-out questions: data/held_out.jsonl with data/pictures/, and data/choice.tsv with pictures inside.

    held_out.py [--per-kind 20]

Content whose key falls into the tenth that training never sees (samples.held_out). Both files are read by `fulger eval`;
`earlier` holds the first turns of a chat, which evaluate.py sends before the question.
"""
import argparse
import base64
import io
import json
import os
import random

import recipe
import samples
import scenes
import texts

DATA = os.path.join(recipe.HERE, "data")
SEED = 20260101


def draw(per_kind):
    """[(id, kind, turns, image)], the question being the last turn."""
    out = []
    for kind in list(scenes.KINDS) + list(texts.KINDS):
        rng = random.Random(f"{SEED} {kind}")
        for i in range(per_kind):
            turns, image = samples.draw(kind, rng, "held-out")
            if image is not None:
                image.thumbnail((160, 160))
                turns = [turns[i % len(turns)]]
            out.append((f"{kind}-{i:02}", kind, turns, image))
    return out


def png(image):
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def choices(rng, answer, others):
    wrong = rng.sample([o for o in others if o != answer], 3)
    options = wrong + [answer]
    rng.shuffle(options)
    return options, "ABCD"[options.index(answer)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-kind", type=int, default=20)
    args = parser.parse_args()
    os.makedirs(os.path.join(DATA, "pictures"), exist_ok=True)
    with open(os.path.join(DATA, "held_out.jsonl"), "w", encoding="utf-8") as out:
        for name, kind, turns, image in draw(args.per_kind):
            line = {"id": name, "category": kind, "question": turns[-1][1], "answer": turns[-1][2]}
            if len(turns) > 1:
                line["earlier"] = [[question, answer] for _, question, answer in turns[:-1]]
            if image is not None:
                line["images"] = [f"pictures/{name}.png"]
                with open(os.path.join(DATA, "pictures", f"{name}.png"), "wb") as file:
                    file.write(png(image))
            out.write(json.dumps(line) + "\n")
    rng = random.Random(SEED)
    with open(os.path.join(DATA, "choice.tsv"), "w", encoding="utf-8") as out:
        out.write("index\timage\tquestion\tA\tB\tC\tD\tanswer\tcategory\n")
        index = 0
        while index < 12:
            turns, image = samples.draw("objects", rng, "held-out")
            for task, question, answer in turns:
                if task not in ("colour", "shape"):
                    continue
                options, letter = choices(rng, answer, list(scenes.COLOURS) if task == "colour" else scenes.SHAPES)
                image.thumbnail((96, 96))
                fields = [str(index), base64.b64encode(png(image)).decode(), question, *options, letter, task]
                out.write("\t".join(fields) + "\n")
                index += 1
                break


if __name__ == "__main__":
    main()
