#!/usr/bin/env python3
"""Turns benchmarks/results/NAME/{engine,engine-int8,serving,serving-int8,micro}.json into README.md there, and a plot of each.

  report.py [NAME] [--png]       those files that exist are reported

Every figure is the median over the rounds of one run; ratios are those of such medians.
"""

import argparse
import json
import pathlib
import statistics

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = "dla-serve"
# Servers are written as they were started: "dla-server", "triton", with "-latency" for settings that
# are best for one request at a time.
OUR_SERVER = "dla-server"
INT8_SERVER = "dla-server-int8"
COLORS = {"ours": "#d1410c", "openvino": "#5b6b7b", "onnxruntime": "#8795a3", "compile": "#b9c3cd",
          "eager": "#d6dde3"}
OURS_COLORS = [COLORS["ours"], "#7d1f00"]
GREYS = ["#5b6b7b", "#8795a3", "#b9c3cd", "#d6dde3", "#eceff2"]
NAMES = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "compile": "torch.compile", "eager": "LibTorch eager",
         "dla-server": "dla-serve", "triton": "Triton", "litserve": "LitServe", "torchserve": "TorchServe"}
INK = "#1c2126"


def name_of(key):
    base, _, rest = key.partition("-latency")
    if base in NAMES:
        return NAMES[base] + (" (latency)" if "-latency" in key else "")
    for prefix in sorted(NAMES, key=len, reverse=True):
        if key.startswith(prefix):
            return f"{NAMES[prefix]} ({key[len(prefix):].strip('-_ ')})"
    return key


def medians(rows, keys, value):
    """{tuple of keys: median of value} over the rounds."""
    samples = {}
    for row in rows:
        if value in row and row[value] is not None:
            samples.setdefault(tuple(row.get(key) for key in keys), []).append(row[value])
    return {key: statistics.median(values) for key, values in samples.items()}


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] + ["---:"] * (len(head) - 1)) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def number(value, digits=3):
    """Three significant digits, thousands grouped."""
    if value is None:
        return ""
    if value >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e" in text else text


def ordered(values, first):
    """`first`, then the rest as they come, each once."""
    rest = list(dict.fromkeys(values))
    return [each for each in first if each in rest] + [each for each in rest if each not in first]


# --- Engine


