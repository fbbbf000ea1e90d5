#!/usr/bin/env python3
"""Writes dashboards/dla-serve.json, the dashboard that Grafana shows. What a panel asks and says stands below; the rest of its
JSON, which is long, is the same for all of a kind. tests/deploy checks that the file is what this script writes.

    deploy/grafana/make_dashboard.py
"""

import json
import pathlib

DASHBOARD = pathlib.Path(__file__).resolve().parent / "dashboards/dla-serve.json"

OF = '{model=~"$model",instance=~"$instance"}'
SERVER = '{job="dla-serve",instance=~"$instance"}'
GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE = "#73BF69", "#F2CC0C", "#FF9830", "#F2495C", "#5794F2", "#B877D9"


def rate(metric, by, selector=OF):
    return f"sum by ({by}) (rate({metric}{selector}[$__rate_interval]))"


def quantile(q, metric, by="le"):
    return f"histogram_quantile({q}, {rate(metric + '_bucket', by)})"


def stat(title, text, query, unit, steps, decimals=None):
    """One number, coloured by `steps`: (from, colour), the first one from the least value."""
    return {
        "type": "stat", "title": title, "description": text, "w": 3, "h": 4, "queries": [(query, "")],
        "fieldConfig": {"defaults": {
            "unit": unit, "decimals": decimals, "min": 0, "noValue": "-",
            "thresholds": {"mode": "absolute",
                           "steps": [{"value": None if i == 0 else at, "color": color}
                                     for i, (at, color) in enumerate(steps)]},
        }, "overrides": []},
        "options": {"colorMode": "value", "graphMode": "area", "textMode": "value",
                    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}},
    }


def lines(title, text, queries, unit, stacked=False, top=None, colors=None, alone=(), dashed=()):
    """Series over time. Of stacked ones, those named in `alone` are a line of their own; `dashed` ones are limits."""
    overrides = [{"matcher": {"id": "byName", "options": name},
                  "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}]}
                 for name, color in (colors or {}).items()]
    for name in alone:
        overrides.append({"matcher": {"id": "byName", "options": name}, "properties": [
            {"id": "custom.stacking", "value": {"mode": "none"}}, {"id": "custom.fillOpacity", "value": 0},
            {"id": "custom.lineWidth", "value": 2}]})
    for name in dashed:
        overrides.append({"matcher": {"id": "byRegexp", "options": name}, "properties": [
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 6]}},
            {"id": "custom.fillOpacity", "value": 0}]})
    return {
        "type": "timeseries", "title": title, "description": text, "w": 8, "h": 8, "queries": queries,
        "fieldConfig": {"defaults": {
            "unit": unit, "min": 0, **({} if top is None else {"max": top}),
            "color": {"mode": "palette-classic"},
            "custom": {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 40 if stacked else 8, "showPoints": "never",
                       "spanNulls": False, "stacking": {"mode": "normal" if stacked else "none", "group": "A"}},
        }, "overrides": overrides},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"},
                    "tooltip": {"mode": "multi", "sort": "desc"}},
    }


def heatmap(title, text, query, unit, scheme):
    return {
        "type": "heatmap", "title": title, "description": text, "w": 8, "h": 8, "queries": [(query, "{{le}}")],
        "format": "heatmap", "fieldConfig": {"defaults": {}, "overrides": []},
        "options": {"calculate": False, "cellGap": 1, "legend": {"show": True},
                    "color": {"mode": "scheme", "scheme": scheme, "exponent": 0.5, "steps": 64},
                    "yAxis": {"unit": unit, "axisPlacement": "left"}, "rowsFrame": {"layout": "le"},
                    "tooltip": {"mode": "single", "yHistogram": True}},
    }


STAGES = {"decode": BLUE, "queue": ORANGE, "inference": GREEN, "request": "#FFFFFF"}


def stages(q, name):
    return lines(
        f"Where the time goes, {name}",
        f"The {name} of each stage, stacked, and of the whole request. Quantiles do not add up exactly: a photo that waits long "
        "is seldom one that decodes long. What lies between the stack and the line is gRPC and the answer.",
        [(quantile(q, f"dla_{stage}_seconds"), stage) for stage in STAGES],
        "s", stacked=True, colors=STAGES, alone=["request"])


