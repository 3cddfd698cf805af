"""Draw tables that stay readable on a narrow screen: there, each row is a block, and each cell has its heading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from siliconflow_provider.drawing.markup import Child, Markup, element


def table(headings: Sequence[str], rows: Iterable[Sequence[Child]], caption: str | None = None) -> Markup:
    """Return a table.

    :param rows: the cells of each row, in the order of the headings
    """
    head = element("tr", *(element("th", heading, scope="col") for heading in headings))
    body = [
        element(
            "tr", *(element("td", cell, data_label=heading) for heading, cell in zip(headings, row, strict=True))
        )
        for row in rows
    ]  # fmt: skip
    title = element("caption", caption) if caption else None
    return element("table", title, element("thead", head), element("tbody", *body), class_="sf-table")


def facts(values: Mapping[str, Child]) -> Markup:
    """Return names with their values, such as the figures of a job. A value of None is left out."""
    return element(
        "dl",
        *(
            element("div", element("dt", name), element("dd", value))
            for name, value in values.items()
            if value is not None
        ),
        class_="sf-facts",
    )


def badge(text: str, kind: str = "") -> Markup:
    """Return a short text in a frame.

    :param kind: `good`, `bad` or `warning` colors it
    """
    return element("span", text, class_=f"sf-badge sf-{kind}" if kind else "sf-badge")
