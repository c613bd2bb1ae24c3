"""Random words in real fonts, straight, mildly bent and strongly bent, as files on disk.

The fonts come from matplotlib (DejaVu, under the licence of Bitstream Vera) and from npm packages
(under the SIL Open Font License 1.1). Training, validation and test have different ones.
"""

import dataclasses
import io
import pathlib
import tempfile

import matplotlib
import numpy as np

import stn_keras
from stn_keras.data import npm, words
from stn_keras.system import files

DEJAVU = ("Sans", "Sans-Bold", "Serif", "Serif-Bold", "SansMono")
PACKAGES = {  # npm packages of `@fontsource`, version 5.3.0, with their checksums
    "training": {
        "inconsolata": "sha512-12UZvQzR9rcgFv1Wb2vy9NvMqleh4fVZ9W5Ww/S3CamaRLeUfC"
        "kfXersbiqcyCkH82etGTTRyHd5cJYDJ2W27w==",
        "lora": "sha512-OK1g1z01rHVPqO5aw/FOIoDqc46KKYZdgL3NOLkxLWDk6QhDHh"
        "dr/h2BV1cke6gTvR1tzpDfdKyUkGsC+sQLeQ==",
        "nunito": "sha512-vw9TaTQJ/zpEpKrsODuPmOvaVjXgdda6B+xXA4YqjrdeJ62MLg"
        "VoDerdRXFQHyBnSCt2yQ2nHKCHPP/Pv7Xq4Q==",
        "open-sans": "sha512-V1bdMlGNyZrJwzrdusshMOw2YR0aqYDL7kOo9dkxUEKl8dFv66"
        "A9HLckOOXl572sG/7ohhDQrCrTFGSn9LZcSw==",
        "oswald": "sha512-16r2aHActe0pH+9FLdk/74/YxXM7HpGak05kAzx3RvSToiJwGv"
        "yhv6GvckPz+YuZmvL1nxWbEop2jAXRcXYPRg==",
        "pt-serif": "sha512-ST+j/byBGZw6H+TQMX78o6Qlngfj2Va/Q9fAJxq54Is1ZQk1/F"
        "hBIuqyJcLmnpi0trG8V/hWO9Bx6ZY09A0DBQ==",
        "roboto": "sha512-BapRJOWYP+LZ21zp+wBQjfpPYKRoxc4LspJ/RLuI+HSMBD5u/X"
        "4O+ESDrSvEqDSy0rAl7GwBJ+09mdc16cVQ1Q==",
    },
    "validation": {
        "bitter": "sha512-RYfrDnaja7v6FO8AwknA5aw/BuVgLBJvwLIShkS42XUIxMbvi/"
        "yp47Ax/Xnn9OTVIGFiTXCbVsH0O9HhTTDtqA==",
        "work-sans": "sha512-3cKV28+bEiLGdyOl0VgEGCFWE1XdZJu/K+nH4Jt76XC3T//XrR"
        "tm2EF7jA61GSMIy8sYp6ZFTE01nD3lLaBV9A==",
    },
    "test": {
        "crimson-text": "sha512-W1kLgOlsCD/8DhUNECgYvyx86+t3wAvA0w09juD3XtmwAtV6vu"
        "SEwijN4q8fnQ1LgQWV377jQiL8dpSYwLnoAw==",
        "fira-sans": "sha512-z1SKSG7eRhm3srlb7rQ3j77QP4TP7OFxCZ4wUWhCdt+3hOF9K0"
        "AyvybpAsz6+JWNcCVV7AqC7dbOT3e67P2r5A==",
        "montserrat": "sha512-iQPDtZOnmM5ih4JBGaMSXisRap0ixb9bAUw2hDtY7EjVfaqiiN"
        "lKtVuJl9XclxUwtwMMHNcWXfQR6zI9x05+Tg==",
        "zilla-slab": "sha512-xbdDx5OESJDQqp3GIp4pjBgI+qpcg4AxnHLN15ekfJbG+ZYaOX"
        "g3uBjDpYlkuPQpey91afxHBNaqZgzluJ2FWA==",
    },
}
WEIGHTS = (400, 700)
STRENGTHS = {"straight": (0, 0), "mild": (0.2, 0.5), "strong": (0.6, 1)}
# Words of each split: a third of each strength.
COUNTS = {"training": 24_000, "validation": 1_500, "test": 6_000}
SEEDS = {"training": 1, "validation": 2, "test": 3}
STRAIGHT_SIZE = (32, 96)
AT_ONCE = 250  # words that are drawn together


