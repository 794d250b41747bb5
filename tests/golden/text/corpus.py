"""Mixed text for the tokenizer goldens, made from a seed alone: several scripts, code, emoji, numbers, whitespace,
control characters, broken UTF-8 as Python replaces it, near misses of the control tokens."""
import random

WORDS = {
    "english": """the of and to in a is that it was for on are as with his they at be this from have or by one had not
        but what all were when we there can an your which their said if do will each about how up out them then she
        many some so these would other into has more her two like him see time could no make than first been its who
        now people my made over did down only way find use may water long little very after words called just where
        most know tensor expert router attention lightning pipeline gradient checkpoint coordinator don't I'll we've
        they're it's she'd I'm can't WON'T I'D It'S O'Neill rock'n'roll""".split(),
    "romanian": """și în că este pentru cu nu mai sunt din care fulger tunet ploaie munte țară știință mâine înțeleg
        învățătură întâmplare cuvânt sărbătoare năstrușnic București Brașov Iași""".split(),
    "german": """und der die das nicht über für können müssen größer Straße Grüße Übermut äußerst Fußgänger Mädchen
        Donaudampfschifffahrtsgesellschaftskapitän Rechtsschutzversicherungsgesellschaften""".split(),
    "russian": """и в не на я быть он с что а по это она этот к но они мы весь который из у то за свой весна время
        человек слово молния Москва Ёлка объект""".split(),
    "greek": """και το να του η της με που την από για είναι στο θα των σε ο αστραπή λόγος ψυχή ΑΘΗΝΑ Ελλάδα""".split(),
    "hebrew": """של את על לא הוא זה עם כי גם אני אבל יש היא ברק שלום עולם ירושלים""".split(),
    "arabic": """في من على أن إلى هذا التي الذي كان مع برق كتاب مدرسة السَّلَامُ عَلَيْكُمْ ١٢٣ ٤٥٦""".split(),
    "hindi": """है के में की से और का को पर यह बिजली नमस्ते दुनिया विद्यार्थी कृष्ण १२३ ज्ञान""".split(),
    "thai": """และ ที่ ของ ใน เป็น ไม่ ได้ ฟ้าผ่า สวัสดี กรุงเทพมหานคร ภาษาไทย ๑๒๓""".split(),
    "chinese": """的 一 是 不 了 人 我 在 有 他 这 闪电 注意力 模型 专家 上海 北京 今天 天气 怎么样 你好 世界 龘 𠮷 𪚥""".split(),
    "japanese": """の に は を た が で て と し れ さ いなずま 稲妻 ありがとう カタカナ ヴァイオリン 東京 ｶﾀｶﾅ 々 ー""".split(),
    "korean": """이 그 저 것 수 나 우리 번개 안녕하세요 세계 한국어 서울 대한민국 각 힣""".split(),
    "georgian": """და არის ელვა საქართველო ᲗᲑᲘᲚᲘᲡᲘ""".split(),
}
EMOJI = ["😀", "🚀", "⚡", "⚡️", "👩‍💻", "👨‍👩‍👧‍👦", "🇷🇴", "🇯🇵", "👍🏽", "🏳️‍🌈", "❤️", "1️⃣", "🫠", "🪿", "☃", "♥"]
SPACES = [" ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r\n\r\n", "\r", "\u00a0", "\u3000", "\u2028", "\u2029",
          "\u200b", "\u180e", "\x85", "\u2003", "\x0b", "\x0c", "\x1c", "\ufeff", " \n", "\n ", "  \n  ", " \t\n"]
CONTROL = [chr(c) for c in list(range(0, 32)) + [0x7f, 0x80, 0x84, 0x9f, 0xad]] + ["\u200d", "\u2060", "\ufffe", "\uffff",
           "\U0010ffff", "\ufffd", "\u202e"]
