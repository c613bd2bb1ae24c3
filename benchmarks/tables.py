"""Tables of measurements, from the rows of the CSV files. Ratios are those of medians."""

import csv
import statistics

from results.report import table


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def save(rows, path):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def show(title, text):
    print(f"\n{title}:\n\n{text}", flush=True)


# Warps.


def are_compared(reference, contender):
    """Whether two are compared: ours with PyTorch, and with the other checkout, called alike."""
    return reference in ("PyTorch", contender.replace("ours", "base"))


def ratios(rows, reference, contender):
    """The time of `reference` divided by that of `contender`, by warp and job."""
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


def digits(numbers):
    return [f"{number:.2f}" for number in numbers]


def of_ratios(ratios):
    lines = {**ratios, "geometric mean": means(ratios)}
    heads = ["warp", *lines["geometric mean"]]
    return table(heads, [[name, *digits(found.values())] for name, found in lines.items()])


# First calls.


def of_first_calls(rows):
    names = list(dict.fromkeys(row["contender"] for row in rows))
    cells = {(row["what"], row["figure"], row["contender"]): row for row in rows}
    lines = []
    for what, figure in dict.fromkeys(key[:2] for key in cells):
        found = {name: cells.get((what, figure, name)) for name in names}
        medians = {name: float(row["median"]) for name, row in found.items() if row}
        shown = (f"{medians[name]:.4g}" if name in medians else "–" for name in names)
        lines.append([what, figure, *shown, *kept(medians, found["ours"]["at_most"])])
    heads = [{"beside": "reference"}.get(name, name) for name in names]
    return table(["what", "figure", *heads, "limit", "kept"], lines)


def kept(medians, at_most):
    """The limit of ours, `"1"` or `"reference + 1"`, and whether it is kept."""
    if not at_most:
        return "–", ""
    limit = at_most.removesuffix(" more")
    if limit == at_most:
        return limit, "yes" if medians["ours"] <= float(limit) else "no"
    added = medians["ours"] - medians["beside"]
    return f"reference + {limit}", "yes" if added <= float(limit) else "no"


# Training.


def of_training(rows):
    """Images per second, and a sentence on the pipeline alone."""
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
