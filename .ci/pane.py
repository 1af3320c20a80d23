"""Draws what a terminal shows, as `tmux capture-pane -p -e` writes it to the standard input, as an SVG."""

import html
import re
import sys

# The sixteen colours of a terminal, as they are on a dark ground.
COLOURS = "#3b4252 #e06c75 #98c379 #e5c07b #61afef #c678dd #56b6c2 #c8ccd4 #5c6370 #ef8891 #b5e08f #f0d399 #7fc1ff #d9a0ea #7fd4de #ffffff"
GROUND, PLAIN, WIDE, HIGH = "#16191f", "#c8ccd4", 7.2, 16.5
palette = COLOURS.split()
# The tool's symbols for states, which few fonts have, as others that look like them.
lines = sys.stdin.read().translate(str.maketrans("⏸⏹⏫▶", "‖■↥▸")).rstrip("\n").split("\n")


def runs(line):
    """The line's texts, each with the column at which it begins, its colour, and whether it is bold or inverted."""
    colour, bold, inverse, column = PLAIN, False, False, 0
    for codes, text in re.findall(r"\x1b\[([\d;]*)m|([^\x1b]+)", line):
        codes = [] if text else [int(code or 0) for code in codes.split(";")]
        while codes:
            code = codes.pop(0)
            if code in (38, 48) and codes[:1] == [5]:
                # One of 256 colours: of those the first sixteen are the terminal's.
                if code == 38:
                    colour = palette[codes[1] % 16]
                del codes[:2]
            elif code == 0:
                colour, bold, inverse = PLAIN, False, False
            elif code in (1, 7, 22, 27):
                bold = {1: True, 22: False}.get(code, bold)
                inverse = {7: True, 27: False}.get(code, inverse)
            elif 30 <= code <= 37 or 90 <= code <= 97:
                colour = palette[code - 30 if code < 90 else code - 82]
            elif code == 39:
                colour = PLAIN
        # One piece for each word, so that columns stay straight in any font.
        for piece in re.finditer(r"\S+" if not inverse else r".+", text):
            yield column + piece.start(), piece[0], colour, bold, inverse
        column += len(text)


width = 2 * 12 + WIDE * max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in lines)
height = 2 * 12 + HIGH * len(lines)
print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">')
print(f'<rect width="100%" height="100%" rx="8" fill="{GROUND}"/>')
print('<g font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="12" style="white-space: pre">')
for row, line in enumerate(lines):
    y = 12 + HIGH * row
    for column, text, colour, bold, inverse in runs(line):
        x, long = 12 + WIDE * column, WIDE * len(text)
        if inverse:
            print(f'<rect x="{x:.1f}" y="{y:.1f}" width="{long:.1f}" height="{HIGH}" fill="{colour}"/>')
        if text.strip():
            weight = ' font-weight="bold"' if bold else ""
            fill = GROUND if inverse else colour
            print(f'<text x="{x:.1f}" y="{y + 12.5:.1f}" textLength="{long:.1f}" fill="{fill}"{weight}>{html.escape(text, quote=False)}</text>')
print("</g>\n</svg>")
