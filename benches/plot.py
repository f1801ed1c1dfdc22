#!/usr/bin/env python3
"""Table and picture of what benches/pending.sh measured.

    benches/plot.py pending.tsv               # prints the Markdown table
    benches/plot.py pending.tsv pending.svg   # and draws

A row of the table is the median of all lines with the same number of messages.
"""

import csv
import math
import statistics
import sys

MIB = 1024 * 1024
BODY = 100  # bytes of a message's body, as benches/pending.sh publishes them


def read(path):
    """Medians by number of pending messages, and how many runs they are of."""
    runs = {}
    with open(path, newline="") as file:
        for line in csv.DictReader(file, delimiter="\t"):
            runs.setdefault(int(line["pending"]), []).append(line)
    rows = []
    for pending, lines in sorted(runs.items()):
        row = {"pending": pending, "runs": len(lines)}
        for name in lines[0]:
            # A run of less than a second has no whole one.
            values = [float(line[name]) for line in lines if line[name]]
            if name != "pending" and values:
                row[name] = statistics.median(values)
        rows.append(row)
    return rows


def spaced(number):
    return f"{round(number):,}".replace(",", "\u00a0")


def count(number):
    """A round number of messages: 30 M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:g} {unit}"
    return f"{number:g}"


def worst(row):
    if "median_second" not in row:
        return "–"
    return f"{row['worst_second'] / row['median_second']:.2f}"


COLUMNS = [
    ("pending (runs)", lambda r: f"{count(r['pending'])} ({r['runs']})"),
    ("memory: highest while loading", lambda r: f"{r['peak_anon_bytes'] / MIB:.0f} MiB"),
    ("right after", lambda r: f"{r['loaded_anon_bytes'] / MIB:.0f} MiB"),
    ("idle", lambda r: f"{r['idle_anon_bytes'] / MIB:.0f} MiB"),
    ("after a restart", lambda r: f"{r['restarted_anon_bytes'] / MIB:.0f} MiB"),
    ("store", lambda r: f"{r['store_bytes'] / MIB:.0f} MiB, {r['store_bytes'] / r['pending']:.0f} B a message"),
    ("journal: tail / files", lambda r: f"{r['journal_tail_bytes'] / MIB:.0f} / {r['journal_disk_bytes'] / MIB:.0f} MiB"),
    ("SIGKILL to ready", lambda r: f"{spaced(r['restart_ms'])} ms"),
    ("published/s: median second, worst against it", lambda r: f"{spaced(r.get('median_second', r['per_second']))}, {worst(r)}"),
    ("processor in 10 s of idling", lambda r: f"{r['idle_10s_cpu_ms']:.0f} ms"),
]


def table(rows):
    print("| " + " | ".join(title for title, _ in COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for row in rows:
        print("| " + " | ".join(show(row) for _, show in COLUMNS) + " |")


# The picture: three panels side by side, both axes logarithmic.

WIDTH, HEIGHT, TOP, BOTTOM, LEFT, RIGHT = 360, 330, 56, 52, 62, 18
INK, FAINT, GRID = "#24292f", "#57606a", "#e4e7eb"
BLUE, ORANGE, GREEN = "#0b62c4", "#c2540a", "#1a7f4b"

PANELS = [
    (
        "Memory (anonymous), MiB",
        [
            ("highest while loading", ORANGE, lambda r: r["peak_anon_bytes"] / MIB),
            ("idle", BLUE, lambda r: r["idle_anon_bytes"] / MIB),
            ("after a restart", GREEN, lambda r: r["restarted_anon_bytes"] / MIB),
        ],
        lambda n: n * BODY / MIB,
    ),
    (
        "Disk, MiB",
        [
            ("store", BLUE, lambda r: r["store_bytes"] / MIB),
            ("journal files", ORANGE, lambda r: r["journal_disk_bytes"] / MIB),
        ],
        lambda n: n * BODY / MIB,
    ),
    ("SIGKILL to ready, ms", [("restart", BLUE, lambda r: r["restart_ms"])], None),
]


def decades(values, least):
    """Whole decades around the values; so many at the least, lest a small rise looks like a steep one."""
    values = [value for value in values if value > 0] or [1]
    low = math.floor(math.log10(min(values)))
    high = math.ceil(math.log10(max(values)))
    return min(low, high - least), high


class Panel:
    def __init__(self, rows, left, lines):
        self.left = left
        self.rows = rows
        self.x_range = decades([row["pending"] for row in rows], 1)
        self.y_range = decades([of(row) for _, _, of in lines for row in rows], 2)

    def x(self, value):
        low, high = self.x_range
        span = WIDTH - LEFT - RIGHT
        return self.left + LEFT + (math.log10(value) - low) / (high - low) * span

    def y(self, value):
        low, high = self.y_range
        span = HEIGHT - TOP - BOTTOM
        return HEIGHT - BOTTOM - (math.log10(value) - low) / (high - low) * span


def text(x, y, words, anchor="middle", size=12, color=INK, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{color}"{more}>{words}</text>'


def line(x1, y1, x2, y2, color, more=""):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"{more}/>'


def draw_panel(rows, number, title, lines, content):
    panel = Panel(rows, number * WIDTH, lines)
    left, right = panel.left + LEFT, panel.left + WIDTH - RIGHT
    top, bottom = TOP, HEIGHT - BOTTOM
    out = [text(panel.left + LEFT, 24, title, "start", 14, INK, ' font-weight="600"')]
    for power in range(panel.x_range[0], panel.x_range[1] + 1):
        x = panel.x(10**power)
        out += [line(x, top, x, bottom, GRID), text(x, bottom + 18, count(10**power), color=FAINT)]
    for power in range(panel.y_range[0], panel.y_range[1] + 1):
        y = panel.y(10**power)
        label = f"{10**power:,}".replace(",", " ") if power >= 0 else f"{10**power:g}"
        out += [line(left, y, right, y, GRID), text(left - 8, y + 4, label, "end", color=FAINT)]
    out.append(text((left + right) / 2, bottom + 40, "pending messages", color=FAINT))
    if content:
        out += reference(panel, content)
    for at, (name, color, of) in enumerate(lines):
        points = [(panel.x(row["pending"]), panel.y(of(row))) for row in rows if of(row) > 0]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{color}"/>' for x, y in points]
        if len(lines) > 1:
            # Text has no width here; so much is enough for each letter.
            x = left + sum(24 + 5.4 * len(before) for before, _, _ in lines[:at])
            out.append(f'<circle cx="{x + 4}" cy="40" r="3.5" fill="{color}"/>')
            out.append(text(x + 12, 44, name, "start", 11, color))
    return out


def reference(panel, content):
    """A dashed line: the bodies alone, as far as the panel shows it."""
    low, high = (10**power for power in panel.y_range)
    each = content(1)
    first, last = (10**power for power in panel.x_range)
    start, end = max(first, low / each), min(last, high / each)
    if start >= end:
        return []
    x1, y1, x2, y2 = panel.x(start), panel.y(start * each), panel.x(end), panel.y(end * each)
    turn = math.degrees(math.atan2(y2 - y1, x2 - x1))
    x, y = x1 + (x2 - x1) * 0.5, y1 + (y2 - y1) * 0.5 - 5
    return [
        line(x1, y1, x2, y2, "#9aa4ae", ' stroke-dasharray="4 4"'),
        text(x, y, "bodies alone", "middle", 10, FAINT, f' transform="rotate({turn:.1f} {x:.1f} {y:.1f})"'),
    ]


def draw(rows, path):
    width = WIDTH * len(PANELS)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" '
        f'height="{HEIGHT}" font-family="system-ui, sans-serif">',
        "<title>Memory, disk and restart time against pending messages</title>",
        f'<rect width="{width}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for number, (title, lines, content) in enumerate(PANELS):
        out += draw_panel(rows, number, title, lines, content)
    out.append("</svg>")
    with open(path, "w") as file:
        file.write("\n".join(out) + "\n")


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    rows = read(sys.argv[1])
    table(rows)
    if len(sys.argv) == 3:
        draw(rows, sys.argv[2])


if __name__ == "__main__":
    main()
