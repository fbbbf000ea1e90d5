#!/usr/bin/env python3
"""Turns FOLDER/gpu.json, which run.py writes, into FOLDER/README.md and, where matplotlib is, plots.

  report.py FOLDER
"""

import json
import pathlib
import statistics
import sys

OURS = "dla-serve"
COLORS = {OURS: "#0b6e99", "compile": "#8c99a5", "eager": "#c3ccd4"}
NAMES = {OURS: "dla-serve", "compile": "torch.compile", "eager": "eager, amp"}
INK = "#26323d"


def number(value):
    if value is None:
        return ""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


class Report:
    def __init__(self, data):
        self.data = data
        self.variants = list(dict.fromkeys(row["variant"] for row in data["rows"]))
        self.batches = sorted({row["batch"] for row in data["rows"]})

    def samples(self, **fields):
        return [row for row in self.data["rows"] if fields.items() <= row.items()]

    def rate(self, variant, batch, engine, kind):
        """Images/s: the median over the rounds at the best number of replicas."""
        found = {}
        for row in self.samples(variant=variant, batch=batch, engine=engine, kind=kind):
            found.setdefault(row["replicas"], []).append(row["images_per_second"])
        return max((statistics.median(rates) for rates in found.values()), default=None)

    def latency(self, variant, batch, engine, kind):
        """ms of one batch that is waited for."""
        found = [row["batch_ms"] for row in self.samples(variant=variant, batch=batch, engine=engine, kind=kind, replicas=1)]
        return statistics.median(found) if found else None

    def best(self, variant, engine, kind):
        """(images/s, batch) of the best batch."""
        rates = [(rate, batch) for batch in self.batches if (rate := self.rate(variant, batch, engine, kind))]
        return max(rates, default=(None, None))

    def served(self, variant, what):
        """Images/s, the best over the loads of the medians over the rounds."""
        found = {}
        for row in self.data["served"]:
            if row["variant"] == variant and row["input"].startswith(what) and not row["errors"]:
                found.setdefault((row["input"], row["in_flight"]), []).append(row["images_per_second"])
        return max((statistics.median(rates) for rates in found.values()), default=None)

    def forward_text(self):
        rows, latencies = [], []
        for variant in self.variants:
            ours, batch = self.best(variant, OURS, "host")
            line = [variant, f"{number(ours)} ({batch})" if ours else ""]
            for engine in ("compile", "eager"):
                for kind in ("device", "host"):
                    rate, their = self.best(variant, engine, kind)
                    line.append(f"{number(rate)} ({their}){f', **{ours / rate:.2f}**' if ours else ''}" if rate else "")
            rows.append(line)
            mine = self.latency(variant, 1, OURS, "host")
            line = [variant, number(mine)]
            for engine in ("compile", "eager"):
                for kind in ("sync_device", "sync_host"):
                    theirs = self.latency(variant, 1, engine, kind)
                    line.append(f"{number(theirs)}{f', **{theirs / mine:.2f}**' if mine else ''}" if theirs else "")
            latencies.append(line)
        head = ["variant", "dla-serve", "torch.compile, photos on the device", "torch.compile, photos on the host",
                "eager amp, on the device", "eager amp, on the host"]
        parts = ["## Forward pass\n", "Images/s at the best batch size (in brackets), and dla-serve relative to it. dla-serve takes photos "
                 "from the host's memory and gives logits there; the stricter comparison is with photos that lie on the device.\n",
                 table(head, rows), "Milliseconds at batch 1, and how much faster dla-serve is.\n", table(head, latencies)]
        compiled = [row["seconds"] for row in self.data["compiled"]]
        if compiled:
            parts.append(f"torch.compile took {number(statistics.median(compiled))} s for a variant and batch size, at most {number(max(compiled))}.\n")
        for variant in self.variants:
            lines = []
            for batch in self.batches:
                ours = self.rate(variant, batch, OURS, "host")
                theirs = [self.rate(variant, batch, engine, kind) for engine in ("compile", "eager") for kind in ("device", "host")]
                if ours or any(theirs):
                    lines.append([str(batch), number(ours), *map(number, theirs)])
            parts += [f"### {variant}\n", table(["batch", *head[1:]], lines)]
        return "\n".join(parts)

    def parity_text(self):
        rows = [[row["variant"], row["precision"], str(row["device"]), str(row["engine"]), f"{row['relative_error']:.1e}",
                 "yes" if row["relative_error"] <= row["bound"] else "**no**"] for row in self.data["parity"]]
        return "## Parity\n\nRelative L2 error of the logits against timm in float32; the bound is 5e-3.\n\n" + table(
            ["variant", "precision", "device", "engine", "error", "within"], rows)

    def served_ratios(self):
        """[(variant, input, images/s, limit)]."""
        found = []
        for variant in dict.fromkeys(row["variant"] for row in self.data["served"]):
            forward, _ = self.best(variant, OURS, "host")
            for what, decoder in (("pixels", None), ("JPEG, nvjpeg", "nvjpeg"), ("JPEG, cpu", "cpu")):
                limits = [row["decode_images_per_second"] for row in self.data["limits"]
                          if (row["variant"], row["decoder"]) == (variant, decoder)]
                bound = min(filter(None, (forward, *limits)), default=None)
                rate = self.served(variant, what)
                if rate and bound:
                    found.append((variant, what, rate, bound))
        return found

    def aims_text(self):
        """What this product wants to reach on a GPU, and what it does."""
        rows = []

        def row(what, least, reached):
            if reached:
                rows.append([what, f"{least}", ", ".join(f"{name} {value:.2f}" for name, value in reached.items()),
                             "yes" if min(reached.values()) >= least else "**no**"])

        ratios, latencies = {}, {}
        for variant in self.variants:
            (ours, _), (theirs, _) = self.best(variant, OURS, "host"), self.best(variant, "compile", "device")
            if ours and theirs:
                ratios[variant] = ours / theirs
            mine, compiled = self.latency(variant, 1, OURS, "host"), self.latency(variant, 1, "compile", "sync_host")
            if mine and compiled:
                latencies[variant] = compiled / mine
        row("forward images/s / torch.compile, best batches", 1.0, ratios)
        row("speed of one photo / torch.compile", 1.0, latencies)
        served = {(variant, what): rate / bound for variant, what, rate, bound in self.served_ratios()}
        row("served from raw pixels / forward", 0.9, {v: ratio for (v, what), ratio in served.items() if what == "pixels"})
        jpeg = {}
        for (variant, what), ratio in served.items():
            if what != "pixels":
                jpeg[variant] = max(jpeg.get(variant, 0), ratio)
        row("served from JPEG / its limit, better decoder", 0.85, jpeg)
        return "## Aims\n\n" + table(["what", "at least", "reached", "all"], rows) if rows else ""

    def served_text(self):
        rows, ratios = [], []
        found = {}
        for row in self.data["served"]:
            found.setdefault((row["variant"], row["input"], row["in_flight"]), []).append(row)
        for (variant, what, in_flight), those in found.items():
            def median(field, those=those):
                return number(statistics.median(row[field] for row in those))
            rows.append([variant, what, str(in_flight), median("images_per_second"), median("p50_ms"), median("p99_ms"),
                         median("server_cpu_s_per_1000"), median("generator_cpu_s_per_1000"), str(sum(row["errors"] for row in those))])
        for variant, what, rate, bound in self.served_ratios():
            ratios.append([variant, what, number(rate), number(bound), f"**{rate / bound:.2f}**"])
        parts = ["## Served\n", "Latencies of raw pixels are those of requests of several photos.\n",
                 table(["variant", "input", "in flight", "images/s", "p50 ms", "p99 ms", "server CPU s/1000", "generator CPU s/1000", "errors"], rows)]
        if ratios:
            parts += ["Relative to the forward pass alone; for JPEG to the lower of it and what the decoder does alone.\n",
                      table(["variant", "input", "images/s", "limit", "ratio"], ratios)]
        return "\n".join(parts)

    def text(self):
        data = self.data
        versions = ", ".join(f"{key} {value}" for key, value in sorted(data["versions"].items()))
        cpu = data["machine"]
        parts = ["# Measured on a GPU\n", f"{data['date']}; {data['versions'].get('gpu', data['settings']['device'])}; {cpu['processor']}, "
                 f"{cpu['cores']} cores, {cpu['memory_gb']} GB; {versions}. By `benchmarks/gpu/run.py`, medians over the rounds of one run.\n"]
        parts.append(self.aims_text())
        if data["rows"]:
            parts += ["![Forward pass](forward.svg)\n", self.forward_text()]
        if data["served"]:
            parts.append(self.served_text())
        if data["parity"]:
            parts.append(self.parity_text())
        if data["failures"]:
            parts += ["## What failed\n", *(f"- {each['what']}: `{' '.join(each['error'].split())[:300]}`" for each in data["failures"])]
        return "\n".join(filter(None, parts)).rstrip() + "\n"

    def plot(self, path):
        """For each variant images/s over the batch size."""
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        plt.rcParams.update({"font.family": "DejaVu Sans", "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK,
                             "ytick.color": INK, "axes.edgecolor": "#b9c3cd", "svg.hashsalt": "dla-serve"})
        columns = min(len(self.variants), 3)
        lines = -(-len(self.variants) // columns)
        figure, axes = plt.subplots(lines, columns, figsize=(3.9 * columns + 0.8, 2.7 * lines + 0.8), squeeze=False)
        for axis in axes.flat[len(self.variants):]:
            axis.set_visible(False)
        shown = {}
        for axis, variant in zip(axes.flat, self.variants):
            for engine, kind in (("eager", "device"), ("compile", "device"), (OURS, "host")):
                points = [(batch, rate) for batch in self.batches if (rate := self.rate(variant, batch, engine, kind))]
                if points:
                    width = 2 if engine == OURS else 1.5
                    if len(points) < len(self.batches):  # nothing is known of what lies between
                        width = 0
                    shown[engine], = axis.plot(*zip(*points), color=COLORS[engine], marker="o", markersize=3.5 if width else 5,
                                               linewidth=width, zorder=3 if engine == OURS else 2)
            axis.set_xscale("log", base=2)
            axis.set_xticks(self.batches, [str(batch) for batch in self.batches])
            axis.minorticks_off()
            axis.set_ylim(bottom=0)
            axis.set_title(variant, loc="left", fontsize=10, fontweight="bold")
            for side in ("top", "right"):
                axis.spines[side].set_visible(False)
            axis.grid(axis="y", color="#e3e7ea", linewidth=0.7, zorder=0)
            axis.tick_params(length=0, labelsize=8)
        for axis in axes[:, 0]:
            axis.set_ylabel("images/s", fontsize=8.5)
        order = [engine for engine in (OURS, "compile", "eager") if engine in shown]
        figure.legend([shown[e] for e in order], [NAMES[e] for e in order], loc="lower center", ncols=len(order), frameon=False, fontsize=9)
        figure.text(0.01, 0.995, f"Forward pass by batch size. {self.data['versions'].get('gpu', 'CPU')}, {self.data['date'][:10]}",
                    fontsize=8, color="#6b7680", va="top")
        figure.tight_layout(rect=(0, 0.06 if lines > 1 else 0.1, 1, 0.96))
        figure.savefig(path)
        plt.close(figure)


def main():
    folder = pathlib.Path(sys.argv[1])
    report = Report(json.loads((folder / "gpu.json").read_text()))
    (folder / "README.md").write_text(report.text())
    print(f"wrote {folder / 'README.md'}")
    if report.variants:
        try:
            report.plot(folder / "forward.svg")
            print(f"wrote {folder / 'forward.svg'}")
        except ImportError as problem:
            print(f"no plot here ({problem}); elsewhere: benchmarks/gpu/report.py {folder}")


if __name__ == "__main__":
    main()
