#!/usr/bin/env python3
"""Wraps deploy/observability/alerts.yaml as an object for the Prometheus Operator; a test compares both."""

from manifests import HOME, yaml

SOURCE = HOME.parent / "observability" / "alerts.yaml"
TARGET = HOME / "components" / "monitoring" / "alerts-campaigns.yaml"
HEAD = "# Made by deploy/kubernetes/embed_alerts.py from deploy/observability/alerts.yaml; change that one.\n"


def main():
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "campaign-control"},
        "spec": yaml.safe_load(SOURCE.read_text()),
    }
    TARGET.write_text(HEAD + yaml.safe_dump(rule, sort_keys=False, width=110))


if __name__ == "__main__":
    main()
