"""A figure as a notebook shows it."""

import base64
import xml.etree.ElementTree as ElementTree

from leakfree_study.run.shown import ShownFigure


def test_the_page_holds_file_caption_and_alternative_text(tmp_path):
    path = tmp_path / "06_forest.svg"
    path.write_bytes(b"<svg/>")
    shown = ShownFigure(path, "A < B & C.", 'Says "so".')
    figure = ElementTree.fromstring(shown._repr_html_().replace('">' + "<figcaption", '"/><figcaption'))
    assert figure.attrib == {"class": "leakfree-figure", "id": "fig-06_forest", "data-figure": "06_forest"}
    image, caption = figure
    assert image.attrib["alt"] == 'Says "so".'
    kind, data = image.attrib["src"].split(",")
    assert kind == "data:image/svg+xml;base64"
    assert base64.b64decode(data) == b"<svg/>"
    assert caption.text == "A < B & C."
    assert repr(shown) == "Figure: A < B & C."
