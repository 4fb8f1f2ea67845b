import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtlue_cli.verification.document import VerifyDocument
from mtlue_cli.verification.reports.html import LISTED_FAULTS, Sample, draw_samples, write_html
from mtlue_cli.verification.reports.wording import NOTHING
from tests.verification.reports import documents
from tests.verification.reports.page import Element, addresses, read_page

STYLE = (Path(write_html.__code__.co_filename).parent / "report.css").read_text(encoding="utf-8")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _samples() -> tuple[Sample, ...]:
    original = np.full((4, 5, 3), 100, dtype=np.uint8)
    return draw_samples([original], [original + 8])


def _page(document: VerifyDocument) -> Element:
    return read_page(write_html(document, _samples()))


def _words(element: Element) -> str:
    return " ".join(element.text.split())


def _heat(page: Element) -> dict[str, list[tuple[str, str]]]:
    """Row to its cells: text and class."""
    (table,) = page.all("table", cls="heat")
    (body,) = table.all("tbody")
    return {
        _words(row.all("th")[0]): [(_words(cell), cell.attributes["class"]) for cell in row.all("td")]
        for row in body.all("tr")
    }


@pytest.mark.parametrize(
    ("document", "word", "sign"),
    [
        (documents.protected(), "Protected", "✔"),
        (documents.not_protected(), "Not protected", "✖"),
        (documents.inconclusive(), "Inconclusive", "?"),
    ],
    ids=["protected", "not protected", "inconclusive"],
)
def test_the_verdict_stands_at_the_top_in_word_and_sign(document: VerifyDocument, word: str, sign: str) -> None:
    page = _page(document)
    (main,) = page.all("main")
    assert main.children[0].tag == "header"
    assert _words(main.children[0].all("h1")[0]) == word
    assert _words(main.children[0].all("div", cls="sign")[0]) == sign
    assert document.reason in main.children[0].text


def test_the_heat_map_shows_every_task_and_condition_worst_first() -> None:
    page = _page(documents.protected())
    (head,) = page.all("table", cls="heat")[0].all("thead")
    names = [_words(cell) for cell in head.all("th")]
    assert names == ["task", "resnet18 + jpeg-10 worst", "resnet18 + none", "resnet18 + noise control"]
    # The gate is 0.25, a colour 0.25 wide: 0.14 is in the first step below, -0.4 in the third, 0.98 in the third above.
    assert _heat(page) == {
        "average": [("0.14", "below-1"), ("-0.15", "below-2"), ("0.98▲", "above-3")],
        "age": [("-0.02", "below-2"), ("-0.40", "below-3"), ("0.97▲", "above-3")],
        "race": [("0.30▲", "above-1"), ("0.10", "below-1"), ("0.99▲", "above-3")],
        "gender": [(NOTHING, "none"), (NOTHING, "none"), ("", "none")],
        "glasses": [("(1.02)", "open"), ("(0.90)", "open"), ("", "none")],
    }


def test_the_best_epoch_decides_in_facts_map_and_table() -> None:
    page = _page(documents.stopped_early(seeds=2))
    (facts,) = page.all("dl", cls="facts")
    assert "learned 0.75 (0.69 to 0.81) (best epoch)" in _words(facts)
    assert _heat(page)["average"] == [
        ("0.75▲ (best epoch)", "above-3"),
        ("0.20", "below-1"),
        ("0.90▲", "above-3"),
    ]
    rows = page.all("table", cls="plain")[0].all("tbody")[0].all("tr")
    cells = [_words(cell) for cell in rows[0].all("td")]
    assert cells[:4] == ["✖ above", "0.750.69 to 0.81 (best epoch)", "0.13", "0.75"]
    assert cells[4].startswith("80.0")
    assert "(best epoch)" not in _words(rows[3])


def test_every_heat_cell_has_its_row_and_column_header() -> None:
    (table,) = _page(documents.not_protected()).all("table", cls="heat")
    assert {cell.attributes.get("scope") for cell in table.all("thead")[0].all("th")} == {"col"}
    assert {cell.attributes.get("scope") for cell in table.all("tbody")[0].all("th")} == {"row"}


