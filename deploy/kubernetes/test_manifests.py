"""Tests of the manifests; `make test` starts them."""

import re
import unittest

import kubernetes_validate
import yaml
from manifests import (HOME, KINDS_WITH_PODS, OVERLAYS, container, environment, name, of_kind, pod, render,
                       selects)

# Kinds of operators. The tools have no schemas of these kinds.
CUSTOM_KINDS = {"PrometheusRule", "ScaledObject", "ServiceMonitor"}
# Oldest version that the README names, and newest version with a schema.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
OURS = ("campaign-service", "dialer-worker")
# Time that the programs need after their grace: for last messages on streams, and for last reports of calls.
AFTER_GRACE_SECONDS = {"campaign-service": 2, "dialer-worker": 10}
METRICS_LISTEN = {"campaign-service": "CAMPAIGN_METRICS_LISTEN", "dialer-worker": "DIALER_METRICS_LISTEN"}
GRACE = {"campaign-service": "CAMPAIGN_DRAIN_GRACE_SECONDS", "dialer-worker": "DIALER_DRAIN_GRACE_SECONDS"}
# Time between the last second that a program may need and the kill.
MARGIN_SECONDS = 10
ALERTS = HOME.parent / "observability" / "alerts.yaml"
TOP = HOME.parents[1]


