"""Batches for a GPU, drawn by other processes some steps ahead."""
import collections
import multiprocessing

import torch

import batches

AHEAD = 48


def numpy_batches(args, tokenizer, step, weights):
    """As numpy arrays: tensors would travel as open files."""
    out = []
    for pairs in batches.micro_batches(args.seed, step, args.batch, args.parts, weights, tokenizer):
        inputs, targets, answers, kinds = batches.collated(pairs)
        out.append(([x if x is None else x.numpy() for x in inputs], targets.numpy(), answers, kinds))
    return out


class Feed:
    """The batches of step, step + 1, ...; made before CUDA starts, because it forks. A step's samples follow the weights of
    AHEAD steps before, so they do not depend on anybody's speed."""

    def __init__(self, args, tokenizer, step, weights):
        self.args, self.tokenizer, self.next_step, self.waiting = args, tokenizer, step, collections.deque()
        self.pool = multiprocessing.get_context("fork").Pool(args.processes, torch.set_num_threads, (1,))
        for _ in range(AHEAD):
            self._order(weights)

    def _order(self, weights):
        self.waiting.append(self.pool.apply_async(numpy_batches, (self.args, self.tokenizer, self.next_step, weights)))
        self.next_step += 1

    def take(self, weights):
        """The batches of the next step; `weights` are those of the step AHEAD of it."""
        self._order(weights)
        return [(tuple(x if x is None else torch.from_numpy(x) for x in inputs), torch.from_numpy(targets), answers, kinds)
                for inputs, targets, answers, kinds in self.waiting.popleft().get()]
