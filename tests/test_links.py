"""The pages that people read, as GitHub shows them: plain Markdown, whose links lead somewhere."""

import pathlib
import re

import markdown_it
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
    inline = [block for block in blocks(path) if block.type in ("heading_open", "inline")]
    followed = zip(inline, inline[1:], strict=False)
    headings = [text.content for opened, text in followed if opened.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_to_files_and_headings(page):
    path = ROOT / page
    for token in tokens(path):
        address = token.attrs.get("href") or token.attrs.get("src") or ""
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
        allowed = "{eval-rst}" if page.startswith("docs/reference/") else ""
        assert not fence.startswith("{") or fence == allowed, f"a directive, {fence}"
        colons = token.type == "text" and token.content.startswith(":::")
        assert not colons, f"a directive, {token.content}"


def test_the_readme_has_at_most_150_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
