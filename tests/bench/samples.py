"""Text and a vocabulary of the size of MiniMax's, from what every Debian has."""
import json
import pathlib
import time
import zlib

from environment import CACHE

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden" / "text"
TRAINING = ("/usr/share/doc", "/usr/share/perl", "/usr/share/common-licenses", "/usr/include", "/usr/lib/python3")
TRAINING_BYTES = 100_000_000
PIECES = 200_000


def seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def text(which):
    """english: the licences that Debian ships; mixed: the corpus of the tokenizer's goldens, made to be awkward."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"{which}.txt"
    if which == "english":
        files = sorted(p for p in pathlib.Path("/usr/share/common-licenses").iterdir() if p.is_file())
        path.write_bytes(b"".join(p.read_bytes() for p in files))
    else:
        path.write_bytes(zlib.decompress((GOLDEN / "corpus.z").read_bytes()))
    return path


def training_texts():
    total = 0
    for root in TRAINING:
        for path in sorted(pathlib.Path(root).rglob("*")):
            if total > TRAINING_BYTES:
                return
            try:
                content = path.read_text(encoding="utf-8") if path.is_file() and path.stat().st_size < 400_000 else ""
            except (OSError, UnicodeDecodeError):
                continue
            total += len(content)
            yield content


def tokenizer():
    """Trained once by the peer itself, with the expression of o200k."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers
    path = CACHE / "tokenizer-200k.json"
    if path.exists():
        return path
    print(f"bench: training {PIECES} pieces (minutes)", flush=True)
    golden = json.loads((GOLDEN / "tokenizer_split" / "tokenizer.json").read_text(encoding="utf-8"))
    regex = golden["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(tokenizers.Regex(regex), "isolated"),
                                                  pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(training_texts(), trainers.BpeTrainer(
        vocab_size=PIECES, show_progress=False, min_frequency=1, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    made.save(str(path))
    return path


def same_ids(expected, path):
    import numpy as np
    found = np.fromfile(path, np.int32)
    if not np.array_equal(found, np.array(expected, np.int32)):
        raise AssertionError(f"other ids than the peer: {len(found)} and {len(expected)}")
