r"""Links from terms, equations and papers, each with a card that says what it is.

- The first **bold** use of a glossary term on a page leads to the glossary.
- ``(9.4)`` in a sentence leads to the equation with ``\tag{9.4}``.
- A link to a DOI or an arXiv number carries the entry of the bibliography.

What a card says stands in the link's ``title``, so it is there without a script.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from pybtex.database import parse_file
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

GLOSSARY = "book/glossary"
TAG = re.compile(r"\\tag\{(\d{1,2}\.\d{1,2}[a-z]?)\}")
REFERENCE = re.compile(r"\((\d{1,2}\.\d{1,2}[a-z]?)\)")
PAPER = re.compile(r"^https?://(?:dx\.)?(?:doi\.org/|arxiv\.org/(?:abs|pdf)/)(.+?)/?$")
#: Inside these a text is not a sentence.
NOT_TEXT = (nodes.reference, nodes.literal, nodes.literal_block, nodes.title, nodes.raw)


# Terms


def glossary(env: BuildEnvironment) -> dict[str, tuple[str, str]]:
    """Return the anchor and the card of each term, by its name in small letters."""
    found: dict[str, tuple[str, str]] = {}
    if GLOSSARY not in env.found_docs:
        return found
    for item in env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
        terms = list(item.findall(nodes.term))
        meaning = " ".join(next(item.findall(nodes.definition)).astext().split())
        card = " · ".join(term.astext() for term in terms) + ": " + meaning
        for term in terms:
            if term["ids"]:
                name, entry = term.astext().lower(), (term["ids"][0], card)
                found[name] = entry
                found.setdefault(re.sub(r" \(.*\)$", "", name), entry)  # bias (of ...)
    return found


def find_term(text: str, terms: dict[str, tuple[str, str]]) -> str:
    """Return the glossary's name of a term, which may be a plural, or ``""``."""
    name = " ".join(text.lower().split()).strip(".,:;")
    singular = (name, name.removesuffix("s"), re.sub("ies$", "y", name))
    return next((n for n in singular if n in terms), "")


def link_terms(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Let the first bold use of each term lead to the glossary."""
    if page == GLOSSARY:
        return
    if not hasattr(app, "book_terms"):
        app.book_terms = glossary(app.env)
    used = set()
    for strong in list(doctree.findall(nodes.strong)):
        name = find_term(strong.astext(), app.book_terms)
        if not name or name in used or inside(strong, NOT_TEXT):
            continue
        used.add(name)
        anchor, card = app.book_terms[name]
        uri = f"{app.builder.get_relative_uri(page, GLOSSARY)}#{anchor}"
        wrap(strong, uri, card, "card-term")


# Equations


def number_equations(app: Sphinx, doctree: nodes.document) -> None:
    """Give each tagged equation an anchor, and remember where it stands."""
    for block in doctree.findall(nodes.math_block):
        for tag in TAG.findall(block.astext())[:1]:
            block["ids"].append(anchor_of(tag))
            equations(app.env)[tag] = app.env.docname


def equations(env: BuildEnvironment) -> dict[str, str]:
    """Return the page of each tagged equation."""
    if not hasattr(env, "book_equations"):
        env.book_equations = {}
    return env.book_equations


def anchor_of(tag: str) -> str:
    """Return the anchor of an equation: ``eq-9-4`` of ``9.4``."""
    return "eq-" + tag.replace(".", "-")


def forget(app: Sphinx, env: BuildEnvironment, page: str) -> None:
    """Forget the equations of a page that is read again."""
    for tag in [t for t, where in equations(env).items() if where == page]:
        del equations(env)[tag]


def merge(app: Sphinx, env: BuildEnvironment, pages: Any, other: Any) -> None:
    """Take over what another process has read."""
    equations(env).update(equations(other))


def link_equations(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Turn ``(9.4)`` into a link, where such an equation is."""
    known = equations(app.env)
    for text in list(doctree.findall(nodes.Text)):
        if not REFERENCE.search(text) or inside(text, NOT_TEXT):
            continue
        parts: list[nodes.Node] = []
        last = 0
        for match in REFERENCE.finditer(text):
            tag = match.group(1)
            if tag not in known:
                continue
            where = app.builder.get_relative_uri(page, known[tag])
            uri = ("" if known[tag] == page else where) + "#" + anchor_of(tag)
            parts.append(nodes.Text(text[last : match.start()]))
            link = nodes.reference("", f"({tag})", internal=True, refuri=uri)
            link["classes"] += ["card-equation"]
            link["reftitle"] = f"Equation ({tag})" + chapter(tag, page, known)
            parts.append(link)
            last = match.end()
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(text[last:])])


def chapter(tag: str, page: str, known: dict[str, str]) -> str:
    """Say in which chapter an equation stands, if not in this one."""
    return "" if known[tag] == page else f", in chapter {tag.split('.')[0]}"


# Papers


def papers(path: str) -> dict[str, str]:
    """Return what the card of each work says, by DOI and by arXiv number."""
    found = {}
    for entry in parse_file(path).entries.values():
        fields = entry.fields
        card = describe(entry)
        for key in ("doi", "eprint"):
            if key in fields:
                found[fields[key].lower()] = card
        if "eprint" in fields:
            found[f"10.48550/arxiv.{fields['eprint']}".lower()] = card
    return found


def describe(entry: Any) -> str:
    """Return authors, title, place and year of a work, without TeX."""
    fields, people = entry.fields, entry.persons.get("author", [])
    names = [" ".join((*p.prelast_names, *p.last_names)) for p in people]
    if len(names) > 3:
        names = [names[0], "others"]
    who = " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
    place = next((fields[k] for k in ("journal", "booktitle") if k in fields), "")
    ends = filter(None, (place, fields.get("year", "")))
    return re.sub(r"[{}\\]", "", f"{who}: {fields['title']}. {', '.join(ends)}")


def describe_papers(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Give each link to a paper the entry of the bibliography."""
    if not hasattr(app, "book_papers"):
        files = getattr(app.config, "bibtex_bibfiles", [])
        app.book_papers = {}
        for file in files:
            app.book_papers |= papers(f"{app.srcdir}/{file}")
    for link in doctree.findall(nodes.reference):
        match = PAPER.match(link.get("refuri", ""))
        if match is None:
            continue
        key = re.sub(r"(v\d+)?(\.pdf)?$", "", match.group(1).lower())
        if key in app.book_papers and not link.get("reftitle"):
            link["reftitle"] = app.book_papers[key]
            link["classes"] += ["card-paper"]


# Together


def inside(node: nodes.Node, kinds: tuple) -> bool:
    """Whether a node stands somewhere inside one of these kinds."""
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False


def wrap(node: nodes.Element, uri: str, card: str, kind: str) -> None:
    """Put a link with a card around a node."""
    link = nodes.reference("", "", internal=True, refuri=uri, reftitle=card)
    link["classes"] += [kind]
    node.parent.replace(node, link)
    link += node


def make_links(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Add all links and cards to a page."""
    if app.builder.format != "html":
        return
    link_terms(app, doctree, page)
    link_equations(app, doctree, page)
    describe_papers(app, doctree, page)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect everything to Sphinx."""
    app.connect("doctree-read", number_equations)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    app.connect("doctree-resolved", make_links)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
