"""Text tasks: each a chat of one or several turns, [(task, question, answer)], and the key that decides its split."""
from scenes import COLOURS, LETTERS
from split import held_out

COLOUR_NAMES = list(COLOURS)
FILLER = ("The sky is grey today.", "We walked along the lake.", "There is tea on the table.", "It may rain in the evening.",
          "The train was late again.", "Snow fell on the hill.", "The door is open.", "Birds sing in the yard.")


def string(rng, least, most):
    return "".join(rng.choice(LETTERS + "0123456789") for _ in range(rng.randint(least, most)))


def add(rng):
    a, b = rng.randrange(100), rng.randrange(100)
    return f"add {a} {b}", [("add", f"What is {a} + {b}?", str(a + b))]


def subtract(rng):
    a, b = sorted((rng.randrange(100), rng.randrange(100)), reverse=True)
    return f"sub {a} {b}", [("subtract", f"What is {a} - {b}?", str(a - b))]


def larger(rng):
    a, b = rng.sample(range(100), 2)
    return f"larger {a} {b}", [("compare", f"Which is larger, {a} or {b}?", str(max(a, b)))]


def copy(rng):
    s = string(rng, 2, 8)
    return f"copy {s}", [("copy", f"Repeat: {s}", s)]


def sort(rng):
    digits = [str(rng.randrange(10)) for _ in range(rng.randint(3, 6))]
    return f"sort {digits}", [("sort", "Sort: " + " ".join(digits), " ".join(sorted(digits)))]


def needle(rng):
    count = rng.choice((1, 2, 3, 4))
    colours = rng.sample(COLOUR_NAMES, count)
    codes = [str(rng.randrange(10, 1000)) for _ in colours]
    lines = [f"The {colour} box holds {code}." for colour, code in zip(colours, codes)]
    for _ in range(rng.randrange(0, 9)):
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(FILLER))
    i = rng.randrange(count)
    return f"needle {colours} {codes}", [("needle", " ".join(lines) + f" What does the {colours[i]} box hold?", codes[i])]


def chat(rng):
    code = str(rng.randrange(10, 1000))
    turns = [("chat", f"The code is {code}.", "OK")]
    if rng.random() < 0.5:
        while True:  # what stands between is not asked about: never held-out content
            key, between = rng.choice((add, copy, larger))(rng)
            if not held_out(key):
                break
        turns += between
    return f"chat {code}", turns + [("chat", "What is the code?", code)]


KINDS = {"add": add, "subtract": subtract, "compare": larger, "copy": copy, "sort": sort, "needle": needle, "chat": chat}
