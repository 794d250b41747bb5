"""Pictures that the script draws, each with the questions that can be asked about it.

A scene is a list of (task, question, answer), a picture, and a key that describes its content: the key alone decides
whether the scene may be trained on, so no held-out combination is ever seen, whatever its colours of paper and fonts.
"""
import dataclasses
import math
import os

from PIL import Image, ImageDraw, ImageFont

COLOURS = {"red": (214, 40, 40), "green": (34, 139, 34), "blue": (30, 80, 210), "yellow": (250, 210, 30),
           "orange": (245, 130, 20), "purple": (128, 40, 150), "black": (20, 20, 20), "white": (250, 250, 250)}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
PLACES = ("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
LETTERS = "ABCDEFGHKLMNPRSTUXYZ"
FONT_FOLDERS = ("/usr/share/fonts/truetype/dejavu", "/usr/share/fonts/truetype/liberation")
FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "LiberationSans-Regular.ttf",
         "LiberationSans-Bold.ttf", "LiberationSerif-Regular.ttf", "LiberationMono-Regular.ttf", "")
WORDS = """ACE ACT AIR APE ARM ART ASH BAG BAR BAT BED BEE BOX BUS CAB CAP CAR CAT COW CUP DAY DOG DOT EAR EGG ELF EYE FAN FAR
FLY FOX GAS GEM HAT HEN HUB ICE INK JAR KEY LAB LEG LOG MAP MUD NET NUT OAK OIL OWL PAN PEA PEN PIE RAM RED ROW SEA SKY SUN
TAR TEA TIN TOP TOY TUB URN VAN WAX WEB YAK ZOO BALL BARK BEAN BELL BIRD BOAT BOOK BULB CAKE CAMP CARD CAVE COAL COAT CORN
CRAB DESK DOOR DRUM DUCK EAST FARM FERN FIRE FISH FLAG FORK FROG GATE GIFT GOAT GOLD HARP HILL HOME HOOK IRON JADE KITE LAKE
LAMP LEAF LIME LION LOCK MAIL MAZE MILK MINT MOON NEST NORTH OPEN OVEN PARK PATH PEAR PLUM POND PORT QUIZ RAIN RICE RING ROAD
ROPE ROSE SALT SAND SEED SHIP SILK SNOW SOAP SOUP STAR TENT TREE VASE WALL WEST WIND WOLF WOOD YARD ZERO""".split()


@dataclasses.dataclass
class Scene:
    key: str
    image: Image.Image
    questions: list  # of (task, question, answer)


def font(rng, size):
    name = rng.choice(FONTS)
    if not name:
        return ImageFont.load_default(size)
    for folder in FONT_FOLDERS:
        path = os.path.join(folder, name)
        if os.path.exists(path):
            return ImageFont.truetype(path, size)
    raise FileNotFoundError(f"font {name}: not in {FONT_FOLDERS}; install fonts-dejavu-core and fonts-liberation")


def contrast(a, b):
    return sum(abs(x - y) for x, y in zip(a, b))


def paper(rng, size, avoid=()):
    """A background: flat, shaded or lined, far from every colour of `avoid`. Returns (picture, its mean colour)."""
    for _ in range(100):
        light = rng.random() < 0.75
        base = tuple(rng.randrange(200, 256) if light else rng.randrange(30, 110) for _ in range(3))
        if all(contrast(base, COLOURS[c]) > 130 for c in avoid):
            break
    else:
        base = (128, 128, 128)
    image = Image.new("RGB", size, base)
    if rng.random() < 0.4:
        other = tuple(max(0, min(255, c + rng.randrange(-25, 26))) for c in base)
        mask = Image.linear_gradient("L").rotate(rng.choice((0, 90, 180, 270))).resize(size)
        image = Image.composite(Image.new("RGB", size, other), image, mask)
    return image, base


def ink(rng, base):
    choices = [c for c in COLOURS.values() if contrast(c, base) > 250]
    return rng.choice(choices or [(0, 0, 0) if sum(base) > 380 else (255, 255, 255)])


def draw_shape(draw, shape, centre, radius, fill):
    x, y = centre
    r = radius
    if shape == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    elif shape == "ring":
        draw.ellipse((x - r, y - r, x + r, y + r), outline=fill, width=max(2, round(r * 0.38)))
    elif shape == "square":
        s = r * 0.88
        draw.rectangle((x - s, y - s, x + s, y + s), fill=fill)
    elif shape == "triangle":
        draw.polygon([(x, y - r), (x - r, y + r * 0.85), (x + r, y + r * 0.85)], fill=fill)
    elif shape == "star":
        points = []
        for i in range(10):
            length = r * 1.1 if i % 2 == 0 else r * 0.45
            angle = math.pi * (i / 5 - 0.5)
            points.append((x + length * math.cos(angle), y + length * math.sin(angle)))
        draw.polygon(points, fill=fill)
    else:  # cross
        s = r * 0.36
        draw.rectangle((x - s, y - r, x + s, y + r), fill=fill)
        draw.rectangle((x - r, y - s, x + r, y + s), fill=fill)


