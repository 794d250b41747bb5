#!/usr/bin/env python3
"""Writes the dashboards beside it: make_dashboards.py [FOLDER]. What is on them is in panels.py."""
import json
import os
import sys

from panels import DASHBOARDS

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24  # of Grafana's grid
HEIGHTS = {"stat": 4, "timeseries": 8, "table": 8, "bargauge": 8}


def variable(name, label, query):
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "refresh": 2, "sort": 1, "multi": True,
            "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
            "definition": query, "query": {"query": query, "refId": name}}


VARIABLES = [
    {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
    variable("job", "job", "label_values(fulger_build_info, job)"),
    variable("instance", "server", 'label_values(fulger_build_info{job=~"$job"}, instance)'),
]


def field_config(panel):
    defaults = {"unit": panel.get("unit", "short"), **({"min": 0} if panel["kind"] != "table" else {})}
    for bound in ("min", "max"):
        if bound in panel:
            defaults[bound] = panel[bound]
    # [(from this value on, colour)]. Without any, Grafana would have its own: red from 80 on.
    steps = [{"value": None, "color": "green"}] + [{"value": v, "color": c} for v, c in panel.get("thresholds", ())]
    defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    if panel["kind"] == "timeseries":
        stacked = "normal" if panel.get("stacked") else "none"
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 30 if panel.get("stacked") else 0, "showPoints": "never",
                              "stacking": {"mode": stacked, "group": "A"}}
    return {"defaults": defaults, "overrides": []}


def options(kind):
    if kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    if kind == "bargauge":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "horizontal", "displayMode": "basic"}
    if kind == "timeseries":
        return {"tooltip": {"mode": "multi", "sort": "desc"}, "legend": {"displayMode": "list", "placement": "bottom"}}
    return {"showHeader": True}


def target(panel, index, query, legend):
    at_once = panel["kind"] in ("table", "bargauge")
    return {"datasource": SOURCE, "refId": chr(ord("A") + index), "expr": query, "legendFormat": legend,
            "instant": at_once, "range": not at_once, "format": "table" if panel["kind"] == "table" else "time_series"}


def place(rows):
    """Panels from left to right, row by row."""
    placed, y = [], 0
    for title, panels in rows:
        placed.append({"id": len(placed) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}})
        y, x, lowest = y + 1, 0, y + 1
        for panel in panels:
            width, height = panel.get("width", 8), HEIGHTS[panel["kind"]]
            if x + width > WIDTH:
                x, y = 0, lowest
            placed.append({
                "id": len(placed) + 1, "type": panel["kind"], "title": panel["title"], "datasource": SOURCE,
                "description": panel["about"], "gridPos": {"x": x, "y": y, "w": width, "h": height},
                "fieldConfig": field_config(panel), "options": options(panel["kind"]),
                "targets": [target(panel, i, query, legend) for i, (legend, query) in enumerate(panel["queries"])],
                **({"transformations": [{"id": "organize", "options": {"excludeByName": dict.fromkeys(
                    ("Time", "Value", "__name__", "job"), True)}}]} if panel["kind"] == "table" else {})})
            x, lowest = x + width, max(lowest, y + height)
        y = lowest
    return placed


def dashboard(name, title, rows):
    return {"uid": f"fulger-{name}", "title": f"Fulger: {title}", "tags": ["fulger"], "schemaVersion": 38, "version": 1,
            "editable": True, "refresh": "30s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser",
            "links": [{"type": "dashboards", "tags": ["fulger"], "title": "Fulger", "asDropdown": True,
                       "keepTime": True, "includeVars": True}],
            "templating": {"list": VARIABLES}, "annotations": {"list": []}, "panels": place(rows)}


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else HERE
    for name, (title, rows) in DASHBOARDS.items():
        with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as file:
            json.dump(dashboard(name, title, rows), file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
