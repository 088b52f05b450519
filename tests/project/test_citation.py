"""CITATION.cff is whole, valid and says what the package and the book say."""

import datetime
import re

import pytest
import yaml

import leakfree

# What version 1.2.0 of the format requires and allows, as far as this file needs it.
REQUIRED = {"cff-version", "message", "title", "authors"}
ALLOWED = REQUIRED | {
    "abstract",
    "type",
    "version",
    "date-released",
    "license",
    "keywords",
    "references",
    "repository-code",
    "url",
    "doi",
    "identifiers",
    "contact",
    "preferred-citation",
}
REFERENCE_REQUIRED = {"type", "title", "authors"}
REFERENCE_ALLOWED = REFERENCE_REQUIRED | {
    "year", "version", "publisher", "doi", "license", "journal", "volume", "issue", "start", "end", "url",
}  # fmt: skip
REFERENCE_TYPES = {"article", "book", "data", "database", "software", "report", "conference-paper"}
DOI = re.compile(r"^10\.\d{4,9}(\.\d+)?/[A-Za-z0-9:/_;\-.()\[\]\\]+$")


@pytest.fixture(scope="module")
def citation(repository):
    return yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))


def well_formed(authors):
    """Whether authors are entities or persons of the format."""
    return authors and all(
        set(author) == {"name"} or set(author) <= {"family-names", "given-names", "orcid", "name-particle"}
        for author in authors
    )


def test_it_is_a_citation_file(citation):
    assert citation["cff-version"] == "1.2.0"
    assert set(citation) >= REQUIRED | {"abstract", "version", "date-released", "license", "keywords"}
    assert set(citation) <= ALLOWED
    assert citation["type"] == "software"
    assert citation["authors"] == [{"name": "The leakfree authors"}]
    assert len(citation["keywords"]) == len(set(citation["keywords"])) >= 3
    # The format wants text, which YAML would read as a date without the quotes.
    assert isinstance(citation["date-released"], str)
    assert datetime.date.fromisoformat(citation["date-released"])


def test_references_are_those_of_the_format(citation):
    assert len(citation["references"]) >= 3
    for reference in citation["references"]:
        assert REFERENCE_REQUIRED <= set(reference) <= REFERENCE_ALLOWED, reference["title"]
        assert reference["type"] in REFERENCE_TYPES
        assert well_formed(reference["authors"]), reference["title"]
        assert DOI.match(reference["doi"])
        assert isinstance(reference.get("publisher", {"name": ""}), dict)


def test_references_are_in_the_book(citation, repository):
    text = (repository / "book" / "references.bib").read_text(encoding="utf-8")
    for reference in citation["references"]:
        assert f"{{{reference['doi']}}}" in text


def test_it_agrees_with_package_and_book(citation, repository):
    assert citation["version"] == leakfree.__version__
    project = (repository / "pyproject.toml").read_text(encoding="utf-8")
    assert f'license = "{citation["license"]}"' in project
    assert 'version = { attr = "leakfree.__version__" }' in project
    book = yaml.safe_load((repository / "book" / "_config.yml").read_text(encoding="utf-8"))
    assert citation["title"] == book["title"]
    assert citation["authors"][0]["name"] == book["author"]
    assert f"{citation['authors'][0]['name']}" in project
    name = citation["title"].partition(":")[0]
    assert f'name = "{name}"' in project