PUNCT = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["...", "->", "::", "//", "/*", "*/", "==", "!=", "—", "…", "«", "»",
         "“", "”", "’", "、", "。", "！", "¿", "§", "€", "£", "½", "²", "™"]
TOKENS = ["<beginning_of_sentence>", "<end_of_sentence>", "<end_of_document>", "<function_call>", "<image>", "<im",
          "<|note|>", "<pad_left>", "<pad_right>", "<image", "image>", "<end_of_sentence", "<<image>>",
          "două cuvinte", "<|note|", "< image>", "<IMAGE>"]


def zipf(rng, words):
    return words[min(int(rng.paretovariate(0.7)) - 1, len(words) - 1) if rng.random() < 0.5 else rng.randrange(len(words))]


def prose(rng, script, size):
    out = []
    length = 0
    while length < size:
        word = zipf(rng, WORDS[script])
        roll = rng.random()
        if roll < 0.06:
            word = word.upper()
        elif roll < 0.14:
            word = word.capitalize()
        elif roll < 0.17:
            word += rng.choice(PUNCT)
        elif roll < 0.20:
            word = rng.choice(PUNCT) + word
        elif roll < 0.22:
            word += zipf(rng, WORDS[script])
        sep = "" if script in ("chinese", "japanese", "thai") and rng.random() < 0.8 else " "
        if rng.random() < 0.08:
            sep = rng.choice([". ", ", ", "! ", "? ", "; ", ": ", ".\n", "。", "，", " - ", ".\n\n", "\n"])
        out.append(word + sep)
        length += len((word + sep).encode())
    return "".join(out)


def code(rng, size):
    names = ["x", "y", "i", "row_count", "kMax", "HTTPServer", "readFile", "__init__", "tensor2d", "ptr_", "αβ", "self"]
    out = []
    length = 0
    while length < size:
        a, b, c = (rng.choice(names) for _ in range(3))
        indent = rng.choice(["", "  ", "    ", "\t", "\t\t", "        "])
        line = indent + rng.choice([
            f"for (int {a} = 0; {a} < {rng.randrange(10 ** rng.randrange(1, 9))}; ++{a}) {{", f"def {a}({b}, *{c}): # noqa",
            f"if ({a}->{b} == nullptr || !{c}) return -1;", f"std::vector<std::pair<int, {a}>> {b}{{}};", "}", "});", "",
            f"{a}['{b}'] = \"{c}\\n\\t\\\"\" + f'{{{a}!r:>{rng.randrange(99)}}}'", f"// {prose(rng, 'english', 40)}",
            f"https://example.org/{a}/{b}?q={c}%20{rng.randrange(9999)}#top", f"#include <{a}.h>", f"SELECT * FROM {a};",
            f"{a} = {rng.random() * 10 ** rng.randrange(-9, 9)} * 0x{rng.getrandbits(32):X}", f"{a}+={b}<<{c}&~1;",
            f'{{"{a}": [{rng.randrange(99)}, null, true], "{b}": {{"{c}": -1.5e-{rng.randrange(9)}}}}},',
            f"| {a} | {b} | {c} |", f"- [ ] **{a}** _{b}_ ~~{c}~~", "```typescript", f"\\frac{{{a}}}{{{b}}} \\leq \\sum_{{{c}}}",
        ]) + rng.choice(["\n", "\n", "\n", "\r\n", "\n\n", ";\n"])
        out.append(line)
        length += len(line.encode())
    return "".join(out)


def numbers(rng, size):
    out = []
    length = 0
    while length < size:
        n = rng.choice([str(rng.getrandbits(rng.choice([4, 10, 20, 64, 200]))), f"{rng.random() * 1e6:.{rng.randrange(8)}f}",
                        f"{rng.randrange(1900, 2100)}-{rng.randrange(13):02}-{rng.randrange(32):02}", f"{rng.randrange(999):,}",
                        f"+{rng.randrange(99)} ({rng.randrange(999)}) {rng.randrange(9999)}", f"1e{rng.randrange(300)}",
                        "١٢٣٤٥", "१२३४", "Ⅷ", "½", "①②③", "x²", f"{rng.randrange(99)}%", f"v{rng.randrange(9)}.{rng.randrange(99)}"])
        n += rng.choice([" ", ", ", "\n", "", "\t", "  "])
        out.append(n)
        length += len(n.encode())
    return "".join(out)


