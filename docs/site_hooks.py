"""What mkdocs runs as it builds the site."""

import re


def on_page_content(html: str, **_: object) -> str:
    """Drop Sphinx's roles, such as ``:meth:``, before the names in docstrings."""
    return re.sub(r":(?:attr|class|data|func|meth|mod):(?=<code>)", "", html)
