"""Writes the figures of speed from the CSV files in this folder to the pages that show them.

    python -m benchmarks.report

Ratios are of medians.
"""

import csv
import pathlib
import statistics

from results.report import insert, table

FOLDER = pathlib.Path(__file__).parent
ROOT = FOLDER.parent
TRAINING = FOLDER / "training.csv"
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch backend"}
WARPS = {"affine": "affine layer", "warps": "other warps", "dense": "displacements"}


def read(program):
    """The rows of a program's CSV files by backend."""
    paths = {backend: FOLDER / f"{program}-{backend}.csv" for backend in BACKENDS}
    return {backend: read_file(path) for backend, path in paths.items() if path.exists()}


def read_file(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# Ratios.


def are_compared(reference, contender):
    """Ours with PyTorch, and with the other checkout's called the same way."""
    return reference in ("PyTorch", contender.replace("ours", "base"))


def ratios(rows, reference, contender):
    """By warp and job, how many times as long as `contender` the `reference` takes."""
    times = {(row["warp"], row["job"], row["contender"]): float(row["median_ms"]) for row in rows}
    found = {}
    for (warp, job, name), time in times.items():
        if name == contender:
            found.setdefault(warp, {})[job] = times[warp, job, reference] / time
    return found


def means(ratios):
    """Geometric means over the warps, by job."""
    jobs = next(iter(ratios.values()))
    return {job: statistics.geometric_mean(found[job] for found in ratios.values()) for job in jobs}


def with_means(ratios):
    """The heads and lines of a table of ratios."""
    lines = {**ratios, "geometric mean": means(ratios)}
    heads = ["warp", *lines["geometric mean"]]
    return heads, [[name, *map("{:.2f}".format, found.values())] for name, found in lines.items()]


class Section:
    """The rows of one backend and one table of warps, and ours as Keras calls it by default."""

    def __init__(self, backend, kind, rows):
        self.rows = rows
        names = {row["contender"] for row in rows}
        self.ours = max(name for name in names if name.startswith("ours"))  # "default" is last
        base = self.ours.replace("ours", "base")
        self.base = base if base in names else None
        self.title = f"{BACKENDS[backend]}, {WARPS[kind]}"
        self.kind = WARPS[kind]

    def commits(self, contender):
        return dict.fromkeys(row["commit"] for row in self.rows if row["contender"] == contender)

    def ratios(self, reference="PyTorch"):
        return ratios(self.rows, reference, self.ours)

    def means(self):
        return ", ".join(map("{:.2f}".format, means(self.ratios()).values()))

    def range(self):
        every = [ratio for found in self.ratios().values() for ratio in found.values()]
        return f"{min(every):.2f} to {max(every):.2f}"


def sections(measured=None):
    """`{backend: [section of each table of warps]}`, of the CSV files or the rows given."""
    return {
        backend: [
            Section(backend, kind, [row for row in rows if row["table"] == kind])
            for kind in WARPS
            if any(row["table"] == kind for row in rows)
        ]
        for backend, rows in (measured or read("sampler")).items()
    }


# Texts.


def answer():
    """The sampler's figures in a few lines."""
    found = sections()
    rows = [row for those in found.values() for section in those for row in section.rows]
    jobs = list(dict.fromkeys(row["job"] for row in rows))
    machines = dict.fromkeys(f"{row['cores']} cores of {row['processor']}" for row in rows)
    gpus = {row["device"] for row in rows} - {"CPU"}
    orders = ", ".join(job.replace("+ ", "with the ") for job in jobs)
    lines = [
        "PyTorch's time divided by ours: above 1, ours is faster. Geometric means "
        f"{orders}; in parentheses, the slowest and the fastest warp. {', '.join(machines)}; GPU: "
        f"{', '.join(sorted(gpus)) or 'not measured'}.",
        "",
    ]
    for backend, those in found.items():
        commits = dict.fromkeys(
            commit for section in those for commit in section.commits(section.ours)
        )
        said = "; ".join(map(summary, those))
        lines.append(f"- {BACKENDS[backend]}: {said}. Commit {', '.join(commits)}.")
    return "\n".join(lines + waits_in_short())


def headline():
    """The answer in one sentence."""
    affine, others, *_ = sections()["tensorflow"]
    jobs = ", ".join(job.replace("+ ", "with the ") for job in means(affine.ratios()))
    row = affine.rows[0]
    return (
        f"On TensorFlow and {row['cores']} cores of {row['processor']}, the affine layer is "
        f"{affine.means()} times as fast as PyTorch's `affine_grid` and `grid_sample` ({jobs}; "
        f"geometric means of warps that are {affine.range()} times as fast); other warps "
        f"{others.means()}. Commit {', '.join(affine.commits(affine.ours))}."
    )


def summary(section):
    return f"{section.kind} {section.means()} ({section.range()})"


def waits_in_short():
    calls = read("first_call")
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
            f"{added('quick start', 'first fit, s'):.1f} s to a small model's first `fit`, two add "
            f"{added('two transformers', 'first steps, s'):.1f} s to the first three steps of a "
            f"CNN and {added('two transformers', 'smaller batch, s'):.1f} s to a smaller last batch"
        )
    if "jax" in calls:
        median = seconds["jax", "new size, layer with gradients", "median, s", "ours"]
        said.append(f"on JAX, a new image size with both gradients takes {median:.1f} s")
    return [f"- First calls: {'; '.join(said)}."] if said else []