class Engine:
    head = "## Engine: forward pass alone\n"

    def __init__(self, data):
        self.data = data
        self.rows = [row for row in data["rows"] if row["round"] > 0]
        self.variants = ordered((row["variant"] for row in self.rows), [])
        self.precisions = ordered((row["precision"] for row in self.rows), ["bf16", "int8", "fp32"])
        self.batches = sorted({row["batch"] for row in self.rows})
        self.engines = ordered((row["engine"] for row in self.rows),
                               [OURS, "openvino", "onnxruntime", "compile", "eager"])
        self.cells = {}  # (variant, precision, batch, engine): (images/s, setting, CPU ms per image)
        keys = ("variant", "precision", "batch", "engine", "setting")
        cpu = medians(self.rows, keys, "cpu_ms_per_image")
        for key, rate in medians(self.rows, keys, "images_per_second").items():
            self.cells[key[:4]] = max(self.cells.get(key[:4], (0,)), (rate, key[4], cpu[key]))

    def best(self, variant, precision, engine):
        """(images/s, setting, CPU ms, batch) at the engine's best batch size."""
        found = [(*self.cells[variant, precision, batch, engine], batch) for batch in self.batches
                 if (variant, precision, batch, engine) in self.cells]
        return max(found, default=None)

    def rounds_of_ratio(self, variant, precision, other=("openvino", None)):
        """Smallest and largest ratio ours / (engine, precision) over the rounds, each at its best setting and batch."""
        ratios = []
        sides = [(engine, which, self.best(variant, which, engine))
                 for engine, which in ((OURS, precision), (other[0], other[1] or precision))]
        for number_ in sorted({row["round"] for row in self.rows}):
            pair = [self.one(variant, which, engine, best, number_) for engine, which, best in sides]
            if all(pair):
                ratios.append(pair[0] / pair[1])
        return (min(ratios), max(ratios)) if ratios else None

    def one(self, variant, precision, engine, best, round_number):
        if best is None:
            return None
        for row in self.rows:
            if (row["variant"], row["precision"], row["engine"], row["round"], row["setting"], row["batch"]) == (
                    variant, precision, engine, round_number, best[1], best[3]):
                return row["images_per_second"]
        return None

    def text(self):
        parts = [self.head,
                 "uint8 pixels in, logits out; no decoding, no server. Engines take turns in one run; each is tried "
                 "with one batch at a time on all cores and with one batch on each core, and its best batch size and "
                 "setting count (*batches at once* x *threads of each*).\n"]
        if "int8" in self.precisions:
            parts += ["### int8 against bf16\n", self.int8_table()]
        for precision in self.precisions:
            parts += [f"### {precision}\n", self.best_table(precision)]
        parts += ["### Every batch size\n", "images/s at the better setting; in brackets ours / OpenVINO.\n"]
        for precision in self.precisions:
            parts += [f"**{precision}**\n", self.batch_table(precision)]
        parts += ["### Same network, same answer\n", "Largest relative error (L2) of the logits against timm in "
                  "float32. Weights are random, which lets bf16 err several times more than trained weights do." +
                  (" int8 is calibrated on photos and judged on eight others at most; over 0.1 (a cosine of about 0.995) "
                   "it is not measured." if "int8" in self.precisions else "") + "\n",
                  self.error_table()]
        disturbed = sum(row.get("other_cores", 0) > 0.06 for row in self.rows)
        parts.append(f"Other processes used more than 6 % of a core during {disturbed} of {len(self.rows)} measurements.\n")
        failures = self.data.get("failures", [])
        if failures:
            parts += ["### What did not run\n"] + [
                f"- {name_of(f['engine'])}, {f['variant']} {f['precision']} batch {f['batch']}: {f['error']}\n"
                for f in failures]
        return "\n".join(parts)

    def int8_table(self):
        """Rows of one run, in which int8 and bf16 took turns."""
        sides = [(OURS, "int8"), (OURS, "bf16"), ("openvino", "int8"), ("openvino", "bf16")]
        rows = []
        for variant in self.variants:
            best = [self.best(variant, precision, engine) for engine, precision in sides]
            row = [variant] + [f"{number(each[0])} ({each[3]}, {each[1]})" if each else "" for each in best]
            for (engine, precision), other in zip(sides[1:3], best[1:3]):
                spread = self.rounds_of_ratio(variant, "int8", (engine, precision))
                row.append(f"**{best[0][0] / other[0]:.2f}** ({spread[0]:.2f} to {spread[1]:.2f})"
                           if best[0] and other and spread else "")
            row.append(f"{best[2][0] / best[3][0]:.2f}" if best[2] and best[3] else "")
            rows.append(row)
        return ("images/s, in brackets batch size and setting; behind a ratio its range over the rounds. Both engines are "
                "calibrated on the same photos, OpenVINO's model by NNCF with its defaults; what stays float is bf16 in "
                "both.\n\n" +
                table(["variant", "dla-serve int8", "dla-serve bf16", "OpenVINO int8", "OpenVINO bf16",
                       "int8 / our bf16", "int8 / OpenVINO int8", "OpenVINO's int8 / its bf16"], rows))

    def best_table(self, precision):
        engines = [e for e in self.engines if any(self.best(v, precision, e) for v in self.variants)]
        head = ["variant"] + [f"{name_of(e)}, images/s" for e in engines] + ["ours / OpenVINO", "over the rounds",
                                                                          "CPU ms/image: ours", "OpenVINO"]
        rows = []
        for variant in self.variants:
            best = {e: self.best(variant, precision, e) for e in engines}
            row = [variant]
            for engine in engines:
                row.append("" if not best[engine] else
                           f"{number(best[engine][0])} ({best[engine][3]}, {best[engine][1]})")
            mine, theirs = best.get(OURS), best.get("openvino")
            spread = self.rounds_of_ratio(variant, precision)
            row.append(f"**{mine[0] / theirs[0]:.2f}**" if mine and theirs else "")
            row.append(f"{spread[0]:.2f} to {spread[1]:.2f}" if spread else "")
            row += [f"{each[2]:.2f}" if each else "" for each in (mine, theirs)]
            rows.append(row)
        return "In brackets: batch size, setting.\n\n" + table(head, rows)

    def batch_table(self, precision):
        rows = []
        for variant in self.variants:
            for engine in self.engines:
                cells = [self.cells.get((variant, precision, batch, engine)) for batch in self.batches]
                if not any(cells):
                    continue
                row = [variant, name_of(engine)]
                for batch, cell in zip(self.batches, cells):
                    other = self.cells.get((variant, precision, batch, "openvino"))
                    ratio = f" ({cell[0] / other[0]:.2f})" if cell and other and engine == OURS else ""
                    row.append(number(cell[0]) + ratio if cell else "")
                rows.append(row)
        return table(["variant", "engine"] + [str(batch) for batch in self.batches], rows)

    def error_table(self):
        worst = {}
        for check in self.data["checks"]:
            key = (check["variant"], check["precision"], check["engine"])
            worst[key] = max(worst.get(key, 0), check["relative_error"])
        columns = [(p, e) for p in self.precisions for e in self.engines
                   if any((v, p, e) in worst for v in self.variants)]
        rows = [[v] + [f"{worst[v, p, e]:.1e}" if (v, p, e) in worst else "" for p, e in columns]
                for v in self.variants]
        return table(["variant"] + [f"{name_of(e)} {p}" for p, e in columns], rows)

    def plot(self, path, plt):
        """One panel for each precision: bars of images/s relative to OpenVINO at each engine's best."""
        panels = [p for p in self.precisions if any(self.best(v, p, "openvino") for v in self.variants)]
        if not panels:
            return False
        figure, axes = plt.subplots(1, len(panels), figsize=(5.4 * len(panels), 1.3 + 0.72 * len(self.variants)),
                                    sharey=True, squeeze=False)
        handles = {}
        for axis, precision in zip(axes[0], panels):
            for row, variant in enumerate(self.variants):
                base = self.best(variant, precision, "openvino")
                found = [(e, self.best(variant, precision, e)) for e in self.engines]
                found = [(e, best) for e, best in found if best and base]
                width = min(0.84 / max(len(found), 1), 0.26)
                for place, (engine, best) in enumerate(found):
                    y = row + (place - (len(found) - 1) / 2) * width
                    ratio = best[0] / base[0]
                    bar = axis.barh(y, ratio, width * 0.9, color=COLORS["ours" if engine == OURS else engine], zorder=2)
                    handles.setdefault(engine, bar)
                    label_bar(axis, ratio, y, number(best[0]), engine)
            axis.axvline(1, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), zorder=3)
            axis.set_yticks(range(len(self.variants)), self.variants)
            axis.set_ylim(len(self.variants) - 0.5, -0.5)
            axis.set_title(precision, loc="left", fontsize=11, fontweight="bold")
            axis.set_xlabel("images/s relative to OpenVINO; in the bars: images/s", fontsize=8.5)
            tidy(axis, "x")
        shown = [engine for engine in self.engines if engine in handles]
        figure.legend([handles[e] for e in shown], [name_of(e) for e in shown], loc="lower center", ncols=len(shown),
                      frameon=False, fontsize=8.5, bbox_to_anchor=(0.5, -0.03))
        finish(figure, path, plt, f"Forward pass, best batch size of each engine. {where(self.data)}", bottom=0.02)
        return True


