"""Several processes of one thread each share the parts of a step: under load, threads that wait for each other at every
operation lose most of their time; these wait once a step.

Parameters and gradients lie in shared memory. Whoever is free takes the next part; the gradients are added in the order of
the parts, so the sum does not depend on who computed which.
"""
import multiprocessing
import signal

import torch


class Workers:
    """compute(job) -> list of parts, each called as part() once gradients are zero; it returns what is to be told.

    Made before anything is differentiated: it forks, and a fork of a process with autograd's threads hangs.
    """

    def __init__(self, net, parts, count, compute):
        net.share_memory()
        self.net, self.parts, self.compute = net, parts, compute
        self.parameters = list(net.parameters())
        self.gradients = torch.zeros(parts, sum(p.numel() for p in self.parameters)).share_memory_()
        context = multiprocessing.get_context("fork")
        self.next_part = context.Value("i", 0)
        self.pipes = []
        for _ in range(count - 1):
            ours, theirs = context.Pipe()
            process = context.Process(target=self._serve, args=(theirs, [*self.pipes, ours]), daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(ours)

    def _serve(self, pipe, others):
        for other in others:
            other.close()  # so that the end of the first process ends all pipes
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        torch.set_num_threads(1)
        while True:
            try:
                job = pipe.recv()
            except EOFError:
                return
            pipe.send(self._work(job))

    def _work(self, job):
        told = []
        parts = self.compute(job)
        while True:
            with self.next_part.get_lock():
                index = self.next_part.value
                self.next_part.value += 1
            if index >= self.parts:
                return told
            for p in self.parameters:
                p.grad = None
            told.append((index, parts[index]()))
            flat = [torch.zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in self.parameters]
            torch.cat(flat, out=self.gradients[index])

    def close(self):
        """Ends the other processes (they let signals pass: those are for the first one)."""
        for pipe in self.pipes:
            pipe.close()

    def step(self, job):
        """Leaves the sum of the parts' gradients in the parameters; returns what the parts told, in their order."""
        self.next_part.value = 0
        for pipe in self.pipes:
            pipe.send(job)
        told = self._work(job)
        for pipe in self.pipes:
            told += pipe.recv()
        total, at = self.gradients.sum(0), 0
        for p in self.parameters:
            p.grad = total[at:at + p.numel()].view_as(p)
            at += p.numel()
        return [what for _, what in sorted(told, key=lambda pair: pair[0])]
