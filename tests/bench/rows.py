"""The rows of the table: each measures ours and the peer or limit in turns and gives a ratio per turn."""
import dataclasses
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

import models
import samples
from environment import CACHE
from prompt import ids
from worker import Gone, Worker

MODE_LIMIT = 150  # seconds for loading, compiling and twelve steps of a mode of transformers

HERE = pathlib.Path(__file__).resolve().parent


class Skipped(Exception):
    """A row that cannot be measured here; the message says what is missing."""


@dataclasses.dataclass
class Row:
    name: str
    must: float
    aim: float
    ours: str = ""
    other: str = ""
    ratios: list = dataclasses.field(default_factory=list)
    ran: str = ""
    skipped: str = ""

    @property
    def median(self):
        return statistics.median(self.ratios)


class Suite:
    def __init__(self, binaries, threads, rounds):
        self.binaries, self.threads, self.rounds = [pathlib.Path(b) for b in binaries], threads, rounds
        self.medium = CACHE / "medium"
        self.tiny = CACHE / "tiny"

    # --- our programs -------------------------------------------------------------------------------------------------
    def program(self, name):
        for folder in self.binaries:
            if (folder / name).exists():
                return folder / name
        raise Skipped(f"{name} is not built")

    def write_checkpoints(self):
        """Once: 3 GB of random weights by our own program, and a small model of the same topology."""
        if not (self.medium / "complete").exists():
            subprocess.run([self.program("fulger-step-bench"), "--dir", self.medium, "--tokens", "1", "--rounds", "1"], check=True,
                           stdout=subprocess.DEVNULL)
        models.write_tiny(models.Checkpoint(self.medium), self.tiny)

    def host(self, *arguments):
        return Worker([self.program("fulger-host-bench"), *arguments])

    def step(self, case, folder=None, launcher=(), extra=(), threads=None):
        """One round of fulger-step-bench: what its JSON says of `case`."""
        program = self.program("fulger-step-bench")
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            command = [*launcher, program, "--dir", folder or self.medium, "--threads", threads or self.threads, "--rounds", 1,
                       "--only", case, "--json", out.name, *extra]
            done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise Skipped(f"{' '.join(map(str, command))}: {done.stderr.strip()[-300:]}")
            return json.load(open(out.name, encoding="utf-8"))["cases"][case]

    def has(self, extra):
        known = subprocess.run([self.program("fulger-step-bench"), "--help"], capture_output=True, text=True, check=False).stdout
        for flag in extra:
            if flag.startswith("--") and flag not in known:
                raise Skipped(f"fulger-step-bench has no {flag} yet")

    def python_peer(self, script, *arguments, limit=None):
        return Worker([sys.executable, HERE / script, *arguments], env=dict(os.environ, OMP_NUM_THREADS=str(self.threads)),
                      limit=limit)

    # --- rows -------------------------------------------------------------------------------------------------------------
    def tokenizer(self, row, text):
        import tokenizers
        text_file, tokenizer_file = samples.text(text), samples.tokenizer()
        peer = tokenizers.Tokenizer.from_file(str(tokenizer_file))
        content = text_file.read_bytes().decode()
        with tempfile.NamedTemporaryFile() as out, \
                self.host("tokenizer", "--tokenizer", tokenizer_file, "--text", text_file, "--ids", out.name) as ours:
            samples.same_ids(peer.encode(content, add_special_tokens=False).ids, out.name)
            mine, theirs = [], []
            for _ in range(self.rounds):
                mine.append(ours.once()["seconds"])
                theirs.append(samples.seconds(lambda: peer.encode_batch_fast([content], add_special_tokens=False)))
            size = ours.about["bytes"] / 1e6
        row.ours, row.other = (f"{size / statistics.median(t):.1f} MB/s" for t in (mine, theirs))
        row.ratios = [t / m for m, t in zip(mine, theirs)]
        row.ran = (f"tokenizers {tokenizers.__version__} (encode_batch_fast, its fastest), one thread each, {size:.2f} MB, "
                   f"{peer.get_vocab_size()} pieces, ids equal")

    def picture(self, row):
        import pillow_tiles
        jpeg = pillow_tiles.photograph(CACHE / "photograph.jpg")
        data = jpeg.read_bytes()
        with tempfile.NamedTemporaryFile() as out, self.host("picture", "--jpeg", jpeg, "--tiles", out.name) as ours:
            pillow_tiles.compare(data, out.name)
            mine, theirs = [], []
            for _ in range(self.rounds):
                mine.append(ours.once()["seconds"])
                theirs.append(samples.seconds(lambda: pillow_tiles.normalised_tiles(data)))
        row.ours, row.other = (f"{1e3 * statistics.median(t):.0f} ms" for t in (mine, theirs))
        row.ratios = [t / m for m, t in zip(mine, theirs)]
        row.ran = (f"Pillow {pillow_tiles.VERSION}, one core each, {len(data) / 1e6:.1f} MB of JPEG; both end with "
                   "normalised float32 tiles, pixels equal")

    def loading(self, row, limit):
        with self.host("load", "--dir", self.medium, "--threads", self.threads) as ours:
            ours.once()
            results = [ours.once() for _ in range(self.rounds)]
        row.ours = f"{statistics.median(r['rate'] for r in results) / 1e9:.1f} GB/s"
        row.other = f"{statistics.median(r[limit] for r in results) / 1e9:.1f} GB/s"
        row.ratios = [r["rate"] / r[limit] for r in results]
        row.ran = f"{results[0]['bytes'] / 1e9:.2f} GB, {self.threads} threads"

    def against_limit(self, row, case, extra=(), share="median_share_of_bound"):
        self.has(extra)
        results = [self.step(case, extra=extra) for _ in range(self.rounds)]
        row.ratios = [r[share] for r in results]
        row.ours = f"{1e3 * statistics.median(r['median_seconds_per_step'] for r in results):.1f} ms"
        row.other = f"{1e3 * statistics.median(r['median_seconds_per_step'] * r[share] for r in results):.1f} ms"
        bound = "of each op" if share == "median_share_of_floors" else results[0]["bound"]
        row.ran = f"floor: {bound}; {self.threads} threads"

    def against_llama(self, row, case, kinds, word, extra=()):
        self.has(extra)
        best = None
        for kind in kinds:
            path = CACHE / f"medium-{kind}.gguf"
            models.write_gguf(models.Checkpoint(self.medium), kind, path)
            with self.python_peer("peer_llama.py", path, self.threads) as peer:
                if not extra:
                    self.same_logits(peer, self.medium)
                mine, theirs = self.turns(case, peer, word, extra=extra)
                what = f"{peer.about['what']} {kind}"
            if best is None or statistics.median(theirs) < statistics.median(best[1]):
                best = (mine, theirs, what)
        self.fill(row, *best)

    def against_transformers(self, row, folder):
        modes = [(d, m) for d in ("bf16", "fp32") for m in ("eager", "compile")]
        seconds = {}
        for mode in modes:
            try:
                with self.python_peer("peer_transformers.py", folder, self.threads, *mode, limit=MODE_LIMIT) as peer:
                    peer.once("decode 6")  # compiles, warms up
                    seconds[mode] = peer.once("decode 6")["seconds"]
            except (Gone, BrokenPipeError) as problem:
                print(f"bench: transformers {mode} (limit {MODE_LIMIT} s): {problem}", flush=True)
        if not seconds:
            raise Skipped("transformers ran in no mode")
        best = min(seconds, key=seconds.get)
        # Whether it is our model shows in float32; bfloat16 may send a token of a small random model to other experts.
        with self.python_peer("peer_transformers.py", folder, self.threads, "fp32", "eager") as peer:
            self.same_logits(peer, folder, 1e-4)
        with self.python_peer("peer_transformers.py", folder, self.threads, *best) as peer:
            peer.once("decode 6")
            mine, theirs = self.turns("decode batch 1", peer, "decode 24", folder)
            self.fill(row, mine, theirs, peer.about["what"])
        row.ran += "; all modes, ms: " + ", ".join(f"{' '.join(m)} {1e3 * s:.1f}" for m, s in seconds.items())

    def tensor_parallel(self, row):
        launcher = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", 2]
        one, two = [], []
        for _ in range(self.rounds):
            one.append(self.step("decode batch 1", threads=2)["median_seconds_per_step"])
            two.append(self.step("decode batch 1", launcher=launcher, extra=["--transport", "mpi"], threads=1)
                       ["median_seconds_per_step"])
        self.fill(row, two, one, "one process, 2 threads; ours is tp 2 over MPI, a thread each")

    # --- helpers ----------------------------------------------------------------------------------------------------------
    def turns(self, case, peer, word, folder=None, extra=()):
        mine, theirs = [], []
        for _ in range(self.rounds):
            with peer.paused():
                mine.append(self.step(case, folder, extra=extra)["median_seconds_per_step"])
            theirs.append(peer.once(word)["seconds"])
        return mine, theirs

    def fill(self, row, mine, theirs, what):
        row.ours, row.other = (f"{1e3 * statistics.median(t):.1f} ms" for t in (mine, theirs))
        row.ratios = [t / m for m, t in zip(mine, theirs)]
        row.ran = f"{what}; {self.threads} threads"

    def same_logits(self, peer, folder, most=0.05):
        """The peer runs our model: after the same ids its logits differ from ours by rounding alone, of their norm by at most
        `most` (0.05: bfloat16 activations lose 2^-9 at each of some 80 roundings of the way)."""
        import numpy as np
        vocab = models.Checkpoint(folder).config["vocab_size"]
        tokens = ids(16, vocab)
        with tempfile.TemporaryDirectory() as out:
            subprocess.run([self.program("fulger-host-bench"), "logits", "--dir", folder, "--ids", ",".join(map(str, tokens)),
                            "--out", f"{out}/ours", "--threads", str(self.threads)], check=True)
            peer.once(f"logits {len(tokens)} {out}/theirs")
            ours, theirs = (np.fromfile(f"{out}/{who}", np.float32).reshape(len(tokens), vocab) for who in ("ours", "theirs"))
        error = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(ours, axis=1)
        if np.median(error) > most:
            raise Skipped(f"{peer.about['what']} computes another model: logits differ by {np.median(error):.2g} of their norm")


def processor():
    for line in open("/proc/cpuinfo", encoding="utf-8"):
        if re.match(r"model name", line):
            return line.split(":", 1)[1].strip()
    return "unknown processor"
