"""Writes the figures of speed from the CSV files in this folder to the pages that show them.

python -m benchmarks.report
"""

import pathlib

from benchmarks import tables
from benchmarks.tables import digits
from results.report import insert, table

FOLDER = pathlib.Path(__file__).parent
ROOT = FOLDER.parent
TRAINING = FOLDER / "training.csv"
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch backend"}
WARPS = {"affine": "affine layer", "warps": "other warps", "dense": "displacements"}


def read(program):
    """The rows of a program's CSV files by backend."""
    paths = {backend: FOLDER / f"{program}-{backend}.csv" for backend in BACKENDS}
    return {backend: tables.read(path) for backend, path in paths.items() if path.exists()}


class Section:
    """The rows of one backend and one table of warps, and ours as Keras calls it by default."""

    def __init__(self, backend, kind, rows):
        self.backend, self.kind = BACKENDS[backend], WARPS[kind]
        self.rows = [row for row in rows if row["table"] == kind]
        names = {row["contender"] for row in self.rows}
        self.ours = max(name for name in names if name.startswith("ours"))  # "default" is last
        self.base = self.ours.replace("ours", "base")
        self.has_base = self.base in names

    def ratios(self, reference="PyTorch"):
        return tables.ratios(self.rows, reference, self.ours)

    def means(self, reference="PyTorch"):
        return tables.means(self.ratios(reference))

    def __str__(self):
        return f"{self.kind} {self.in_short()}"

    def in_short(self):
        """The first job and the last: without gradients and with all of them."""
        first, *_, last = digits(self.means().values())
        return f"{first} and {last} ({self.range()})"

    def range(self):
        every = [ratio for found in self.ratios().values() for ratio in found.values()]
        return " to ".join(digits([min(every), max(every)]))


def sections(rows):
    """A section for each table of warps in the rows of the sampler, which are by backend."""
    return [
        Section(backend, kind, found)
        for backend, found in rows.items()
        for kind in WARPS
        if any(row["table"] == kind for row in found)
    ]


def commits(rows, contender):
    return ", ".join(dict.fromkeys(row["commit"] for row in rows if row["contender"] == contender))


def answer(sampler, first_calls):
    """The figures in a few lines."""
    rows = [row for found in sampler.values() for row in found]
    machines = dict.fromkeys(f"{row['cores']} cores of {row['processor']}" for row in rows)
    gpus = sorted({row["device"] for row in rows} - {"CPU"})
    lines = [
        "PyTorch's time divided by ours: above 1, ours is faster. The first figure is the warp "
        "alone, the second the warp with its gradients. Both are geometric means over several "
        "warps; in parentheses, the least and the greatest ratio of all. Machines: "
        f"{', '.join(machines)}; GPU: {', '.join(gpus) or 'not measured'}.",
        "",
    ]
    for backend, found in sampler.items():
        parts = sections({backend: found})
        said = "; ".join(map(str, parts))
        lines.append(f"- {BACKENDS[backend]}: {said}. Commit {commits(found, parts[0].ours)}.")
    return "\n".join(lines + first_calls_in_short(first_calls))


def headline(sampler):
    """The answer in short."""
    affine, others = sections(sampler)[:2]
    first, *_, last = digits(affine.means().values())
    row = affine.rows[0]
    return (
        f"Speed: on TensorFlow, the affine layer is {first} times as fast as PyTorch's "
        f"`affine_grid` and `grid_sample`, and {last} times with its gradients. These are "
        f"geometric means over sizes of images, from {affine.range()}. Other warps: "
        f"{others.in_short()}. Commit {commits(affine.rows, affine.ours)}, {row['cores']} cores of "
        f"{row['processor']}."
    )


def first_calls_in_short(calls):
    seconds = {
        (backend, row["what"], row["figure"], row["contender"]): float(row["median"])
        for backend, rows in calls.items()
        for row in rows
    }

    def added(*figure):
        return seconds["tensorflow", *figure, "ours"] - seconds["tensorflow", *figure, "beside"]

    said = []
    if "tensorflow" in calls:
        said.append(
            "on TensorFlow, a transformer adds "
            f"{added('quick start', 'first fit, s'):.1f} s to the first `fit` of a small "
            f"model; two add {added('two transformers', 'first steps, s'):.1f} s to the "
            "first three steps of a CNN, and "
            f"{added('two transformers', 'smaller batch, s'):.1f} s to its smaller last batch"
        )
    if "jax" in calls:
        median = seconds["jax", "new size, layer with gradients", "median, s", "ours"]
        said.append(f"on JAX, a new image size with both gradients takes {median:.1f} s")
    ours = [row for rows in calls.values() for row in rows if row["contender"] == "ours"]
    commits = " and ".join(sorted({row["commit"] for row in ours}))
    return [f"- First calls: {'; '.join(said)}. Commit {commits}."] if said else []


def against_base(sampler):
    """Geometric means of the other checkout's time divided by ours."""
    compared = [section for section in sections(sampler) if section.has_base]
    if not compared:
        return []
    first = compared[0]
    heads = ["warps", *first.means(first.base)]
    lines = [[f"{s.backend}, {s.kind}", *digits(s.means(s.base).values())] for s in compared]
    before, now = (commits(first.rows, name) for name in (first.base, first.ours))
    return [f"## Time of commit {before} divided by that of {now}", table(heads, lines)]


def pages():
    """The generated part of each page."""
    sampler, first_calls = read("sampler"), read("first_call")
    figures = [answer(sampler, first_calls)]
    every = figures + against_base(sampler)
    for backend, rows in first_calls.items():
        every += [f"## First calls, {BACKENDS[backend]}", tables.of_first_calls(rows)]
    for section in sections(sampler):
        title = f"## {section.backend}, {section.kind}"
        every += [title, tables.of_ratios(section.ratios())]
    training = ["## Training", tables.of_training(tables.read(TRAINING))]
    texts = {
        FOLDER / "README.md": every,
        ROOT / "README.md": [headline(sampler)],
        ROOT / "docs" / "speed.md": figures + training,
    }
    return {page: "\n\n".join(parts) for page, parts in texts.items()}


def main():
    for page, text in pages().items():
        page.write_text(insert(page.read_text(), "benchmarks.report", text))


if __name__ == "__main__":
    main()
