#!/usr/bin/env python3
"""Makes every file of this folder that coordinator/text's tests read. Rerun: python3 make_text_goldens.py
Needs Hugging Face tokenizers, transformers (its jinja environment) and jinja2; expected values are theirs alone.

  tokenizer_bytelevel/tokenizer.json   ByteLevel with its own regex, merges as strings, awkward added tokens
  tokenizer_split/tokenizer.json       Split(o200k regex) + ByteLevel in a Sequence, merges as pairs, the release's control tokens
  corpus.z       zlib of the mixed text, chunk after chunk (broken UTF-8 already replaced as Python does)
  broken.json    byte strings that are not UTF-8 and what Python's errors="replace" makes of them
  ids.json       per chunk: bytes, number of ids and FNV-1a64 of the ids; the first chunks' ids in full
  points.json    per 4096 code points: where the two pre-tokenizers cut a text that holds each of them
  decode.json    id sequences and the text that they decode to
  chat.json      conversations, rendered by jinja2 and encoded
"""
import json
import os
import random
import zlib

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import chat_cases
import corpus

HERE = os.path.dirname(os.path.abspath(__file__))
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
CONTROL = ["<beginning_of_sentence>", "<end_of_sentence>", "<end_of_document>", "<function_call>", "<image>"]
CHUNKS = 300
FULL = 4  # chunks whose ids are stored in full


def fnv(values, size):
    h = 0xcbf29ce484222325
    for v in values:
        for b in int(v).to_bytes(size, "little"):
            h = ((h ^ b) * 0x100000001b3) & 0xffffffffffffffff
    return f"{h:016x}"


def fnv_text(text):
    return fnv(text.encode(), 1)


def save_json(name, value):
    with open(os.path.join(HERE, name), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


def byte_level(use_regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def train(pre_tokenizer, merges, texts):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizer
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=256 + merges, show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    return tok


def make_bytelevel(texts):
    tok = train(byte_level(True), 2500, texts)
    special = [AddedToken(t, special=True, normalized=False) for t in CONTROL]
    special += [AddedToken("<pad_left>", special=True, normalized=False, lstrip=True),
                AddedToken("<pad_right>", special=True, normalized=False, rstrip=True)]
    tok.add_special_tokens(special)
    tok.add_tokens([AddedToken("<im", normalized=False), AddedToken("<|note|>"), AddedToken("<|note|>>"),
                    AddedToken("două cuvinte", normalized=False)])
    data = json.loads(tok.to_str())
    data["model"]["merges"] = [" ".join(m) for m in data["model"]["merges"]]
    return data


def make_split(texts):
    tok = train(pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(O200K), "isolated"), byte_level(False)]), 4000, texts)
    data = json.loads(tok.to_str())
    # Pieces that no merge makes: reachable with ignore_merges alone.
    for word in ["Ġcoordinator", "Übermut", "閃電"]:
        piece = "".join(t for t, _ in byte_level(False).pre_tokenize_str(word.replace("Ġ", " ")))
        if piece not in data["model"]["vocab"]:
            data["model"]["vocab"][piece] = len(data["model"]["vocab"])
    tok = Tokenizer.from_str(json.dumps(data))
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL])
    tok.add_tokens([AddedToken("<|note|>"), AddedToken("<tool_result>", normalized=False)])
    return json.loads(tok.to_str())


def save_tokenizer(name, data, config):
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(data, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f, ensure_ascii=False, indent=2)
        f.write("\n")


def variants(bytelevel, split):
    plain = dict(split, added_tokens=[])
    ignore = dict(split, model=dict(split["model"], ignore_merges=True))
    load = lambda d: Tokenizer.from_str(json.dumps(d))
    return {"bytelevel": load(bytelevel), "bytelevel_as_text": load(dict(bytelevel, added_tokens=[])), "split": load(split),
            "split_as_text": load(plain), "split_ignore_merges": load(ignore)}


def make_ids(toks, texts):
    out = {"chunk_bytes": [len(t.encode()) for t in texts], "variants": {}}
    whole = "".join(texts)
    for name, tok in toks.items():
        ids = [tok.encode(t, add_special_tokens=False).ids for t in texts]
        all_ids = tok.encode(whole, add_special_tokens=False).ids
        out["variants"][name] = {"counts": [len(i) for i in ids], "hashes": [fnv(i, 4) for i in ids], "full": ids[:FULL],
                                 "whole_count": len(all_ids), "whole_hash": fnv(all_ids, 4)}
    save_json("ids.json", out)


