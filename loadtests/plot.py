"""A line chart over time, as an SVG without dependencies."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 44, 44

Point = tuple[float, float]


def plot(points: Sequence[Point], *, title: str, marks: Sequence[tuple[float, str]]) -> str:
    """Draw megabytes over seconds. Each mark is a second and its label."""
    last, top = points[-1][0], max(y for _, y in points) * 1.25

    def at(x: float, y: float) -> str:
        across = LEFT + x / last * (WIDTH - LEFT - RIGHT)
        return f"{across:.1f},{HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM):.1f}"

    def line(a: Point, b: Point, style: str) -> str:
        (x1, y1), (x2, y2) = at(*a).split(","), at(*b).split(",")
        return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" {style}/>'

    def text(point: Point, dx: float, dy: float, content: str, anchor: str = "middle") -> str:
        x, y = at(*point).split(",")
        where = f'x="{float(x) + dx:.1f}" y="{float(y) + dy:.1f}" text-anchor="{anchor}"'
        return f"<text {where}>{escape(content)}</text>"

    grid = 'stroke="#ddd"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        '<g font-family="sans-serif" font-size="12" fill="#333">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="22" font-size="15" font-weight="bold">{escape(title)}</text>',
    ]
    for step in range(5):
        level, second = top * step / 4, last * step / 4
        parts += [line((0, level), (last, level), grid)]
        parts += [text((0, level), -8, 4, f"{level:.0f} MB", "end")]
        parts += [text((second, 0), 0, 18, f"{second:.0f} s")]
    for second, content in marks:
        parts += [line((second, 0), (second, top), 'stroke="#c60" stroke-dasharray="4 3"')]
        parts += [text((second, top), 6, 14, content, "start")]
    path = " ".join(at(*point) for point in points)
    parts += [
        f'<polyline points="{path}" fill="none" stroke="#06c" stroke-width="2"/>',
        "</g></svg>",
    ]
    return "\n".join(parts) + "\n"