def canvas_size(rng, rows, columns):
    """Pixels of a picture whose grid is rows x columns tiles of 48, drawn at one to three times that size."""
    scale = rng.choice((48, 72, 96, 120))
    jitter = lambda n: round(n * scale * rng.uniform(0.96, 1.0))  # noqa: E731
    return jitter(columns), jitter(rows)


def objects(rng):
    count = rng.choice((1, 1, 2, 2, 3, 3, 4, 5, 6))
    cells = rng.sample(range(9), count)
    things = [(rng.choice(list(COLOURS)), rng.choice(SHAPES), cell) for cell in cells]
    size = canvas_size(rng, 2, 2)
    image, _ = paper(rng, size, {t[0] for t in things})
    draw = ImageDraw.Draw(image)
    cell_w, cell_h = size[0] / 3, size[1] / 3
    for colour, shape, cell in things:
        radius = min(cell_w, cell_h) * rng.uniform(0.3, 0.44)
        slack = min(cell_w, cell_h) / 2 - radius
        centre = (cell_w * (cell % 3 + 0.5) + rng.uniform(-slack, slack),
                  cell_h * (cell // 3 + 0.5) + rng.uniform(-slack, slack))
        draw_shape(draw, shape, centre, radius, COLOURS[colour])
    questions = [("count", "How many shapes are there?", str(count))]
    shapes, colours = [t[1] for t in things], [t[0] for t in things]
    for colour, shape, cell in things:
        if shapes.count(shape) == 1:
            questions.append(("colour", f"What colour is the {shape}?", colour))
            questions.append(("place", f"Where is the {shape}?", PLACES[cell]))
        if colours.count(colour) == 1:
            questions.append(("shape", f"What is the {colour} shape?", shape))
            questions.append(("place", f"Where is the {colour} shape?", PLACES[cell]))
    shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    questions.append(("count", f"How many {shape}s are there?".replace("crosss", "crosses"), str(shapes.count(shape))))
    questions.append(("count", f"How many {colour} shapes are there?", str(colours.count(colour))))
    if count > 1:
        a, b = rng.sample(things, 2)
        if a[:2] != b[:2]:
            pair = f"the {a[0]} {a[1]}", f"the {b[0]} {b[1]}"
            if things_named(things, a) == things_named(things, b) == 1:
                if a[2] % 3 != b[2] % 3:
                    questions.append(("relation", f"Is {pair[0]} left or right of {pair[1]}?",
                                      "left" if a[2] % 3 < b[2] % 3 else "right"))
                if a[2] // 3 != b[2] // 3:
                    questions.append(("relation", f"Is {pair[0]} above or below {pair[1]}?",
                                      "above" if a[2] // 3 < b[2] // 3 else "below"))
    return Scene("objects " + str(sorted(things, key=lambda t: t[2])), image, questions)


def things_named(things, thing):
    return sum(t[:2] == thing[:2] for t in things)


def fit_font(rng, draw, text, width, height):
    """A font in which text fills most of the box; (font, left, top, right, bottom) of the text at (0, 0)."""
    fill = rng.uniform(0.6, 0.95)
    chosen = font(rng, 40)
    box = draw.textbbox((0, 0), text, font=chosen)
    scale = fill * min(width / (box[2] - box[0]), height / (box[3] - box[1]))
    chosen = chosen.font_variant(size=max(6, int(40 * scale)))
    return chosen, draw.textbbox((0, 0), text, font=chosen)


def put_text(rng, draw, text, box, fill, centred=False):
    left, top, right, bottom = box
    chosen, extent = fit_font(rng, draw, text, right - left, bottom - top)
    room_x = right - left - (extent[2] - extent[0])
    room_y = bottom - top - (extent[3] - extent[1])
    x, y = (0.5, 0.5) if centred else (rng.random(), rng.random())
    draw.text((left + max(0, room_x) * x - extent[0], top + max(0, room_y) * y - extent[1]), text, font=chosen, fill=fill)


def printed(rng):
    kind = rng.choice(("number", "number", "word", "letters"))
    if kind == "number":
        text = str(rng.randrange(10 ** rng.choice((1, 2, 3, 4))))
    elif kind == "word":
        text = rng.choice(WORDS)
    else:
        text = "".join(rng.choice(LETTERS) for _ in range(rng.choice((1, 2, 3, 4))))
    rows, columns = (1, 2) if len(text) < 4 or rng.random() < 0.3 else (1, 3)
    if len(text) < 3 and rng.random() < 0.5:
        rows, columns = 1, 1
    size = canvas_size(rng, rows, columns)
    image, base = paper(rng, size)
    put_text(rng, ImageDraw.Draw(image), text, (2, 2, size[0] - 2, size[1] - 2), ink(rng, base))
    task = "read number" if kind == "number" else "read word"
    question = rng.choice(("What number is written?", "Read the number.")) if kind == "number" else \
        rng.choice(("What is written?", "Read the text."))
    return Scene(f"printed {text}", image, [(task, question, text)])


def bars(rng):
    count = rng.choice((2, 3, 3, 4))
    values = rng.sample(range(1, 10), count)
    letters = rng.sample(LETTERS, count)
    colours = rng.sample([c for c in COLOURS if c not in ("white", "yellow")], count)
    size = canvas_size(rng, 2, 2)
    image = Image.new("RGB", size, (rng.randrange(235, 256),) * 3)
    draw = ImageDraw.Draw(image)
    label, step = size[1] * 0.2, size[0] / count
    floor_y = size[1] - label
    unit = (floor_y - label) / 9
    for i, (value, letter, colour) in enumerate(zip(values, letters, colours)):
        left, right = step * (i + 0.18), step * (i + 0.82)
        top = floor_y - unit * value
        draw.rectangle((left, top, right, floor_y), fill=COLOURS[colour])
        middle, half = (left + right) / 2, label * 0.5
        put_text(rng, draw, letter, (middle - half, floor_y + 1, middle + half, size[1] - 1), (0, 0, 0), centred=True)
        put_text(rng, draw, str(value), (middle - half, top - label + 1, middle + half, top - 1), (0, 0, 0), centred=True)
    draw.line((0, floor_y, size[0], floor_y), fill=(0, 0, 0), width=max(1, size[0] // 96))
    high, low = values.index(max(values)), values.index(min(values))
    i = rng.randrange(count)
    return Scene(f"bars {values} {letters}", image, [
        ("chart", "Which bar is the highest?", letters[high]), ("chart", "Which bar is the lowest?", letters[low]),
        ("chart", "What colour is the highest bar?", colours[high]),
        ("chart", f"What is the value of {letters[i]}?", str(values[i])),
        ("chart", f"What colour is bar {letters[i]}?", colours[i]), ("chart", "How many bars are there?", str(count))])


def table(rng):
    rows = rng.choice((2, 3))
    letters = rng.sample(LETTERS, rows)
    values = [str(v) for v in rng.sample(range(1, 100), rows)]
    size = canvas_size(rng, 2, 2)
    image, base = paper(rng, size)
    draw = ImageDraw.Draw(image)
    colour = ink(rng, base)
    line = max(1, size[0] // 96)
    height, split = size[1] / rows, size[0] * 0.42
    chosen = font(rng, max(8, int(height * 0.6)))
    for row, (letter, value) in enumerate(zip(letters, values)):
        top = row * height
        for text, left, right in ((letter, 0, split), (value, split, size[0])):
            draw.text(((left + right) / 2, top + height / 2), text, font=chosen, fill=colour, anchor="mm")
        if row:
            draw.line((0, top, size[0], top), fill=colour, width=line)
    draw.line((split, 0, split, size[1]), fill=colour, width=line)
    i, j = rng.randrange(rows), rng.randrange(rows)
    return Scene(f"table {letters} {values}", image, [
        ("table", f"What is the value of {letters[i]}?", values[i]), ("table", f"Which row has {values[j]}?", letters[j]),
        ("table", "How many rows are there?", str(rows))])


def panels(rng):
    """Four parts, each a tile of its own: a shape with a digit beside it."""
    size = canvas_size(rng, 2, 2)
    image = Image.new("RGB", size)
    parts = []
    half_w, half_h = size[0] // 2, size[1] // 2
    for i in range(4):
        shape, digit, colour = rng.choice(SHAPES), str(rng.randrange(10)), rng.choice(list(COLOURS))
        part, base = paper(rng, (half_w, half_h), {colour})
        draw = ImageDraw.Draw(part)
        draw_shape(draw, shape, (half_w * 0.28, half_h * 0.5), half_w * 0.2, COLOURS[colour])
        put_text(rng, draw, digit, (half_w * 0.55, half_h * 0.15, half_w * 0.95, half_h * 0.85), ink(rng, base))
        image.paste(part, ((i % 2) * half_w, (i // 2) * half_h))
        parts.append((shape, digit, colour))
    line = max(1, size[0] // 64)
    ImageDraw.Draw(image).line((half_w, 0, half_w, size[1]), fill=(0, 0, 0), width=line)
    ImageDraw.Draw(image).line((0, half_h, size[0], half_h), fill=(0, 0, 0), width=line)
    questions = []
    for i in rng.sample(range(4), 3):
        what, answer = rng.choice((("number", parts[i][1]), ("shape", parts[i][0]), ("colour", parts[i][2])))
        questions.append(("panels", f"What {what} is in the {CORNERS[i]} part?", answer))
    return Scene(f"panels {parts}", image, questions)


KINDS = {"objects": objects, "printed": printed, "bars": bars, "table": table, "panels": panels}