def mixture(rng, size):
    """Everything next to everything: where pre-tokenizers disagree."""
    out = []
    length = 0
    scripts = list(WORDS)
    while length < size:
        pool = rng.random()
        if pool < 0.25:
            t = zipf(rng, WORDS[rng.choice(scripts)])
        elif pool < 0.45:
            t = rng.choice(SPACES) * rng.choice([1, 1, 1, 2, 5, 17])
        elif pool < 0.55:
            t = rng.choice(EMOJI)
        elif pool < 0.65:
            t = rng.choice(CONTROL)
        elif pool < 0.78:
            t = rng.choice(PUNCT) * rng.choice([1, 1, 2, 3, 40])
        elif pool < 0.84:
            t = str(rng.getrandbits(rng.choice([3, 8, 30])))
        elif pool < 0.90:
            t = rng.choice("'’") + rng.choice(["s", "S", "ſ", "t", "T", "re", "RE", "Re", "vE", "m", "ll", "LL", "d", "D", "x", "l"])
        elif pool < 0.94:
            t = rng.choice("aeiounAEZ") + "".join(chr(rng.randrange(0x300, 0x36f)) for _ in range(rng.randrange(1, 4)))
        else:
            t = rng.choice(TOKENS)
        out.append(t)
        length += len(t.encode())
    return "".join(out)


def random_code_points(rng, size):
    out = []
    length = 0
    while length < size:
        c = rng.choice([rng.randrange(0x110000), rng.randrange(0x3000), rng.randrange(0x1f000, 0x20000)])
        if 0xd800 <= c < 0xe000:
            continue
        out.append(chr(c) + rng.choice(["", "", " ", "a"]))
        length += len(out[-1].encode())
    return "".join(out)


def broken(rng, size):
    """Valid UTF-8 with bytes flipped, cut and inserted. Returned as bytes; the goldens hold its replaced form."""
    data = bytearray(mixture(rng, size).encode())
    for _ in range(size // 12):
        at = rng.randrange(len(data))
        roll = rng.random()
        if roll < 0.4:
            data[at] = rng.randrange(256)
        elif roll < 0.7:
            del data[at]
        else:
            data.insert(at, rng.choice([0x80, 0xbf, 0xc0, 0xc3, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff]))
    return bytes(data)


def long_words(rng, size):
    out = []
    length = 0
    while length < size:
        unit = rng.choice(["a", "ab", "abc", "Z", "xyz", "é", "你", "0", "-", "=", " ", "\n", "\t ", "ไ", "aB", "😀", "the", "\u0301"])
        t = unit * rng.randrange(50, 600) + rng.choice([" ", "\n", "", "!"])
        out.append(t)
        length += len(t.encode())
    return "".join(out)


def chunks(seed, count, size=4000):
    """`count` chunks of about `size` bytes, as bytes; those of kind "broken" are not valid UTF-8."""
    rng = random.Random(seed)
    kinds = list(WORDS) + ["english", "english", "chinese", "code", "code", "code", "numbers", "mixture", "mixture", "mixture",
                           "mixture", "long_words", "broken", "broken"]
    made = {"code": code, "numbers": numbers, "mixture": mixture, "long_words": long_words, "points": random_code_points}
    out = []
    for i in range(count):
        kind = kinds[i % len(kinds)] if i % 40 else "points"
        if kind == "broken":
            out.append(broken(rng, size))
        elif kind in made:
            out.append(made[kind](rng, size).encode())
        else:
            out.append(prose(rng, kind, size).encode())
    return out