def points_text(base):
    """Each code point after a letter, doubled, before a digit, after an apostrophe and a space, before a newline."""
    return "".join(f"a{c}{c}1{c} {c}b'{c}A{c}\n" for c in map(chr, range(base, base + 4096)) if not 0xd800 <= ord(c) < 0xe000)


def make_points(toks):
    out = {}
    for name in ("bytelevel", "split"):
        pre = toks[name].pre_tokenizer
        rows = []
        for base in range(0, 0x110000, 4096):
            text = points_text(base)
            ends = [0]
            for ch in text:
                ends.append(ends[-1] + len(ch.encode()))
            cuts = [ends[e] for _, (_, e) in pre.pre_tokenize_str(text)]
            rows.append([len(cuts), fnv(cuts, 4)])
        out[name] = rows
    save_json("points.json", out)


def make_decode(toks):
    rng = random.Random(5)
    out = {}
    for name in ("bytelevel", "split"):
        tok = toks[name]
        size = max(tok.get_vocab().values()) + 1
        special = [tok.token_to_id(t) for t in CONTROL]
        rows = []
        for i in range(200):
            n = rng.randrange(1, 60)
            low = rng.choice([size, 256, 600])  # the first 256 are single bytes: broken UTF-8 in plenty
            ids = [rng.choice(special) if rng.random() < 0.05 else rng.randrange(low) for _ in range(n)]
            keep, skip = (tok.decode(ids, skip_special_tokens=s) for s in (False, True))
            rows.append({"ids": ids, "text": keep, "skipped": skip} if i < 20 else
                        {"ids": ids, "text_hash": fnv_text(keep), "skipped_hash": fnv_text(skip)})
        out[name] = rows
    save_json("decode.json", out)


def main():
    train_texts = [c.decode(errors="replace") for c in corpus.chunks(7, 120)]
    bytelevel, split = make_bytelevel(train_texts), make_split(train_texts)
    names = {"bos_token": CONTROL[0], "eos_token": CONTROL[1], "unk_token": CONTROL[2], "add_prefix_space": False,
             "clean_up_tokenization_spaces": False, "tokenizer_class": "GPT2Tokenizer"}
    templates = {form: open(os.path.join(HERE, f"chat_template_{form}.jinja"), encoding="utf-8").read()
                 for form in ("vl01", "text01")}
    as_dict = {"__type": "AddedToken", "content": CONTROL[1], "lstrip": False, "normalized": False, "rstrip": False,
               "single_word": False, "special": True}
    save_tokenizer("tokenizer_bytelevel", bytelevel, dict(names, eos_token=as_dict, chat_template=templates["text01"]))
    save_tokenizer("tokenizer_split", split, dict(names, chat_template=templates["vl01"]))
    toks = variants(bytelevel, split)

    raw = corpus.chunks(1, CHUNKS)
    texts = [c.decode("utf-8", errors="replace") for c in raw]
    with open(os.path.join(HERE, "corpus.z"), "wb") as f:
        f.write(zlib.compress("".join(texts).encode(), 9))
    cut = [c[:160] for c in raw if c.decode(errors="replace").encode() != c][:40]
    cut += [bytes([a, b]) for a in range(0x7f, 256, 3) for b in (0x20, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0)]
    cut += [bytes([0xe0 + i, a, b]) for i in range(16) for a in (0x80, 0x9f, 0xa0, 0xbf) for b in (0x41, 0x80, 0xff)]
    cut += [bytes([0xf0 + i, a, 0x80, b]) for i in range(6) for a in (0x80, 0x8f, 0x90, 0xbf) for b in (0x41, 0x80, 0xff)]
    save_json("broken.json", [[c.hex(), c.decode("utf-8", errors="replace").encode().hex()] for c in cut])
    make_ids(toks, texts)
    make_points(toks)
    make_decode(toks)
    save_json("chat.json", chat_cases.render_all(templates, toks["split"]))
    print("tokenizers", tokenizers.__version__, "bytes of text", sum(len(t.encode()) for t in texts))


if __name__ == "__main__":
    main()
