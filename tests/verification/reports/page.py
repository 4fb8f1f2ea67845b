"""A page as a test reads it: elements with their text, and every address that it would load from."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "polyline", "line", "circle"}
ADDRESS = {"src", "href", "xlink:href", "srcset", "action", "data", "poster", "background", "formaction"}


@dataclass
class Element:
    """One element; its text includes that of its children."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    children: list["Element"] = field(default_factory=list)

    def all(self, tag: str, **attributes: str) -> list["Element"]:
        """Every descendant of this tag whose attributes hold the given words; ``cls`` stands for ``class``."""
        wanted = {key.replace("cls", "class"): word for key, word in attributes.items()}
        found: list[Element] = []
        for child in self.children:
            if child.tag == tag and all(word in child.attributes.get(key, "").split() for key, word in wanted.items()):
                found.append(child)
            found += child.all(tag, **attributes)
        return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("root", {})
        self.path = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.path[-1].children.append(element)
        if tag not in VOID:
            self.path.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.path[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.path[-1].tag == tag, f"</{tag}> closes <{self.path[-1].tag}>, line {self.getpos()[0]}"
        self.path.pop()

    def handle_data(self, data: str) -> None:
        for element in self.path:
            element.text += data


def read_page(text: str) -> Element:
    """The elements of a page, each of which must be closed where it was opened."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.path == [reader.root], f"<{reader.path[-1].tag}> is not closed"
    return reader.root


def addresses(page: Element) -> list[str]:
    """Everything that a browser could load: attributes that hold an address, and ``url()`` and imports in styles."""
    found: list[str] = []
    for element in page.children:
        found += [value for name, value in element.attributes.items() if name in ADDRESS]
        styles = element.attributes.get("style", "") + (element.text if element.tag == "style" else "")
        found += re.findall(r"url\(\s*['\"]?([^'\")]*)", styles) + re.findall(r"@import\s+([^;]*)", styles)
        found += addresses(element)
    return found
