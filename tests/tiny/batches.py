"""From samples to the padded arrays of a forward pass."""
import random

import numpy as np
import torch

import network
import recipe
import samples


def collate(encoded):
    """Padded batch of encoded samples."""
    longest = max(len(e[0]) for e in encoded)
    t = -(-longest // network.BLOCK) * network.BLOCK
    ids = np.zeros((len(encoded), t), dtype=np.int64)
    real, wanted, targets, answers, tiles, rows, first_tile = [], [], [], [], [], [], 0
    patches = recipe.MODEL.vision.side**2
    for i, (e, spans, cut, order) in enumerate(encoded):
        ids[i, :len(e)] = e
        real.append(np.arange(len(e)) + i * t)
        for k, (start, end) in enumerate(spans):
            answers.append((i, k, len(wanted), len(wanted) + end + 1 - start))
            wanted.extend(range(i * t + start - 1, i * t + end))
            targets.extend(e[start:end + 1])
        if cut is not None:
            rows.append(np.where(order < 0, -1, order + first_tile * patches))
            tiles.append(cut)
            first_tile += len(cut)
    pixels = None
    if tiles:
        pixels = torch.from_numpy(np.concatenate(tiles))
        rows = np.concatenate(rows)
        rows = torch.from_numpy(np.where(rows < 0, first_tile * patches, rows))
    return (torch.from_numpy(ids), torch.from_numpy(np.concatenate(real)), pixels, rows if tiles else None,
            torch.tensor(wanted)), torch.tensor([int(x) for x in targets]), answers


def micro_batches(seed, step, size, parts, weights, tokenizer):
    """The samples of a step, encoded, sorted by length and cut into parts: less padding."""
    rng = random.Random(f"{seed} {step}")
    pairs = [(s, samples.encode(s, tokenizer)) for s in (samples.training_sample(rng, weights) for _ in range(size))]
    pairs.sort(key=lambda pair: len(pair[1][0]))
    each = -(-size // parts)
    return [pairs[i:i + each] for i in range(0, size, each)]


def collated(pairs):
    kinds = [[samples.KIND_OF_TASK[task] for task, _, _ in s.turns] for s, _ in pairs]
    return *collate([e for _, e in pairs]), kinds