class EngineInt8(Engine):
    head = "## Engine: int8\n"


# --- Serving


class Serving:
    head = "## Serving: encoded photos in, five classes out\n"

    def __init__(self, data):
        self.data = data
        self.rows = data["rows"]
        self.models = ordered((row["model"] for row in self.rows), [])
        self.photos = ordered((row["photos"] for row in self.rows), ["0.2 MP"])
        self.servers = ordered((row["server"] for row in self.rows), [OUR_SERVER])

    @staticmethod
    def ours(server):
        return server.startswith(OUR_SERVER)

    def select(self, model, photos, kind):
        return [r for r in self.rows if r["model"] == model and r["photos"] == photos and r.get(kind) is not None]

    def text(self):
        parts = [self.head]
        for model in self.models:
            for photos in self.photos:
                closed = self.select(model, photos, "in_flight")
                if closed:
                    parts += [f"### {model}, photos of {photos}, a fixed number in flight\n",
                              self.load_table(closed, "in_flight", lambda value: f"{value}"),
                              self.ratios(closed), self.limit(model, photos, closed)]
                opened = self.select(model, photos, "rate_fraction")
                if opened:
                    parts += [f"### {model}, photos of {photos}, random arrivals (Poisson)\n",
                              "Load relative to what the server itself reached with 32 in flight.\n",
                              self.load_table(opened, "rate_fraction", lambda value: f"{value:.0%}")]
        agreement = self.data.get("agreement", [])
        if agreement:
            parts += ["### Same answers\n", table(
                ["server", "model", "photos", "same first class", "largest difference of a probability"],
                [[name_of(a["server"]), a["model"], str(a["photos"]), str(a["same_first"]),
                  f"{a['largest_difference']:.4f}"] for a in agreement])]
        return "\n".join(part for part in parts if part)

    def load_table(self, rows, kind, spell):
        keys = (kind, "server")
        columns = [("images/s", "images_per_second"), ("p50 ms", "p50_ms"), ("p90 ms", "p90_ms"), ("p99 ms", "p99_ms"),
                   ("CPU s/1000", "server_cpu_s_per_1000"), ("of the generator", "generator_cpu_s_per_1000"),
                   ("RSS MB", "rss_mb")]
        values = [medians(rows, keys, field) for _, field in columns]
        failed = {}
        for row in rows:
            key = (row[kind], row["server"])
            failed[key] = failed.get(key, 0) + (row.get("errors") or 0)
        lines = []
        for load in sorted({row[kind] for row in rows}):
            for server in self.servers:
                if (load, server) not in values[0]:
                    continue
                name = f"**{name_of(server)}**" if self.ours(server) else name_of(server)
                lines.append([spell(load), name] + [number(each.get((load, server))) for each in values]
                             + [str(failed[load, server])])
        return table(["load", "server"] + [head for head, _ in columns] + ["errors"], lines)

    def ratios(self, rows):
        """Ours against the best peer, in words."""
        lines = []
        for load in sorted({row["in_flight"] for row in rows}):
            for what, field, better in (("images/s", "images_per_second", max), ("p50", "p50_ms", min),
                                        ("RSS", "rss_mb", min)):
                found = medians([r for r in rows if r["in_flight"] == load], ("server",), field)
                mine = {k: v for (k,), v in found.items() if self.ours(k)}
                theirs = {k: v for (k,), v in found.items() if not self.ours(k)}
                if mine and theirs:
                    peer = better(theirs, key=theirs.get)
                    lines.append([str(load), what, number(better(mine.values())), f"{name_of(peer)} {number(theirs[peer])}",
                                  f"**{better(mine.values()) / theirs[peer]:.2f}**"])
        return table(["in flight", "what", "ours", "best peer", "ratio"], lines) if lines else ""

    def limit(self, model, photos, rows):
        limits = [each for each in self.data.get("limits", []) if (each["model"], each["photos"]) == (model, photos)]
        most = max((row["in_flight"] for row in rows), default=0)
        found = medians([r for r in rows if r["in_flight"] == most], ("server",), "images_per_second")
        mine = [value for (server,), value in found.items() if self.ours(server)]
        if not limits or not mine:
            return ""
        limit = limits[-1]
        return (f"The limit of these cores, decoding ({limit['decode_cpu_s'] * 1e3:.2f} ms of CPU) and forward pass "
                f"({limit['forward_cpu_s'] * 1e3:.2f} ms) alone: {number(limit['images_per_second'])} images/s; with {most} "
                f"in flight dla-serve reaches **{max(mine) / limit['images_per_second']:.2f}** of it.\n")

    def plot(self, path, plt):
        """For each model and kind of photo: images/s over photos in flight, each server at its better setting."""
        panels = [(m, p) for m in self.models for p in self.photos if self.select(m, p, "in_flight")]
        if not panels:
            return False
        columns = min(len(panels), 2)
        lines = -(-len(panels) // columns)
        figure, axes = plt.subplots(lines, columns, figsize=(5.4 * columns, 0.6 + 2.7 * lines), squeeze=False)
        for axis in axes.flat[len(panels):]:
            axis.set_visible(False)
        shown = list(dict.fromkeys(server.replace("-latency", "") for server in self.servers))
        peers = [server for server in shown if not self.ours(server)]
        ours_shown = [server for server in shown if self.ours(server)]
        handles = {}
        for axis, (model, photos) in zip(axes.flat, panels):
            found = {}
            rows = self.select(model, photos, "in_flight")
            for (load, server), rate in medians(rows, ("in_flight", "server"), "images_per_second").items():
                key = (load, server.replace("-latency", ""))
                found[key] = max(found.get(key, 0), rate)
            loads = sorted({load for load, _ in found})
            for i, load in enumerate(loads):
                present = [server for server in shown if (load, server) in found]
                width = min(0.84 / len(present), 0.2)
                for place, server in enumerate(present):
                    x, y = i + (place - (len(present) - 1) / 2) * width, found[load, server]
                    ours = self.ours(server)
                    color = OURS_COLORS[ours_shown.index(server) % len(OURS_COLORS)] if ours else (
                        GREYS[peers.index(server) % len(GREYS)])
                    handles.setdefault(server, axis.bar(x, y, width * 0.9, color=color, zorder=2))
                    axis.annotate(number(y), (x, y), (0, 2), textcoords="offset points", ha="center",
                                  fontsize=7 if ours else 6.5, color=INK if ours else "#6b7680",
                                  fontweight="bold" if ours else "normal")
            axis.set_xticks(range(len(loads)), [f"{load} in flight" for load in loads])
            axis.set_ylabel("images/s", fontsize=8.5)
            axis.set_title(f"{model}, photos of {photos}", loc="left", fontsize=10, fontweight="bold")
            tidy(axis, "y")
        order = [server for server in shown if server in handles]
        figure.legend([handles[s] for s in order], [name_of(s) for s in order], loc="lower center", ncols=len(order),
                      frameon=False, fontsize=8.5, bbox_to_anchor=(0.5, -0.03))
        finish(figure, path, plt, f"Encoded photos in, five classes out. {where(self.data)}", bottom=0.02)
        return True


class ServingInt8(Serving):
    head = "## Serving: int8\n"

    def ratios(self, rows):
        """Our int8 against each of the others."""
        found = medians(rows, ("in_flight", "server"), "images_per_second")
        lines = [[str(load), name_of(server), number(value), f"**{found[load, INT8_SERVER] / value:.2f}**"]
                 for (load, server), value in found.items()
                 if server != INT8_SERVER and (load, INT8_SERVER) in found]
        return table(["in flight", "against", "images/s", "our int8 / it"], lines) if lines else ""


# --- Microbenchmarks


def micro_text(data):
    ns = {"ns": 1e-3, "us": 1, "ms": 1e3, "s": 1e6}
    parts = ["## The parts around the forward pass\n", "One thread; medians where repeated.\n"]
    found, overhead, queue = {}, {}, {}
    for each in data["benchmarks"]:
        if each.get("run_type") == "aggregate" or each.get("error_occurred"):
            continue
        base = each.get("run_name", each["name"])
        if base.startswith("OwnOverhead"):
            overhead.setdefault(base.split("in_flight:")[1].split("/")[0], []).append(each)
        elif base.startswith("Queue"):
            queue.setdefault(base, []).append(each)
        else:
            found.setdefault(base, []).append(each["cpu_time"] * ns[each["time_unit"]])
    parts.append(table(["what", "us of CPU"], [[k, number(statistics.median(v))] for k, v in found.items()]))
    if queue:
        rows = []
        for name, runs in queue.items():
            sizes = dict(word.split(":") for word in name.split("/") if ":" in word)
            rows.append([sizes["producers"], sizes["consumers"],
                         number(statistics.median(r["photos/s"] for r in runs)),
                         f"{statistics.median(r['batch'] for r in runs):.1f}"])
        parts += ["### Batch queue under contention\n", table(["producers", "consumers", "photos/s", "photos a batch"], rows)]
    if overhead:
        rows = [[load] + [number(statistics.median(r[key] for r in runs)) for key in
                          ("requests/s", "server_cpu_us_per_request", "switches_per_request")]
                for load, runs in overhead.items()]
        parts += ["### Own overhead per request\n", "The whole server over a loopback socket with photos of 110 KB, a decoder "
                  "and a model that do nothing: all that is neither decoding nor forward pass.\n",
                  table(["in flight", "requests/s", "server CPU us/request", "thread switches/request"], rows)]
    return "\n".join(parts)


# --- Common


def where(data):
    machine = data.get("machine", {})
    flags = machine.get("flags", machine.get("features", []))
    kind = [flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags]
    return (f"{machine.get('processor', 'unknown processor')}, {machine.get('cores', '?')} cores"
            f"{' (' + ', '.join(kind) + ')' if kind else ''}, {str(data.get('date', ''))[:10]}")


def tidy(axis, direction):
    for side in ("top", "right", "left" if direction == "x" else "right"):
        axis.spines[side].set_visible(False)
    axis.grid(axis=direction, color="#e3e7ea", linewidth=0.7, zorder=0)
    axis.tick_params(length=0, labelsize=8.5)
    axis.margins(**{direction: 0.1})


def label_bar(axis, length, y, text, engine):
    """images/s at the foot of the bar; behind our bar how far it reaches."""
    axis.annotate(text, (0, y), (4, -0.5), textcoords="offset points", ha="left", va="center", fontsize=6.5,
                  color=INK if engine in ("eager", "compile") else "white",
                  fontweight="bold" if engine == OURS else "normal", zorder=4)
    if engine == OURS:
        axis.annotate(f"{length:.2f}", (length, y), (3, -0.5), textcoords="offset points", va="center", fontsize=8,
                      color=INK, fontweight="bold", zorder=4)


def finish(figure, path, plt, caption, bottom=0.0):
    figure.text(0.01, 0.995, caption, fontsize=8, color="#6b7680", va="top")
    figure.tight_layout(rect=(0, bottom, 1, 0.965), h_pad=2)
    figure.savefig(path, bbox_inches="tight", pad_inches=0.15)
    plt.close(figure)


def load_plotting():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.family": "DejaVu Sans", "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK,
                         "ytick.color": INK, "axes.edgecolor": "#b9c3cd", "figure.facecolor": "white",
                         "svg.hashsalt": "dla-serve", "figure.dpi": 130})
    return plt


