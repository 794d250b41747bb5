#!/usr/bin/env python3
"""Writes coordinator/text/unicode_delta.inc: code points whose general category, as Hugging Face tokenizers' regular
expressions see it, differs from Unicode 14 (the oldest PCRE2 that we build with). Run with a Python of Unicode 14."""
import os
import unicodedata

from tokenizers import Regex, pre_tokenizers

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../coordinator/text/unicode_delta.inc")
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()
BLOCK = 4096


def members(category):
    removing = pre_tokenizers.Split(Regex(r"\p{%s}" % category), "removed")
    for base in range(0, 0x110000, BLOCK):
        points = [c for c in range(base, base + BLOCK) if not 0xd800 <= c < 0xe000]
        kept = {ch for piece, _ in removing.pre_tokenize_str("".join(map(chr, points))) for ch in piece}
        yield from (c for c in points if chr(c) not in kept)


def stand_in(category, length):
    """The first code point of that category and UTF-8 length in Unicode 14 (no case pairs with ASCII among them)."""
    low, high = {2: (0x80, 0x800), 3: (0x800, 0xd800), 4: (0x10000, 0x110000)}[length]
    return next(c for c in range(low, high) if unicodedata.category(chr(c)) == category)


def main():
    assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version
    changed = sorted((c, cat) for cat in CATEGORIES for c in members(cat) if unicodedata.category(chr(c)) != cat)
    # PCRE2 counts U+180E as a space, Unicode no longer does: any other format character of three bytes stands for it.
    changed = sorted(changed + [(0x180e, "Cf")])
    ranges = []
    for c, cat in changed:
        if ranges and ranges[-1][1] == c - 1 and ranges[-1][2] == cat:
            ranges[-1][1] = c
        else:
            ranges.append([c, c, cat])
    with open(OUT, "w", encoding="utf-8") as f:
        f.write("// Written by tests/golden/text/make_unicode_delta.py. {first, last, stand-in of the same category and length}\n")
        for first, last, cat in ranges:
            length = len(chr(first).encode())
            assert length == len(chr(last).encode())
            point = 0x200b if first == 0x180e else stand_in(cat, length)
            f.write(f"{{0x{first:x}, 0x{last:x}, 0x{point:x}}},  // {cat}\n")


if __name__ == "__main__":
    main()
