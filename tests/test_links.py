"""The pages that people read are plain Markdown, as GitHub shows it, without dead links."""

import pathlib
import re

import markdown_it  # which Keras installs
import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "results/README.md",
    "results/TRIALS.md",
    *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/**/*.md"))),
]
each_page = pytest.mark.parametrize("page", PAGES)


def blocks(path):
    return markdown_it.MarkdownIt("commonmark").enable("table").parse(path.read_text())


def tokens(path):
    return [token for block in blocks(path) for token in (block, *(block.children or ()))]


def anchors(path):
    """GitHub's names of the headings of a page."""
    found = blocks(path)
    opened = [number for number, block in enumerate(found) if block.type == "heading_open"]
    headings = [found[number + 1].content for number in opened]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def addresses(path):
    """The addresses of the links and pictures of a page, also of its HTML."""
    for token in tokens(path):
        yield from (token.attrs[name] for name in ("href", "src") if name in token.attrs)
        if token.type.startswith("html"):
            yield from re.findall(r'\b(?:href|src)="([^"]+)"', token.content)


@each_page
def test_links_lead_to_files_and_headings(page):
    path = ROOT / page
    for address in addresses(path):
        if "://" in address:
            continue
        name, _, anchor = address.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), address
        assert not anchor or anchor in anchors(target), address


@each_page
def test_pages_hold_nothing_that_only_sphinx_understands(page):
    for token in tokens(ROOT / page):
        role = token.type == "text" and re.search(r"\{[\w:]+\}$", token.content)
        assert not role, f"a role, {token.content}: write a link or a name in code font"
        fence = token.info if token.type == "fence" else ""
        assert not fence.startswith("{"), f"a directive, {fence}: hide it in a comment"
        colons = token.type == "text" and token.content.startswith(":::")
        assert not colons, f"a directive, {token.content}: hide it in a comment"


@pytest.mark.parametrize("folder", ["docs", "docs/reference"])
def test_an_index_links_every_page_beside_it(folder):
    index = ROOT / folder / "index.md"
    pages = {path.name for path in index.parent.glob("*.md")} - {"index.md"}
    assert pages <= set(addresses(index))


def test_the_readme_has_at_most_130_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_the_files_that_contributing_names_define_what_it_says():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    found = re.findall(r"((?:`\w+`(?:, | and )?)+) in \[[^]]+\]\(([^)]+\.py)\)", text)
    assert len(found) > 10
    for names, path in found:
        for name in re.findall(r"\w+", names.replace(" and ", " ")):
            defined = re.search(rf"^(def |class )?{name}\b", (ROOT / path).read_text(), re.M)
            assert defined, f"{path} has no {name}"