def against_base(measured=None):
    """Geometric means of the other checkout's time divided by ours."""
    compared = [s for those in sections(measured).values() for s in those if s.base]
    if not compared:
        return []
    lines = [
        [section.title, *map("{:.2f}".format, means(section.ratios(section.base)).values())]
        for section in compared
    ]
    first = compared[0]
    before, now = (" ".join(first.commits(name)) for name in (first.base, first.ours))
    heads = ["warps", *means(first.ratios(first.base))]
    return [f"## Time of commit {before} divided by that of {now}", table(heads, lines)]


def waits():
    """What is slow the first time."""
    found = []
    for backend, rows in read("first_call").items():
        found += [f"### {BACKENDS[backend]}, first calls", table(*first_calls(rows))]
    return found


def first_calls(rows):
    """The heads and lines of a table of first calls."""
    names = list(dict.fromkeys(row["contender"] for row in rows))
    cells = {(row["what"], row["figure"], row["contender"]): row for row in rows}
    lines = []
    for what, figure in dict.fromkeys(key[:2] for key in cells):
        found = {name: cells.get((what, figure, name)) for name in names}
        medians = {name: float(row["median"]) for name, row in found.items() if row}
        shown = (f"{medians[name]:.4g}" if name in medians else "–" for name in names)
        lines.append([what, figure, *shown, *met(medians, found["ours"]["at_most"])])
    return ["what", "figure", *names, "at most", "met"], lines


def met(medians, at_most):
    """The limit of ours, `"1 more"` than what is beside it or `"1"`, and whether it is met."""
    if not at_most:
        return "–", ""
    beside = medians["beside"] if at_most.endswith("more") else 0
    limit = float(at_most.removesuffix(" more"))
    return at_most, "yes" if medians["ours"] - beside <= limit else "no"


def ratio_tables():
    found = []
    for section in [s for those in sections().values() for s in those]:
        found += [f"### {section.title}", table(*with_means(section.ratios()))]
    return found


def training(rows):
    """Images per second of training, and of the pipeline alone."""
    rates = {row["contender"]: row for row in rows if row["task"] == "training"}
    (alone,) = (row for row in rows if row["task"] == "loading")
    theirs = rates.get("PyTorch, float32")
    lines = []
    for name, row in rates.items():
        median, low, high = (float(row[field]) for field in ("median", "min", "max"))
        ratio = f"{median / float(theirs['median']):.2f}" if theirs not in (None, row) else "–"
        lines.append([name, f"{median:,.0f}", f"{low:,.0f} … {high:,.0f}", ratio])
    loaded, trained = (float(row["median"]) for row in (alone, rates[alone["contender"]]))
    heads = ["training", "images/s, median", "min … max", "ours ÷ PyTorch"]
    return (
        f"Medians of {alone['rounds']} rounds, batches of {alone['batch_size']}, {alone['cores']} "
        f"cores of {alone['processor']}.\n\n{table(heads, lines)}\n\nThe pipeline alone delivers "
        f"{loaded:,.0f} images/s, {loaded / trained:.0f} times as many as training consumes."
    )


def pages():
    """The generated part of each page."""
    tables = [*against_base(), *waits(), "## Ratios of each warp", *ratio_tables()]
    trained = training(read_file(TRAINING))
    return {
        FOLDER / "README.md": "\n\n".join([answer(), *tables]),
        ROOT / "README.md": headline(),
        ROOT / "docs" / "speed.md": "\n\n".join([answer(), "## Training", trained]),
    }


def main():
    for page, text in pages().items():
        page.write_text(insert(page.read_text(), "benchmarks.report", text))


if __name__ == "__main__":
    main()
