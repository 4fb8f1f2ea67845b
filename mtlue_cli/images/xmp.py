"""XMP packets, rebuilt of the few properties that are known to hold no picture.

Source: XMP Specification Part 1 (ISO 16684-1) for the form; IPTC Photo Metadata Standard 2023.2 for the properties.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from xml.etree import ElementTree as etree

from mtlue_cli.choices import MetadataGroup
from mtlue_cli.images.kept_text import kept_text

MOST_BYTES = 1 << 20
"""Of a packet that is read at all."""
MOST_LIST = 512
"""Bytes of all values of one property together: many short texts could be one long one, such as a preview."""
MOST_VALUES = 50
"""Of one property, such as keywords; and parts of a packet that are looked at."""

_BEGIN = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_END = b'<?xpacket end="r"?>'
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_META = "adobe:ns:meta/"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_NAMESPACES = {
    "x": _META,
    "rdf": _RDF,
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "plus": "http://ns.useplus.org/ldf/xmp/1.0/",
    "cc": "http://creativecommons.org/ns#",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
}
_COPYRIGHT, _CAMERA, _TIME, _DESCRIPTION, _PLACE = (
    MetadataGroup.COPYRIGHT,
    MetadataGroup.CAMERA,
    MetadataGroup.TIME,
    MetadataGroup.DESCRIPTION,
    MetadataGroup.PLACE,
)
_PROPERTIES: dict[str, tuple[MetadataGroup, int]] = {
    "dc:creator": (_COPYRIGHT, 128),
    "dc:rights": (_COPYRIGHT, 256),
    "xmpRights:Marked": (_COPYRIGHT, 8),
    "xmpRights:WebStatement": (_COPYRIGHT, 200),
    "xmpRights:UsageTerms": (_COPYRIGHT, 256),
    "photoshop:Credit": (_COPYRIGHT, 128),
    "plus:DataMining": (_COPYRIGHT, 128),
    "cc:license": (_COPYRIGHT, 200),
    "tiff:Make": (_CAMERA, 64),
    "tiff:Model": (_CAMERA, 64),
    "aux:Lens": (_CAMERA, 64),
    "xmp:CreatorTool": (_CAMERA, 64),
    "xmp:CreateDate": (_TIME, 40),
    "exif:DateTimeOriginal": (_TIME, 40),
    "photoshop:DateCreated": (_TIME, 40),
    "dc:title": (_DESCRIPTION, 256),
    "dc:description": (_DESCRIPTION, 512),
    "dc:subject": (_DESCRIPTION, 64),
    "photoshop:Headline": (_DESCRIPTION, 256),
    "exif:GPSLatitude": (_PLACE, 32),
    "exif:GPSLongitude": (_PLACE, 32),
    "exif:GPSAltitude": (_PLACE, 32),
    "exif:GPSAltitudeRef": (_PLACE, 8),
    "photoshop:City": (_PLACE, 64),
    "photoshop:State": (_PLACE, 64),
    "photoshop:Country": (_PLACE, 64),
    "Iptc4xmpCore:CountryCode": (_PLACE, 8),
    "Iptc4xmpCore:Location": (_PLACE, 128),
}
"""Property to its group and the most bytes of each of its values."""

_ARRAYS = ("Alt", "Bag", "Seq")
_LANGUAGE_TAG = re.compile(r"[A-Za-z0-9-]{1,20}")


def rebuilt_xmp(packet: bytes, groups: Collection[MetadataGroup]) -> bytes | None:
    """What ``packet`` says of ``groups``, as a packet; None where that is nothing, or it cannot be read."""
    if len(packet) > MOST_BYTES:
        return None
    try:
        text = packet.decode("utf-8-sig").strip("\0 \t\r\n")
        if "<!" in text:  # what declares entities, which may grow without end
            return None
        found = etree.fromstring(text)
    except (etree.ParseError, ValueError):
        return None
    made = etree.Element(f"{{{_META}}}xmpmeta")
    description = etree.SubElement(etree.SubElement(made, f"{{{_RDF}}}RDF"), f"{{{_RDF}}}Description")
    description.set(f"{{{_RDF}}}about", "")
    given = [one for rdf in found.iter(f"{{{_RDF}}}RDF") for one in rdf.findall(f"{{{_RDF}}}Description")]
    for name, (group, most) in _PROPERTIES.items():
        if group in groups:
            kept = [_kept(value, _qualified(name), most) for value in _values(given[:MOST_VALUES], _qualified(name))]
            description.extend([one for one in kept if one is not None][:1])
    if not len(description):
        return None
    for prefix, uri in _NAMESPACES.items():
        etree.register_namespace(prefix, uri)
    content: bytes = etree.tostring(made, encoding="utf-8", xml_declaration=False)
    return _BEGIN + content + _END


def _qualified(name: str) -> str:
    prefix, local = name.split(":")
    return f"{{{_NAMESPACES[prefix]}}}{local}"


def _values(descriptions: Sequence[etree.Element], qualified: str) -> Iterator[etree.Element | str]:
    """What descriptions say of a property: an element, or the value of an attribute."""
    for description in descriptions:
        if qualified in description.attrib:
            yield description.attrib[qualified]
        yield from description.findall(qualified)


def _kept(given: etree.Element | str, qualified: str, most: int) -> etree.Element | None:
    """The property with its text, or with the texts of its list; None if nothing of it may be kept."""
    made = etree.Element(qualified)
    if isinstance(given, str) or not len(given):
        address = None if isinstance(given, str) else given.get(f"{{{_RDF}}}resource")
        made.text = kept_text((given if isinstance(given, str) else address or given.text) or "", most)
        return None if made.text is None else made
    array = next((part for part in given if part.tag in {f"{{{_RDF}}}{kind}" for kind in _ARRAYS}), None)
    if array is None:
        return None
    items = etree.SubElement(made, array.tag)
    left = MOST_LIST
    for item in array.findall(f"{{{_RDF}}}li")[:MOST_VALUES]:
        text = kept_text(item.text or "", most)
        if text is not None and not len(item) and (left := left - len(text.encode())) >= 0:
            kept = etree.SubElement(items, f"{{{_RDF}}}li")
            kept.text = text
            if _LANGUAGE_TAG.fullmatch(language := item.get(_LANGUAGE, "")):
                kept.set(_LANGUAGE, language)
    return made if len(items) else None
