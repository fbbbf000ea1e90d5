#!/usr/bin/env python3
"""Draws the dashboard as a picture, for where there is no Grafana: the panels, queries, units and colours of
dashboards/dla-serve.json with what a Prometheus answers. Needs matplotlib, NumPy and Pillow.

    deploy/grafana/picture.py --prometheus http://localhost:9090 --seconds 600 --out dashboard.png
"""

import argparse
import io
import json
import math
import pathlib
import re
import time
import urllib.parse
import urllib.request

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator
from PIL import Image

DASHBOARD = pathlib.Path(__file__).resolve().parent / "dashboards/dla-serve.json"
BACKGROUND, PANEL, EDGE, TEXT, FAINT = "#111217", "#181b1f", "#2c3235", "#d5d6dd", "#8e8f99"
PALETTE = ["#73BF69", "#F2CC0C", "#5794F2", "#FF9830", "#B877D9", "#F2495C", "#8AB8FF", "#FFEE52"]
WIDTH, COLUMN, ROW, GAP = 1680, 70, 29, 6  # pixels: all, and of Grafana's grid of 24 columns
HEADER = 56


def scaled(value, factor, names):
    step = 0
    while abs(value) >= factor and step + 1 < len(names):
        value, step = value / factor, step + 1
    return f"{value:.3g} {names[step]}".strip()


def say(value, unit):
    if value == 0:
        return "0" + {"percentunit": "%", "s": " s", "bytes": " B"}.get(unit, "")
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    if unit == "bytes":
        return scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"])
    suffix = {"reqps": " req/s", "ops": " ops/s", "celsius": " °C", "watt": " W"}.get(unit, "")
    return f"{value:.3g}{suffix}" if abs(value) < 1e4 else scaled(value, 1000, ["", "K", "M"]) + suffix


class Prometheus:
    def __init__(self, address, end, seconds):
        self.address, self.end, self.seconds = address, end, seconds
        self.step = max(1, seconds / 180)
        self.times = np.arange(end - seconds, end + self.step / 2, self.step)

    def series(self, target):
        """[(legend, labels, values at self.times)]"""
        expression = target["expr"]
        rate = f"{max(8, round(4 * self.step))}s"
        for variable, value in (("$__rate_interval", rate), ("$model", ".*"), ("$instance", ".*")):
            expression = expression.replace(variable, value)
        parameters = urllib.parse.urlencode({"query": expression, "start": self.times[0], "end": self.times[-1],
                                             "step": self.step})
        with urllib.request.urlopen(f"{self.address}/api/v1/query_range?{parameters}", timeout=60) as answer:
            found = json.load(answer)["data"]["result"]
        result = []
        for each in found:
            values = np.full(len(self.times), np.nan)
            for at, value in each["values"]:
                place = round((float(at) - self.times[0]) / self.step)
                if 0 <= place < len(values):
                    values[place] = float(value)
            labels = each["metric"]
            legend = re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), target["legendFormat"])
            result.append((legend.strip(), labels, np.where(np.isfinite(values), values, np.nan)))
        return result


class Overrides:
    """What the panel says of single series."""

    def __init__(self, panel):
        self.list = panel["fieldConfig"]["overrides"]

    def of(self, legend):
        properties = {}
        for each in self.list:
            matcher = each["matcher"]
            hit = (re.search(matcher["options"].strip("/"), legend) if matcher["id"] == "byRegexp"
                   else matcher["options"] == legend)
            if hit:
                properties |= {entry["id"]: entry["value"] for entry in each["properties"]}
        return properties