@dataclasses.dataclass
class Words:
    """Pictures of words and what is known about them."""

    images: np.ndarray  # uint8 (n, 48, 128, 1)
    labels: np.ndarray  # int32 (n, 8), see `words.encode`
    lines: np.ndarray  # float32 (n, 2, 33, 2), see `words.Bend.lines`
    strengths: np.ndarray  # (n,), indices of `STRENGTHS`
    straight: np.ndarray  # uint8 (n, 32, 96, 1), the images sampled by `words.Bend.straightening`


def load(split, folder, count=None):
    """The `Words` of a split, which are drawn once and then read from the folder."""
    count = count or COUNTS[split]
    path = pathlib.Path(folder) / f"{split}-{count}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = draw(fonts(split, path.parent), count, SEEDS[split])
        with files.replacing(path) as temporary:
            np.savez(temporary, **dataclasses.asdict(drawn))
    with np.load(path) as arrays:
        return Words(**arrays)


def draw(fonts, count, seed):
    """Draws random words in random fonts, the strengths in turn."""
    rng = np.random.default_rng(seed)
    texts = ["".join(rng.choice([*words.ALPHABET], rng.integers(3, 9))) for _ in range(count)]
    strengths = np.arange(count) % len(STRENGTHS)
    parts = []
    for start in range(0, count, AT_ONCE):
        chosen = slice(start, start + AT_ONCE)
        bends = [
            random_bend(words.strip(text, fonts[rng.integers(len(fonts))]), level, rng)
            for text, level in zip(texts[chosen], strengths[chosen])
        ]
        images = words.light(words.picture(bends), rng)
        lines = np.stack([bend.lines() for bend in bends])
        positions = np.stack([bend.straightening(STRAIGHT_SIZE) for bend in bends])
        straight = stn_keras.pixel_sample(images, positions, fill_mode="nearest")
        parts.append((images, lines, np.asarray(straight)))
    images, lines, straight = map(np.concatenate, zip(*parts))
    return Words(images, words.encode(texts), lines, strengths, straight)


def random_bend(strip, strength, rng):
    """A random `words.Bend` of a strength, an index of `STRENGTHS`."""
    amount = rng.uniform(*[*STRENGTHS.values()][strength])
    wavy = rng.random() < 0.5
    side = rng.choice([-1, 1])
    return words.Bend(
        strip,
        arc=0 if wavy else 120 * amount * side,
        wave=0.8 * amount if wavy else 0,
        period=rng.uniform(0.8, 1.6),
        phase=rng.uniform(0, 360),
        tilt=20 * amount * rng.uniform(-1, 1),
        perspective=tuple(0.6 * amount * rng.uniform(-1, 1, 2)),
        zoom=rng.uniform(0.7, 1),
        place=tuple(rng.uniform(0, 1, 2)),
    )


def fonts(split, folder):
    """The fonts of a split. The npm packages' files are kept in the folder."""
    found = []
    if split == "training":
        place = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")
        found += [words.load_font(place / f"DejaVu{name}.ttf") for name in DEJAVU]
    for name, integrity in PACKAGES[split].items():
        paths = [folder / f"{name}-latin-{weight}-normal.woff" for weight in WEIGHTS]
        if not all(path.exists() for path in paths):
            fetch(f"@fontsource/{name}@5.3.0", integrity, paths)
        found += [words.load_font(io.BytesIO(path.read_bytes())) for path in paths]
    return found


def fetch(package, integrity, paths):
    with tempfile.TemporaryDirectory() as folder:
        contents = npm.read(package, integrity, folder)
    for path in paths:
        with files.replacing(path) as temporary:
            temporary.write_bytes(contents[f"files/{path.name}"])
