"""A bar chart of ratios, as an SVG without dependencies."""

from collections.abc import Mapping
from html import escape

_ROW, _LEFT, _WIDTH = 28, 250, 760


def bars(ratios: Mapping[str, tuple[float, float | None]]) -> str:
    """Draw for each case the throughput of the service, relative to the bare handler's.

    The second figure of a case, if there is one, is Fastify's throughput, relative to the same. It
    is drawn as a mark on the bar.
    """
    height = _ROW * (len(ratios) + 2)
    scale = _WIDTH - _LEFT - 60
    size = f'width="{_WIDTH}" height="{height}"'
    one = _LEFT + scale
    title = "Throughput of the service; a bare aiohttp handler is 1, the mark is Fastify"
    elements = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">',
        f'<rect {size} fill="#fff"/>',
        f'<text x="16" y="{_ROW - 8}" font-weight="600">{title}</text>',
        f'<path d="M{one} {_ROW}V{height - _ROW}" stroke="#999" stroke-dasharray="4 4"/>',
    ]
    for index, (name, (service, fastify)) in enumerate(ratios.items(), start=1):
        y = index * _ROW + 4
        end = _LEFT + service * scale
        elements.append(f'<text x="16" y="{y + 15}">{escape(name)}</text>')
        elements.append(
            f'<rect x="{_LEFT}" y="{y}" width="{end - _LEFT:.1f}" height="20" rx="3" '
            'fill="#2f6fb2"/>'
        )
        elements.append(f'<text x="{_LEFT + 8}" y="{y + 15}" fill="#fff">{service:.2f}</text>')
        if fastify is not None:
            mark = _LEFT + fastify * scale
            elements.append(f'<path d="M{mark:.1f} {y - 2}v24" stroke="#c33" stroke-width="3"/>')
    return "\n".join([*elements, "</svg>", ""])