def test_intervals_show_where_several_seeds_were_run() -> None:
    assert "0.56 to 0.68" in _page(documents.not_protected()).text
    single = _page(documents.not_protected(seeds=1))
    assert "0.56 to 0.68" not in single.text
    assert not single.all("span", cls="interval")


def test_the_interval_over_test_images_decides_where_confidence_is_asked_for() -> None:
    page = _page(documents.undecided())
    (row,) = page.all("table", cls="plain")[0].all("tbody")[0].all("tr")
    assert [_words(cell) for cell in row.all("td")[:2]] == ["? undecided", "0.200.05 to 0.37"]
    assert "the 95 % interval decides" in page.text
    assert "of which 0 above the gate, 1 undecided" in page.text


def test_conditions_tell_gate_and_what_is_half_recovered() -> None:
    table = _page(documents.not_protected()).all("table", cls="plain")[0]
    rows = {_words(row.all("th")[0]): row for row in table.all("tbody")[0].all("tr")}
    assert next(iter(rows)) == "resnet18 + regression Label regression recovers over half"
    gates = [_words(row.all("td")[0]) for row in rows.values()]
    assert gates == ["✖ above", "✔ below", "✔ below", NOTHING, NOTHING]


def test_a_failed_audit_shows_its_faults_and_no_table() -> None:
    page = _page(documents.failed_audit(LISTED_FAULTS + 3))
    faults = page.all("ul", cls="faults")[0].all("li")
    assert len(faults) == LISTED_FAULTS
    assert _words(faults[1]) == "00001.png: its bytes are not those of the manifest"
    assert "3 more faults" in page.text
    assert not page.all("table", cls="heat")


def test_all_parts_of_the_document_are_there() -> None:
    document = documents.protected()
    text = _words(_page(document))
    for part in (
        str(document.warning),
        document.command_line,
        document.device,
        document.digest,
        document.notes[0],
        document.probes[0].meaning,
        documents.AUDIT.notes[0],
        str(documents.AUDIT.trace),
        "vit-b-16 left out by --tier smoke",
        "auroc 0.987",
        "torch 2.15.0",
        "epochs 4",
        "exit code 0",
        "1,600 for training, 400 for testing",
        "FLIP 0.150 (mean of 24 images; 0 = identical",
    ):
        assert part in text
    assert "No released file was checked" not in text


def test_a_generator_has_no_audit() -> None:
    text = _page(documents.generator()).text
    assert "No released file was checked" in text
    assert "Nothing that this run was to cover was left out" in text


def test_samples_appear_as_pictures_with_a_description() -> None:
    page = _page(documents.protected())
    pictures = page.all("img")
    assert [picture.attributes["alt"] for picture in pictures] == [
        "original 1",
        "protected 1",
        "change of 1, 10 times as strong",
    ]
    assert "5 \N{MULTIPLICATION SIGN} 4 pixels, changed by at most 8/255" in page.text
    assert not read_page(write_html(documents.protected())).all("img")


def test_names_of_any_kind_stay_text() -> None:
    page = _page(documents.hostile())
    assert not page.all("script")
    assert documents.HOSTILE[0] in page.text
    assert documents.HOSTILE[1] in _heat(page)
    assert "{{ 7 * 7 }}" in page.text
    assert "\x00" not in page.text
    write_html(documents.hostile()).encode("utf-8")


@pytest.mark.parametrize("make", [documents.protected, documents.hostile, documents.failed_audit])
def test_nothing_is_loaded_from_anywhere(make: Any) -> None:  # noqa: ANN401 - a maker of documents
    page = _page(make())
    found = addresses(page)
    assert any(address.startswith("data:image/png;base64,") for address in found)
    assert [address for address in found if not address.startswith(("data:", "#"))] == []
    policies = [meta.attributes["content"] for meta in page.all("meta") if "http-equiv" in meta.attributes]
    assert [policy.split("; ")[:3] for policy in policies] == [
        ["default-src 'none'", "style-src 'unsafe-inline'", "img-src data:"]
    ]


def test_the_check_itself_finds_addresses() -> None:
    page = read_page(
        '<p style="background: url(a.png)"><style>@import "b.css"; i { src: url("c") }</style><img src="d"></p>'
    )
    assert addresses(page) == ["a.png", "c", '"b.css"', "d"]


