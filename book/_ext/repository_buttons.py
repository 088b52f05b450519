"""Sphinx extension that turns on every button that leads to the repository, by one setting.

The setting is ``repository: url`` in ``_config.yml``, or the environment variable ``LEAKFREE_REPOSITORY``,
which a fork's workflow sets without changing a file. With an address, pages get buttons to the repository,
to suggest an edit, to open an issue and, where they are notebooks, to run them in JupyterLab on Binder.
Without one, no button leads outside.
"""

from __future__ import annotations

import os
import re

from run_pages import RUN_PAGES
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

BINDER = "https://mybinder.org"
#: Where the notebooks and the book's sources are in the repository.
NOTEBOOKS, BOOK = "notebooks/", "book"
_ADDRESS = re.compile(r"https://(?:[\w-]+\.)*(?:github|gitlab)\.[\w.-]+/[\w.-]+/[\w.-]+")


def turn_on(app: Sphinx, config: Config) -> None:
    """Set the options of the theme that make the buttons.

    Raises
    ------
    ConfigError
        The address is not one of a repository on GitHub or GitLab.
    """
    options = config.html_theme_options
    url = os.environ.get("LEAKFREE_REPOSITORY") or options.get("repository_url") or ""
    url = url.strip().removesuffix("/").removesuffix(".git")
    if url and not _ADDRESS.fullmatch(url):
        raise ConfigError(
            f"repository: url {url!r} is not https://github.com/OWNER/NAME (or GitLab's like it)"
        )
    options["repository_url"] = url
    options["repository_branch"] = options.get("repository_branch") or "main"
    options["path_to_docs"] = BOOK
    for button in ("use_repository_button", "use_edit_page_button", "use_issues_button"):
        options[button] = bool(url)
    launch = {"notebook_interface": "jupyterlab", "binderhub_url": BINDER}
    options["launch_buttons"] = launch if url else {}


def lead_to_the_notebook(
    app: Sphinx, page: str, template: str, context: dict[str, object], doctree: object
) -> None:
    """Let the buttons of a page that a run gave lead to its notebook, which has no copy below ``book/``."""
    if page.startswith(RUN_PAGES):
        staged = f"/{BOOK}/{page}.ipynb"
        notebook = f"/{NOTEBOOKS}{page.removeprefix(RUN_PAGES)}.ipynb"
        for button in context.get("header_buttons", []):
            for inner in (button, *button.get("buttons", ())):
                if "url" in inner:
                    inner["url"] = inner["url"].replace(staged, notebook)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension."""
    app.connect("config-inited", turn_on)
    # The theme makes its buttons at priority 501.
    app.connect("html-page-context", lead_to_the_notebook, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