class Page:
    def __init__(self, panels, source):
        self.source = source
        self.height = HEADER + ROW * max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels) + GAP
        self.figure = plt.figure(figsize=(WIDTH / 100, self.height / 100), dpi=100, facecolor=BACKGROUND)

    def box(self, x, y, w, h, **options):
        """In pixels from the top left."""
        return self.figure.add_axes((x / WIDTH, 1 - (y + h) / self.height, w / WIDTH, h / self.height), **options)

    def text(self, x, y, text, size=9.5, color=TEXT, **options):
        self.figure.text(x / WIDTH, 1 - y / self.height, text, size=size, color=color, va="center", **options)

    def frame(self, panel):
        at = panel["gridPos"]
        x, y = at["x"] * COLUMN + GAP / 2, HEADER + at["y"] * ROW + GAP / 2
        w, h = at["w"] * COLUMN - GAP, at["h"] * ROW - GAP
        if panel["type"] == "row":
            self.text(x + 8, y + h / 2, "▾  " + panel["title"], size=11, weight="bold")
            return x, y, w, h
        axes = self.box(x, y, w, h)
        axes.set(facecolor=PANEL, xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_edgecolor(EDGE)
        self.text(x + 10, y + 15, panel["title"])
        return x, y, w, h

    def plot_area(self, panel):
        x, y, w, h = self.frame(panel)
        axes = self.box(x + 66, y + 32, w - 80, h - 86, facecolor=PANEL)
        axes.tick_params(colors=FAINT, labelsize=8, length=0)
        axes.grid(color=EDGE, linewidth=0.7)
        axes.set_axisbelow(True)
        for spine in axes.spines.values():
            spine.set_visible(False)
        times = self.source.times
        axes.set_xlim(times[0], times[-1])
        every = next(s for s in (10, 15, 30, 60, 120, 300, 600, 1800, 3600) if self.source.seconds / s <= 7)
        axes.set_xticks(np.arange(math.ceil(times[0] / every) * every, times[-1], every))
        form = "%H:%M:%S" if every < 60 else "%H:%M"
        axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: time.strftime(form, time.gmtime(at))))
        return axes, (x, y, w, h)

    def legend(self, frame, entries):
        x, y, w, h = frame
        left, line, last = x + 12, y + h - 26, x + w - 12
        for name, color, dashed in entries:
            width = 26 + 6.9 * len(name)
            if left + width > last:
                left, line = x + 12, line + 15
                if line > y + h - 8:
                    return
            self.text(left, line, "╌" if dashed else "━", color=color, size=9, weight="bold")
            self.text(left + 15, line, name, size=8, color=TEXT)
            left += width

    def draw(self, panel):
        kind = {"row": self.frame, "stat": self.draw_stat, "timeseries": self.draw_lines, "heatmap": self.draw_heatmap}
        kind[panel["type"]](panel)

    def draw_stat(self, panel):
        x, y, w, h = self.frame(panel)
        defaults = panel["fieldConfig"]["defaults"]
        series = self.source.series(panel["targets"][0])
        values = series[0][2] if series else np.array([np.nan])
        known = values[np.isfinite(values)]
        last = known[-1] if len(known) else math.nan
        color = [step["color"] for step in defaults["thresholds"]["steps"]
                 if step["value"] is None or last >= step["value"]][-1]
        self.text(x + w / 2, y + h * 0.5, say(last, defaults["unit"]) if len(known) else "-", size=19, color=color,
                  ha="center", weight="bold")
        if len(known) > 1:
            axes = self.box(x + 1, y + h * 0.7, w - 2, h * 0.3 - 1)
            axes.fill_between(self.source.times, values, color=color, alpha=0.25, linewidth=0)
            axes.plot(self.source.times, values, color=color, linewidth=1)
            axes.set_axis_off()
            axes.set(xlim=(self.source.times[0], self.source.times[-1]), ylim=(0, max(known.max() * 1.1, 1e-9)))

    def draw_lines(self, panel):
        axes, frame = self.plot_area(panel)
        defaults, overrides = panel["fieldConfig"]["defaults"], Overrides(panel)
        stacked = defaults["custom"]["stacking"]["mode"] == "normal"
        series = [each for target in panel["targets"] for each in self.source.series(target)]
        ports = sorted({labels["instance"] for _, labels, _ in series if "instance" in labels})
        bottom, entries, top = np.zeros(len(self.source.times)), [], 0
        for number, (name, labels, values) in enumerate(series):
            special = overrides.of(name)
            color = special.get("color", {}).get("fixedColor", PALETTE[number % len(PALETTE)])
            dashed = "custom.lineStyle" in special
            if dashed:
                color = special.get("color", {}).get("fixedColor", "#F2495C")
            if "instance" in labels:  # the names that servers have in compose
                name = name.replace(labels["instance"], f"server-{ports.index(labels['instance']) + 1}")
            if stacked and "custom.stacking" not in special:
                upper = bottom + np.nan_to_num(values)
                axes.fill_between(self.source.times, bottom, upper, color=color, alpha=0.45, linewidth=0)
                axes.plot(self.source.times, upper, color=color, linewidth=1)
                bottom = shown = upper
            else:
                shown = values
                axes.plot(self.source.times, values, color=color, linewidth=special.get("custom.lineWidth", 1.3),
                          linestyle=(0, (6, 4)) if dashed else "-")
                if not dashed and "custom.stacking" not in special:
                    axes.fill_between(self.source.times, np.nan_to_num(values), color=color, alpha=0.06, linewidth=0)
            if np.isfinite(shown).any():
                top = max(top, np.nanmax(shown))
            entries.append((name, color, dashed))
        axes.set_ylim(0, defaults.get("max", top * 1.1 if top > 0 else 1) * 1.02)
        if defaults["unit"] == "bytes" and top > 0:
            axes.yaxis.set_major_locator(MultipleLocator(2 ** math.floor(math.log2(top / 3))))
        else:
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: say(value, defaults["unit"])))
        self.legend(frame, entries)

    def draw_heatmap(self, panel):
        axes, frame = self.plot_area(panel)
        series = [(float(labels["le"]), values) for _, labels, values in self.source.series(panel["targets"][0])]
        series.sort(key=lambda each: each[0])
        bounds = [bound for bound, _ in series]
        counts = np.diff(np.array([np.nan_to_num(values) for _, values in series]), axis=0, prepend=0)
        if bounds and math.isinf(bounds[-1]) and not counts[-1].any():
            bounds, counts = bounds[:-1], counts[:-1]
        tones = {"Oranges": ["#181b1f", "#6b3410", "#d9691a", "#ffd9a8"], "Blues": ["#181b1f", "#123a73", "#3d8bea", "#cfe6ff"]}
        tones = LinearSegmentedColormap.from_list("tones", tones[panel["options"]["color"]["scheme"]])
        axes.pcolormesh(self.source.times, range(len(bounds)), np.maximum(counts, 0) ** panel["options"]["color"]["exponent"],
                        cmap=tones, shading="nearest", edgecolors="none", antialiased=False)
        axes.grid(False)
        axes.set_yticks(range(len(bounds)))
        unit = panel["options"]["yAxis"]["unit"]
        axes.set_yticklabels([say(bound, unit) if math.isfinite(bound) else "+Inf" for bound in bounds])
        x, y, w, h = frame
        steps = self.box(x + 66, y + h - 30, 120, 8)
        steps.imshow(np.linspace(0, 1, 64)[None, :], cmap=tones, aspect="auto")
        steps.set_axis_off()
        self.text(x + 194, y + h - 26, f"0 to {counts.max():.0f}", size=8, color=FAINT)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prometheus", default="http://localhost:9090")
    parser.add_argument("--seconds", type=float, default=1800, help="how far back")
    parser.add_argument("--end", type=float, default=None, help="seconds since 1970; now if left out")
    parser.add_argument("--out", type=pathlib.Path, default="dashboard.png")
    options = parser.parse_args()
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in dashboard["panels"] if not (panel["type"] == "row" and panel["collapsed"])]
    plt.rcParams["font.family"] = "DejaVu Sans"
    page = Page(panels, Prometheus(options.prometheus, options.end or time.time(), options.seconds))
    page.text(14, HEADER / 2, dashboard["title"], size=14, weight="bold")
    page.text(130, HEADER / 2, "Model  All        Server  All", size=9, color=FAINT)
    page.text(WIDTH - 14, HEADER / 2, f"Last {options.seconds / 60:.2g} minutes" if options.seconds >= 120 else f"Last {options.seconds:.0f} seconds", size=9, color=FAINT, ha="right")
    for panel in panels:
        page.draw(panel)
    buffer = io.BytesIO()
    page.figure.savefig(buffer, facecolor=BACKGROUND)
    buffer.seek(0)
    # 128 colours are enough and make the file a third.
    Image.open(buffer).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
