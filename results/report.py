"""The runs that the programs of this folder read, and the tables and parts of `README.md` that they
write."""

import csv
import pathlib
import statistics

README = pathlib.Path(__file__).parent / "README.md"
END = "<!-- to here -->"


def rows(folder, files="*-[0-9].csv"):
    """The rows of the runs in a folder: each run's file has one."""
    for path in sorted(folder.glob(files)):
        with path.open() as file:
            (row,) = csv.DictReader(file)
        yield row


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def mean(values):
    """`mean ± standard deviation`, or the only value."""
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def write(program, text):
    """Writes `text` to README.md between the marks of `program`, or at the end with new marks."""
    README.write_text(insert(README.read_text(), program, text))


def insert(document, program, text):
    begin = f"<!-- from here: python -m {program} -->"
    if begin not in document:
        document = f"{document.rstrip()}\n\n{begin}\n{END}\n"
    before, rest = document.split(begin)
    return f"{before}{begin}\n\n{text}\n\n{END}{rest.partition(END)[2]}"