ROWS = [
    ("", [
        stat("Servers up", "Servers that answer Prometheus.", "dla:servers_up:count", "none", [(0, RED), (1, GREEN)]),
        stat("Alerts", "Alerts that are firing; Prometheus' page of alerts says what each means and what to do.",
             'count(ALERTS{alertstate="firing"}) or vector(0)', "none", [(0, GREEN), (1, RED)]),
        stat("Requests/s", "Requests answered, whatever the answer; of streams messages.",
             rate("dla_requests_total", "").replace(" by ()", ""), "reqps", [(0, BLUE)], 1),
        stat("Errors", "Requests that failed by the server's fault, of all of the last 5 minutes; the worst model.",
             'max(dla:request_errors:ratio_rate5m{model=~"$model"} >= 0) or vector(0)', "percentunit",
             [(0, GREEN), (0.001, YELLOW), (0.01, RED)], 2),
        stat("p99", "99 of 100 requests are answered faster; of the last 5 minutes, the slowest model.",
             'max(dla:request_seconds:p99_5m{model=~"$model"} >= 0)', "s", [(0, GREEN), (0.5, YELLOW), (1, RED)]),
        stat("Refused", "Photos refused at the door, of all that came in the last 5 minutes; the worst model.",
             'max(dla:refusals:ratio_rate5m{model=~"$model"} >= 0) or vector(0)', "percentunit",
             [(0, GREEN), (0.001, YELLOW), (0.05, RED)], 2),
        stat("Saturation", "The part of the time that replicas compute; of all servers.",
             f'avg(dla:replica_saturation:ratio_rate1m{OF})', "percentunit", [(0, GREEN), (0.7, YELLOW), (0.9, RED)], 0),
        stat("Memory", "Of the memory that a server may take; the fullest.",
             'max(dla:memory_used:ratio{instance=~"$instance"})', "percentunit",
             [(0, GREEN), (0.75, YELLOW), (0.9, RED)], 0),
    ]),
    ("Requests", [
        lines("Requests by model", "Requests answered; of streams messages. (none): requests for models that do not exist.",
              [(f'label_replace({rate("dla_requests_total", "model")}, "model", "(none)", "model", "")', "{{model}}")],
              "reqps"),
        lines("Requests by code", "INVALID_ARGUMENT and NOT_FOUND are the callers' fault; RESOURCE_EXHAUSTED and "
              "DEADLINE_EXCEEDED mean too little room or time; INTERNAL and UNAVAILABLE are the servers'.",
              [(rate("dla_requests_total", "code") + " > 0", "{{code}}")], "reqps", stacked=True,
              colors={"OK": GREEN, "INVALID_ARGUMENT": YELLOW, "NOT_FOUND": BLUE, "RESOURCE_EXHAUSTED": ORANGE,
                      "DEADLINE_EXCEEDED": PURPLE, "INTERNAL": RED, "UNAVAILABLE": "#C4162A"}),
        lines("Time of a request", "From its arrival to its answer.",
              [(quantile(q, "dla_request_seconds"), name) for q, name in
               ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"))], "s", colors={"p50": GREEN, "p90": YELLOW, "p99": RED}),
    ]),
    ("Where the time goes", [stages(0.5, "p50"), stages(0.9, "p90"), stages(0.99, "p99")]),
    ("Batches, queues, replicas", [
        heatmap("Photos in a batch", "How many forward passes had how many photos. Batches grow with the load by themselves: "
                "all at the lower end means replicas keep up, all at the upper end means they do not.",
                f"sum by (le) (increase(dla_batch_size_bucket{OF}[$__rate_interval]))", "none", "Oranges"),
        lines("Queue", "Photos that wait for a replica or are being decoded, and how many may.",
              [(f"dla_queue_depth{OF}", "{{model}} {{instance}}"),
               (f"min by (model) (dla_queue_capacity{OF})", "limit {{model}}")], "none", dashed=["/^limit/"]),
        lines("Saturation of replicas", "The part of the time that they compute. 100 % for minutes: photos wait, add servers.",
              [(f"dla:replica_saturation:ratio_rate1m{OF}", "{{model}} {{instance}}")], "percentunit", top=1),
        lines("Refused at the door", "queue: it is full. deadline: it would pass before the photo's turn. requests, bytes, "
              "pixels: too much in flight, of one caller or of all.",
              [(rate("dla_refused_total", "reason"), "{{reason}}")], "reqps", stacked=True),
        lines("Replicas that failed", "Forward passes that came to nothing, by reason, and replicas rebuilt after that. "
              "Photos are tried again, so callers need not have noticed.",
              [(rate("dla_batch_failures_total", "reason"), "{{reason}}"),
               (f"sum(rate(dla_replica_restarts_total{OF}[$__rate_interval]))", "rebuilt")], "ops"),
        lines("Models", "1: healthy; 0: its batches fail, see DlaModelUnhealthy. not loaded: its newest files could not be "
              "loaded or failed the self-test.",
              [(f"min by (model) (dla_model_healthy{OF})", "{{model}}"),
               (f"max by (model) (dla_model_load_failed{OF})", "{{model}} not loaded")], "none", top=1),
    ]),
    ("Answers", [
        heatmap("Top-1 probability", "How sure the model is of its answers. A band that moves down while the model stays the "
                "same means that the photos have changed: another camera, another kind of caller, broken crops.",
                f"sum by (le) (increase(dla_top1_probability_bucket{OF}[$__rate_interval]))", "percentunit", "Blues"),
        lines("Top-1 probability, mean", "The same as one number for each model; compare weeks.",
              [(f'{rate("dla_top1_probability_sum", "model")} / {rate("dla_top1_probability_count", "model")}', "{{model}}")],
              "percentunit", top=1),
        lines("Answers from the cache", "Of all photos; 0 where there is no cache.",
              [(f'{rate("dla_cache_hits_total", "model")} / ({rate("dla_cache_hits_total", "model")} + '
                f'{rate("dla_batch_size_sum", "model")})', "{{model}}")], "percentunit", top=1),
    ]),
    ("Machine", [
        lines("Memory", "In RAM, and the limit of the container or the machine, at which the kernel kills the server.",
              [(f"process_resident_memory_bytes{SERVER}", "{{instance}}"),
               (f"min(dla_memory_limit_bytes{SERVER})", "limit")], "bytes", dashed=["/^limit/"]),
        lines("Processors", "Cores' worth of time that a server takes.",
              [(f"rate(process_cpu_seconds_total{SERVER}[$__rate_interval])", "{{instance}}")], "none"),
        lines("Connections", "Open connections to the gRPC port. Behind Envoy there are few.",
              [(f"dla_connections{SERVER}", "{{instance}}")], "none"),
    ]),
    ("Envoy", [
        lines("Servers that Envoy sends to", "Healthy by gRPC health checks, all that DNS names, and taken out for a moment "
              "because connections to them broke.",
              [('max(envoy_cluster_membership_healthy{envoy_cluster_name="dla-serve"})', "healthy"),
               ('max(envoy_cluster_membership_total{envoy_cluster_name="dla-serve"})', "all"),
               ('max(envoy_cluster_outlier_detection_ejections_active{envoy_cluster_name="dla-serve"})', "taken out")],
              "none", colors={"healthy": GREEN, "all": BLUE, "taken out": RED}),
        lines("Retries", "Calls that Envoy sent to another server, and those that the retry budget left no room for. Some "
              "while a server restarts; many for long mean that one is ill.",
              [('sum(rate(envoy_cluster_upstream_rq_retry{envoy_cluster_name=~"dla-serve.*"}[$__rate_interval]))', "sent again"),
               ('sum(rate(envoy_cluster_upstream_rq_retry_overflow{envoy_cluster_name=~"dla-serve.*"}[$__rate_interval]))',
                "no room")], "reqps", colors={"sent again": YELLOW, "no room": RED}),
        lines("Callers", "Connections to Envoy, and calls that wait for their answer.",
              [('sum by (envoy_http_conn_manager_prefix) '
                '(envoy_http_downstream_cx_active{envoy_http_conn_manager_prefix=~"grpc|http"})',
                "{{envoy_http_conn_manager_prefix}} connections"),
               ('sum(envoy_cluster_upstream_rq_active{envoy_cluster_name=~"dla-serve.*"})', "calls")], "none"),
    ]),
]

GPU = '{instance=~"$instance"}'
GPU_ROW = ("GPU", [
    lines("GPU memory", "In use, by all processes, and how much there is.",
          [(f"dla_gpu_memory_used_bytes{GPU}", "{{instance}} {{gpu}}"),
           (f"dla_gpu_memory_total_bytes{GPU}", "limit {{gpu}}")], "bytes", dashed=["/^limit/"]),
    lines("GPU utilisation", "The part of the time that a kernel runs on it.",
          [(f"dla_gpu_utilization_ratio{GPU}", "{{instance}} {{gpu}}")], "percentunit", top=1),
    lines("GPU temperature", "Beyond some 85 °C the GPU slows itself down.",
          [(f"dla_gpu_temperature_celsius{GPU}", "{{instance}} {{gpu}}")], "celsius"),
    lines("GPU power", "Watts drawn.", [(f"dla_gpu_power_watts{GPU}", "{{instance}} {{gpu}}")], "watt"),
    lines("GPU stages", "Where a batch's time on the GPU goes, by its own clock, on average. While one batch is computed, others copy.",
          [('sum by (stage) (rate(dla_gpu_stage_seconds_sum{model=~"$model",instance=~"$instance"}[$__rate_interval])) / '
            'sum by (stage) (rate(dla_gpu_stage_seconds_count{model=~"$model",instance=~"$instance"}[$__rate_interval]))',
            "{{stage}}")], "s", stacked=True),
    lines("GPU errors", "Errors of its memory that could not be corrected, and critical errors (Xid) that the driver reported, in an hour.",
          [(f"increase(dla_gpu_ecc_uncorrected_errors_total{GPU}[1h])", "memory {{instance}} {{gpu}}"),
           (f"increase(dla_gpu_xid_errors_total{GPU}[1h])", "Xid {{instance}} {{gpu}}")], "none"),
])

SOURCE = {"type": "prometheus", "uid": "${source}"}


def variable(name, label, query):
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "refresh": 2, "sort": 1, "multi": True,
            "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
            "query": {"query": query, "refId": "values"}, "definition": query}


def main():
    number = 0

    def place(panel, x, y):
        nonlocal number
        number += 1
        placed = {"id": number, "gridPos": {"x": x, "y": y, "w": panel["w"], "h": panel["h"]}, "datasource": SOURCE}
        placed |= {key: value for key, value in panel.items() if key not in ("w", "h", "queries", "format")}
        placed["targets"] = [
            {"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": query, "legendFormat": legend or "__auto",
             "range": True, "format": panel.get("format", "time_series")}
            for i, (query, legend) in enumerate(panel["queries"])]
        return placed

    def row(title, y, collapsed=False, inside=()):
        nonlocal number
        number += 1
        return {"id": number, "type": "row", "title": title, "collapsed": collapsed, "panels": list(inside),
                "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}}

    def lay_out(content, y):
        placed, x = [], 0
        for panel in content:
            if x + panel["w"] > 24:
                x, y = 0, y + panel["h"]
            placed.append(place(panel, x, y))
            x += panel["w"]
        return placed, y + content[-1]["h"]

    panels, y = [], 0
    for title, content in ROWS:
        if title:
            panels.append(row(title, y))
            y += 1
        placed, y = lay_out(content, y)
        panels += placed
    title, content = GPU_ROW
    inside, _ = lay_out(content, y + 1)
    panels.append(row(title, y, collapsed=True, inside=inside))

    dashboard = {
        "uid": "dla-serve", "title": "dla-serve", "tags": ["dla-serve"], "editable": False, "schemaVersion": 39,
        "refresh": "5s", "time": {"from": "now-30m", "to": "now"}, "timezone": "browser", "graphTooltip": 1,
        "annotations": {"list": [{
            "name": "Alerts", "datasource": SOURCE, "enable": True, "iconColor": RED, "expr": 'ALERTS{alertstate="firing"}',
            "titleFormat": "{{alertname}}", "textFormat": "{{instance}} {{model}}", "step": "15s"}]},
        "templating": {"list": [
            {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus",
             "current": {"text": "Prometheus", "value": "prometheus"}},
            variable("model", "Model", "label_values(dla_requests_total, model)"),
            variable("instance", "Server", 'label_values(up{job="dla-serve"}, instance)')]},
        "panels": panels,
    }
    DASHBOARD.write_text(json.dumps(dashboard, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