def describe(files):
    lines = []
    for name, data in files.items():
        machine = data.get("machine", {})
        if not machine:
            continue
        versions = ", ".join(f"{key} {value}" for key, value in sorted(data.get("versions", {}).items()))
        flags = ", ".join(machine.get("flags", machine.get("features", [])))
        lines.append([f"{name}.json", str(data.get("date", "")), f"{machine.get('processor')} ({flags})",
                      str(machine.get("cores")), str(machine.get("memory_gb")), versions])
    return table(["file", "date", "processor", "cores", "memory GB", "versions"], lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("name", nargs="?", default="latest")
    parser.add_argument("--png", action="store_true", help="also write the plots as PNG")
    options = parser.parse_args()
    folder = ROOT / "benchmarks/results" / options.name
    files = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    known = {"engine": Engine, "engine-int8": EngineInt8, "serving": Serving, "serving-int8": ServingInt8}
    if not files:
        raise SystemExit(f"{folder} holds no results; run script/bench --name {options.name}")
    plt = load_plotting()
    parts = [f"# Measurements: {options.name}\n", "Made by `script/bench`, written by `benchmarks/report.py`. Figures are "
             "medians over the rounds of one run on one machine; compare ratios, not absolute figures, with other machines.\n",
             describe(files)]
    for name, kind in known.items():
        if name not in files or not files[name]["rows"]:
            continue
        part = kind(files[name])
        drawn = part.plot(folder / f"{name}.svg", plt)
        if options.png:
            part.plot(folder / f"{name}.png", plt)
        text = part.text()
        if drawn:
            head, _, rest = text.partition("\n")
            text = f"{head}\n\n![{head.lstrip('# ')}]({name}.svg)\n{rest}"
        parts.append(text)
    if "micro" in files:
        parts.append(micro_text(files["micro"]))
    (folder / "README.md").write_text("\n".join(parts))
    print(f"wrote {folder / 'README.md'}")


if __name__ == "__main__":
    main()
