#!/usr/bin/env python3
"""Renders an overlay with `kubectl kustomize`, and prints its objects as JSON: manifests.py dev|prod

Needs the tools of deploy/local/tools.py: eval "$(python3 deploy/local/tools.py)"
"""

import json
import os
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parent
OVERLAYS = sorted(path.name for path in (HOME / "overlays").iterdir())
KINDS_WITH_PODS = ("Deployment", "StatefulSet", "Job")


def need(variable):
    try:
        return os.environ[variable]
    except KeyError:
        sys.exit(f'{variable} is not set: run `make test`, or eval "$(python3 deploy/local/tools.py)"')


sys.path.append(need("CAMPAIGN_PYTHONPATH"))
import yaml  # noqa: E402, from the tools


def kustomize(overlay):
    """Returns the objects that would be applied, as YAML."""
    made = subprocess.run([need("CAMPAIGN_KUBECTL"), "kustomize", HOME / "overlays" / overlay],
                          capture_output=True, text=True, check=False)
    # kubectl warns of features that will stop working; a warning is an error here.
    if made.returncode != 0 or made.stderr:
        sys.exit(f"kubectl kustomize {overlay}:\n{made.stderr}")
    return made.stdout


def render(overlay):
    """Returns the objects of an overlay."""
    return list(yaml.safe_load_all(kustomize(overlay)))


def of_kind(objects, *kinds):
    return [found for found in objects if found["kind"] in kinds]


def name(found):
    return found["metadata"]["name"]


def pod(workload):
    """Returns the template of a workload's pods."""
    return workload["spec"]["template"]


def container(workload):
    """Returns the one container of a workload."""
    [only] = pod(workload)["spec"]["containers"]
    return only


def environment(workload):
    """Returns the variables with a value of their own."""
    return {entry["name"]: entry["value"] for entry in container(workload).get("env", []) if "value" in entry}


def selects(selector, labels):
    """Reports whether a selector selects an object with these labels."""
    wanted = selector.get("matchLabels", {})
    for rule in selector.get("matchExpressions", []):
        if rule["operator"] != "In":
            raise NotImplementedError(rule)
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return all(labels.get(key) == value for key, value in wanted.items())


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in OVERLAYS:
        sys.exit(f"usage: manifests.py {'|'.join(OVERLAYS)}")
    json.dump(render(sys.argv[1]), sys.stdout, indent=1)
