"""What sphinx is taught for our pages: maths without scripts, pictures with words and size, our docstrings."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from PIL import Image
from sphinx.application import Sphinx
from sphinx.domains.python import ObjectEntry, PythonDomain
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

from docs.executed import ALT
from docs.reference import restructured

_LOG = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, bool]:
    """The entry that sphinx asks an extension for."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.add_domain(Names, override=True)
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("doctree-read", _pictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Names(PythonDomain):
    """Objects of effi; a name that several rooms have, in an annotation that does not say whose, is no link."""

    def find_obj(self, env: BuildEnvironment, *asked: Any) -> list[tuple[str, ObjectEntry]]:
        """What a reference may mean: one object, under all its names, or nothing."""
        # The same few hundred questions come thousands of times, each a walk through all names; names only join.
        question = (len(self.objects), *asked)
        if question not in self._known:
            found = super().find_obj(env, *asked)
            self._known[question] = found if sum(not entry.aliased for _, entry in found) == 1 else []
        return self._known[question]

    @cached_property
    def _known(self) -> dict[tuple[Any, ...], list[tuple[str, ObjectEntry]]]:
        """Answers, by how many names there were and what was asked."""
        return {}


def mathml(tex: str, *, display: str = "inline") -> str:
    """Markup that browsers draw without a script; an unknown command stays in it with its backslash."""
    return convert(tex, display=display)


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    _written(translator, node, "inline")


def _block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append('<div class="math">')
    _written(translator, node, "block", "</div>\n")


def _written(translator: HTML5Translator, node: nodes.Element, display: str, end: str = "") -> None:
    made = mathml(node.astext(), display=display)
    if "\\" in made:
        _LOG.warning("latex2mathml does not know a command of %r", node.astext(), location=node)
    translator.body.append(made + end)
    raise nodes.SkipNode


def _docstring(_app: Sphinx, _what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    lines[:] = restructured("\n".join(lines)).splitlines()


def _pictures(app: Sphinx, page: nodes.document) -> None:
    """Give each picture its size, so that no text jumps while it loads, and its words."""
    told = json.loads(app.env.metadata[app.env.docname].get(ALT, "{}"))
    for picture in page.findall(nodes.image):
        path = Path(app.srcdir, picture["uri"])
        with Image.open(path) as opened:
            picture["width"], picture["height"] = map(str, opened.size)
        picture["alt"] = picture.get("alt") or told.get(path.stem, "")
        picture["loading"] = "lazy"
        if not picture["alt"]:
            _LOG.warning("a picture without words: give it a title", location=picture)
