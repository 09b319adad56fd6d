"""The mixture as a picture: one bar a source, its languages side by side. SVG, written by hand: it is forty lines."""

from __future__ import annotations

from html import escape

from evalsuite_train.data.mixture import Share

COLOURS = {"zh": "#c0392b", "en": "#2c6fbb", "other": "#7f8c8d"}
LEFT, WIDTH, BAR, GAP = 160, 560, 22, 10


def chart(shares: list[Share]) -> str:
    """An SVG of characters by source and language."""
    sources: dict[str, list[Share]] = {}
    for share in shares:
        sources.setdefault(share.source, []).append(share)
    most = max((sum(s.characters for s in own) for own in sources.values()), default=0) or 1
    height = 50 + len(sources) * (BAR + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 110} {height}" '
        'font-family="sans-serif" font-size="13" role="img">',
        "<title>Characters by source and language</title>",
        f'<rect width="{LEFT + WIDTH + 110}" height="{height}" fill="#fff"/>',
    ]
    for place, (name, colour) in enumerate(COLOURS.items()):
        x = LEFT + place * 80
        parts.append(f'<rect x="{x}" y="12" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="23">{name}</text>')
    for row, (source, own) in enumerate(sources.items()):
        y, left = 40 + row * (BAR + GAP), float(LEFT)
        name = source if len(source) <= 20 else source[:19] + "…"
        parts.append(f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(name)}</text>')
        for share in sorted(own, key=lambda s: s.language, reverse=True):
            width = WIDTH * share.characters / most
            label = f"{source}, {share.language}: {share.characters:,} characters in {share.records:,} records"
            parts.append(
                f'<rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" '
                f'fill="{COLOURS.get(share.language, COLOURS["other"])}"><title>{escape(label)}</title></rect>'
            )
            left += width
        total = sum(share.characters for share in own)
        parts.append(f'<text x="{left + 6:.1f}" y="{y + 16}">{total:,}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