def test_links_within_the_page_lead_somewhere() -> None:
    page = _page(documents.protected())
    targets = {link.attributes["href"].removeprefix("#") for link in page.all("a")}
    assert targets == {"not-tested"}
    assert targets <= {heading.attributes.get("id") for heading in page.all("h2")}


def test_forty_tasks_by_twenty_five_conditions() -> None:
    text = write_html(documents.large(40, 25))
    page = read_page(text)
    rows = _heat(page)
    assert len(rows) == 41
    assert {len(cells) for cells in rows.values()} == {25}
    assert "upright" in page.all("table", cls="heat")[0].attributes["class"]
    assert len(text) < 1_000_000


def test_the_same_document_gives_the_same_page() -> None:
    assert write_html(documents.protected(), _samples()) == write_html(documents.protected(), _samples())


def _palettes() -> dict[str, dict[str, str]]:
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.S)
    )
    return {"light": light, "dark": {**light, **dark}}


def _luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(first: str, second: str) -> float:
    high, low = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_figure_can_be_read_on_its_colour(mode: str) -> None:
    palette = _palettes()[mode]
    rules = re.findall(
        r"\.(?:below|above)-\d \{ background: var\(--([\w-]+)\); color: (?:var\(--(\w+)\)|(#\w{6}));", STYLE
    )
    assert len(rules) == 8
    pairs = [(palette[ground], palette[name] if name else colour) for ground, name, colour in rules]
    pairs += [
        (palette["ground"], palette[ink]) for ink in ("ink", "soft", "good", "bad", "link", "test", "train", "level")
    ]
    pairs += [(palette[f"{kind}-ground"], palette[kind]) for kind in ("good", "bad", "open")]
    assert [(ground, ink) for ground, ink in pairs if _contrast(ground, ink) < 4.5] == []


def _browse(page: Path, folder: Path) -> tuple[str, list[str], list[str]]:
    """Open a page in headless Chromium.

    Returns:
        The document as the browser sees it, console lines, and addresses that the page itself asked for.
    """
    assert CHROMIUM is not None
    log = folder / "net.json"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-component-update"]
    command += ["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"]
    command += ["--v=0", f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--dump-dom", page.as_uri()]
    opened = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=True, env={**os.environ, "HOME": str(folder)}
    )
    events = [event.get("params", {}) for event in json.loads(log.read_text(encoding="utf-8"))["events"]]
    # What the browser does on its own account has no origin.
    asked = [one["url"] for one in events if one.get("initiator", "not an origin") != "not an origin"]
    console = [line for line in opened.stderr.splitlines() if ":CONSOLE:" in line]
    return opened.stdout, console, [url for url in asked if not url.startswith(("data:", page.as_uri()))]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("make", [documents.protected, documents.hostile, documents.large])
def test_a_browser_shows_it_without_complaint_or_request(make: Any, tmp_path: Path) -> None:  # noqa: ANN401 - a maker
    page = tmp_path / "report.html"
    page.write_text(write_html(make(), _samples()), encoding="utf-8")
    seen, console, asked = _browse(page, tmp_path)
    assert "<h1>" in seen
    assert (console, asked) == ([], [])


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_browser_would_have_complained(tmp_path: Path) -> None:
    text = write_html(documents.protected()).replace("<main>", '<main><img src="http://example.invalid/x.png">')
    guarded, open_page = tmp_path / "guarded.html", tmp_path / "open.html"
    guarded.write_text(text, encoding="utf-8")
    open_page.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text), encoding="utf-8")
    assert "violates" in "".join(_browse(guarded, tmp_path)[1])
    assert _browse(open_page, tmp_path)[2] == ["http://example.invalid/x.png"]


def test_labels_of_every_pixel_stand_beside_their_image() -> None:
    original = np.full((4, 5, 3), 100, dtype=np.uint8)
    maps = [{"segmentation": original, "de<pth": original}]
    samples = draw_samples([original] * 2, [original] * 2, maps * 2)
    page = read_page(write_html(documents.protected(), samples))
    pictures = [element.attributes["alt"] for element in page.all("img")]
    assert pictures[-2:] == ["label of 2: segmentation", "label of 2: de<pth"]
    assert "Below them the labels of every pixel: segmentation, de<pth." in _words(page)
    assert "labels of every pixel" not in _words(_page(documents.protected()))
