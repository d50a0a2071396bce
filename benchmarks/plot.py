"""A plot of ratios, as an SVG that needs nothing to be looked at with."""

from collections.abc import Mapping
from html import escape

_ROW, _LEFT, _WIDTH = 28, 230, 720


def bars(ratios: Mapping[str, float]) -> str:
    """Draw a bar for each ratio, where the bare handler's throughput is 1."""
    height = _ROW * (len(ratios) + 2)
    scale = _WIDTH - _LEFT - 60
    size = f'width="{_WIDTH}" height="{height}"'
    one = _LEFT + scale
    title = "Throughput, where a bare aiohttp handler is 1"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">',
        f'<rect {size} fill="#fff"/>',
        f'<text x="16" y="{_ROW - 8}" font-weight="600">{title}</text>',
        f'<path d="M{one} {_ROW}V{height - _ROW}" stroke="#999" stroke-dasharray="4 4"/>',
    ]
    for index, (name, ratio) in enumerate(ratios.items(), start=1):
        y = index * _ROW + 4
        parts.append(f'<text x="16" y="{y + 15}">{escape(name)}</text>')
        parts.append(
            f'<rect x="{_LEFT}" y="{y}" width="{ratio * scale:.1f}" height="20" rx="3" '
            'fill="#2f6fb2"/>'
        )
        parts.append(f'<text x="{_LEFT + ratio * scale + 6:.1f}" y="{y + 15}">{ratio:.2f}</text>')
    return "\n".join([*parts, "</svg>", ""])