def sections(readme):
    """Returns the addresses of a README's sections, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", readme.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}


class Overlay:
    """Tests that every overlay must pass."""

    overlay = ""

    @classmethod
    def setUpClass(cls):
        cls.objects = render(cls.overlay)
        cls.workloads = {name(found): found for found in of_kind(cls.objects, *KINDS_WITH_PODS)}
        cls.services = {name(found): found for found in of_kind(cls.objects, "Service")}

    def pods_of(self, selector):
        return [found for found in self.workloads.values() if selects(selector, pod(found)["metadata"]["labels"])]

    def ports_of(self, workload):
        return {port["name"]: port["containerPort"] for port in container(workload)["ports"]}

    def test_every_object_is_what_kubernetes_takes(self):
        for found in self.objects:
            with self.subTest(kind=found["kind"], name=name(found)):
                if found["kind"] not in CUSTOM_KINDS:
                    for version in VERSIONS:
                        kubernetes_validate.validate(found, version, strict=True)

    def test_names_are_in_one_namespace_and_unique(self):
        [namespace] = of_kind(self.objects, "Namespace")
        self.assertEqual(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted")
        others = [found for found in self.objects if found["kind"] != "Namespace"]
        self.assertEqual({found["metadata"]["namespace"] for found in others}, {name(namespace)})
        names = [(found["kind"], name(found)) for found in self.objects]
        self.assertEqual(len(names), len(set(names)))

    def test_pods_are_restricted(self):
        for workload in self.workloads.values():
            with self.subTest(name(workload)):
                spec, inside = pod(workload)["spec"], container(workload)["securityContext"]
                self.assertFalse(spec["automountServiceAccountToken"])
                for word in ("hostNetwork", "hostPID", "hostIPC", "initContainers"):
                    self.assertNotIn(word, spec)
                self.assertTrue(spec["securityContext"]["runAsNonRoot"])
                self.assertGreater(spec["securityContext"]["runAsUser"], 0)
                self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
                self.assertEqual(inside, {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                          "capabilities": {"drop": ["ALL"]}})
                self.assertEqual(set(container(workload)["resources"]["requests"]), {"cpu", "memory"})
                self.assertIn("memory", container(workload)["resources"]["limits"])
                self.assertNotRegex(container(workload)["image"], r":latest$|^[^:]+$")

    def test_secrets_are_only_named(self):
        self.assertEqual(of_kind(self.objects, "Secret"), [])
        readme = (HOME / "README.md").read_text()
        for workload in self.workloads.values():
            for entry in container(workload).get("env", []):
                if re.search(r"PASSWORD|SECRET|API_KEY|LINK_KEY|^DATABASE_URL$", entry["name"]):
                    self.assertEqual(list(entry["valueFrom"]), ["secretKeyRef"], entry["name"])
            named = [(entry["valueFrom"]["secretKeyRef"]["name"], entry["valueFrom"]["secretKeyRef"]["key"])
                     for entry in container(workload).get("env", []) if "secretKeyRef" in entry.get("valueFrom", {})]
            mounts = {mount["name"]: mount["mountPath"] for mount in container(workload).get("volumeMounts", [])}
            paths = [value for key, value in environment(workload).items() if key.endswith("_FILE")]
            for volume in pod(workload)["spec"].get("volumes", []):
                if "secret" in volume:
                    files = [path.rsplit("/", 1)[1] for path in paths
                             if path.rsplit("/", 1)[0] == mounts[volume["name"]]]
                    self.assertTrue(files, f"{volume['name']}: no variable names a file of it")
                    named += [(volume["secret"]["secretName"], file) for file in files]
            under = [path for path in paths if path.rsplit("/", 1)[0] not in mounts.values()]
            self.assertEqual(under, [], "files that nothing mounts")
            for secret, key in named:
                self.assertRegex(readme, rf"\| `{re.escape(secret)}` \|.*`{re.escape(key)}`", "not in the README")

    def test_selectors_find_pods_and_ports_are_there(self):
        for service in self.services.values():
            found = self.pods_of({"matchLabels": service["spec"]["selector"]})
            self.assertEqual([name(workload) for workload in found], [name(service)])
            for port in service["spec"]["ports"]:
                self.assertEqual(self.ports_of(found[0])[port["targetPort"]], port["port"])
        for workload in of_kind(self.objects, "Deployment", "StatefulSet"):
            self.assertEqual(self.pods_of(workload["spec"]["selector"]), [workload])
        for budget in of_kind(self.objects, "PodDisruptionBudget"):
            self.assertEqual([name(found) for found in self.pods_of(budget["spec"]["selector"])], [name(budget)])

    def test_network_policies_let_through_what_is_needed_and_name_real_ports(self):
        policies = of_kind(self.objects, "NetworkPolicy")
        for policy in policies:
            taken = self.pods_of(policy["spec"]["podSelector"])
            self.assertTrue(taken, name(policy))
            for rule in policy["spec"].get("ingress", []):
                for port in rule["ports"]:
                    for workload in taken:
                        self.assertIn(port["port"], self.ports_of(workload), name(policy))
            for rule in policy["spec"].get("egress", []):
                for peer in rule["to"]:
                    if "podSelector" in peer:
                        [target] = self.pods_of(peer["podSelector"])
                        for port in rule["ports"]:
                            self.assertIn(port["port"], self.ports_of(target).values(), name(policy))
        everyone = {name(found): {"Ingress", "Egress"} for found in self.workloads.values()}
        for policy in policies:
            for workload in self.pods_of(policy["spec"]["podSelector"]):
                everyone[name(workload)] -= set(policy["spec"]["policyTypes"])
        self.assertEqual([name for name, open in everyone.items() if open], [], "not cut off from anything")

    def test_probes_and_listeners_are_at_the_ports_that_are_named(self):
        for program in OURS:
            workload = self.workloads[program]
            ports = self.ports_of(workload)
            listeners = {"grpc": "CAMPAIGN_LISTEN", "health": "CAMPAIGN_HEALTH_LISTEN",
                         "metrics": METRICS_LISTEN[program]}
            for port, number in ports.items():
                self.assertEqual(environment(workload)[listeners[port]], f"0.0.0.0:{number}")
            inside = container(workload)
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                self.assertEqual(inside[probe]["grpc"]["port"], ports["health"], f"{program} {probe}")
            # Only readiness depends on the database or the service: a restart brings back neither.
            self.assertEqual(inside["startupProbe"]["grpc"]["service"], "liveness")
            self.assertEqual(inside["livenessProbe"]["grpc"]["service"], "liveness")
            self.assertEqual(inside["readinessProbe"]["grpc"].get("service", ""), "")

    def test_there_is_time_to_drain_before_the_kill(self):
        for program in OURS:
            workload = self.workloads[program]
            pre_stop = container(workload).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            needed = pre_stop + int(environment(workload)[GRACE[program]]) + AFTER_GRACE_SECONDS[program]
            self.assertGreaterEqual(pod(workload)["spec"]["terminationGracePeriodSeconds"], needed + MARGIN_SECONDS)
            self.assertEqual(workload["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"], 0)

    def test_each_program_has_one_autoscaler_at_most_and_then_no_number_of_its_own(self):
        scaled = [found["spec"]["scaleTargetRef"]["name"]
                  for found in of_kind(self.objects, "HorizontalPodAutoscaler", "ScaledObject")]
        self.assertIn("campaign-service", scaled)
        self.assertEqual(len(scaled), len(set(scaled)))
        for program in OURS:
            self.assertEqual("replicas" in self.workloads[program]["spec"], program not in scaled)

    def test_workers_find_the_service_and_migrations_are_of_its_version(self):
        service = self.workloads["campaign-service"]
        scheme = "https" if "CAMPAIGN_TLS_CERT_FILE" in environment(service) else "http"
        self.assertEqual(self.services["campaign-service"]["spec"]["clusterIP"], "None")
        port = self.ports_of(service)["grpc"]
        url = environment(self.workloads["dialer-worker"])["DIALER_SERVICE_URL"]
        self.assertEqual(url, f"{scheme}://campaign-service:{port}")
        self.assertEqual(container(self.workloads["campaign-migrate"])["image"], container(service)["image"])


class Dev(Overlay, unittest.TestCase):
    overlay = "dev"

    def test_the_database_takes_as_many_connections_as_replicas_may_open(self):
        [scaler] = of_kind(self.objects, "HorizontalPodAutoscaler")
        # A rollout adds one replica, and each has one connection to listen on. PostgreSQL's default is 100 connections.
        replicas = scaler["spec"]["maxReplicas"] + 1
        per_replica = int(environment(self.workloads["campaign-service"])["CAMPAIGN_DATABASE_MAX_CONNECTIONS"]) + 1
        self.assertLess(replicas * per_replica, 90)


class Prod(Overlay, unittest.TestCase):
    overlay = "prod"

    def test_nobody_gets_in_unknown_or_in_the_clear(self):
        service = environment(self.workloads["campaign-service"])
        self.assertNotIn("CAMPAIGN_INSECURE_NO_AUTHENTICATION", service)
        for variable in ("CAMPAIGN_TLS_CERT_FILE", "CAMPAIGN_TOKEN_JWKS_FILE", "CAMPAIGN_TOKEN_AUDIENCE"):
            self.assertIn(variable, service)

    def test_people_can_be_erased_by_a_key_that_is_kept_elsewhere(self):
        self.assertEqual(environment(self.workloads["campaign-service"])["CAMPAIGN_ERASURE_KEY_FILE"],
                         "/etc/campaign/erasure/key")
        volumes = pod(self.workloads["campaign-service"])["spec"]["volumes"]
        self.assertIn({"name": "erasure", "secret": {"secretName": "campaign-erasure-key"}}, volumes)

    def test_both_programs_tell_a_collector_that_they_reach(self):
        [policy] = [found for found in of_kind(self.objects, "NetworkPolicy") if name(found) == "traces"]
        [rule] = policy["spec"]["egress"]
        reached = {name(found) for found in self.pods_of(policy["spec"]["podSelector"])}
        for program in OURS:
            variables = environment(self.workloads[program])
            self.assertIn(program, reached)
            self.assertRegex(variables["CAMPAIGN_OTLP_ENDPOINT"], rf":{rule['ports'][0]['port']}$")
            self.assertLessEqual(float(variables["CAMPAIGN_TRACE_RATIO"]), 1)

    # No package brings schemas of the operators. This checks that needed fields are set and point at existing objects.
    def test_custom_objects_point_at_what_there_is(self):
        [scaled] = of_kind(self.objects, "ScaledObject")
        self.assertIn(scaled["spec"]["scaleTargetRef"]["name"], self.workloads)
        queries = [trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]]
        for metric in ("campaign_backlog_contacts", "dialer_calls_in_progress"):
            self.assertTrue(any(metric in query for query in queries), metric)
        for trigger in scaled["spec"]["triggers"]:
            self.assertEqual(trigger["type"], "prometheus")
            self.assertGreater(float(trigger["metadata"]["threshold"]), 0)
        [monitor] = of_kind(self.objects, "ServiceMonitor")
        watched = [service for service in self.services.values()
                   if selects(monitor["spec"]["selector"], service["metadata"]["labels"])]
        self.assertEqual({name(service) for service in watched}, set(OURS))
        for endpoint in monitor["spec"]["endpoints"]:
            for service in watched:
                self.assertIn(endpoint["port"], [port["name"] for port in service["spec"]["ports"]])

    def test_alerts_say_what_to_do_and_name_what_there_is(self):
        rules = {name(found): found["spec"]["groups"] for found in of_kind(self.objects, "PrometheusRule")}
        alerts = [rule for groups in rules.values() for group in groups for rule in group["rules"] if "alert" in rule]
        self.assertGreater(len(alerts), 5)
        for alert in alerts:
            self.assertIn(alert["labels"]["severity"], ("critical", "warning", "info"), alert["alert"])
            self.assertIn("summary", alert["annotations"], alert["alert"])
            runbook = re.fullmatch(r"https://example\.com/campaigns/(.+\.md)#(.+)",
                                   alert["annotations"].get("runbook_url", ""))
            self.assertIsNotNone(runbook, f"{alert['alert']} has no runbook of ours")
            self.assertIn(runbook[2], sections(TOP / runbook[1]), f"{alert['alert']}: no such section")
        named = re.findall(r'(deployment|job_name|horizontalpodautoscaler)="([^"]+)"', str(alerts))
        self.assertEqual([found for _, found in named if found not in self.workloads], [])

    def test_alerts_on_our_own_metrics_are_those_of_the_observability_folder(self):
        [embedded] = [found["spec"]["groups"] for found in of_kind(self.objects, "PrometheusRule")
                      if name(found) == "campaign-control"]
        original = yaml.safe_load(ALERTS.read_text())["groups"] if ALERTS.exists() else []
        self.assertEqual(embedded, original, "run python3 deploy/kubernetes/embed_alerts.py")


class All(unittest.TestCase):
    def test_every_overlay_is_tested(self):
        self.assertEqual(OVERLAYS, ["dev", "prod"])


if __name__ == "__main__":
    unittest.main()
