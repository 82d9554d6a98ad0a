"""What must hold of any pod template that has the gateway in it, whoever rendered it."""

import posixpath
import re

from program import BINARY, Routes, run, temporary, workload_identity


class Pods:
    """The objects of one rendering."""

    def __init__(self, objects):
        self.objects = objects

    def all(self, kind):
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind, name=None):
        found = [each for each in self.all(kind) if name in (None, each["metadata"]["name"])]
        assert len(found) == 1, f"{len(found)} of {kind} {name or ''}"
        return found[0]

    @property
    def template(self):
        return self.one("Deployment")["spec"]["template"]

    @property
    def spec(self):
        return self.template["spec"]

    @property
    def containers(self):
        return self.spec.get("initContainers", []) + self.spec["containers"]

    @property
    def gateway(self):
        found = [each for each in self.containers if each["name"] == "obo-gateway"]
        assert len(found) == 1
        return found[0]

    def environment(self):
        return {each["name"]: each["value"] for each in self.gateway["env"]}

    def mounted(self, path):
        """The volume behind a path in the gateway's container, and the file's name in it."""
        for mount in self.gateway["volumeMounts"]:
            if posixpath.dirname(path) == mount["mountPath"]:
                assert "subPath" not in mount, "a subPath is never renewed"
                volume = next(each for each in self.spec["volumes"] if each["name"] == mount["name"])
                return volume, posixpath.basename(path)
        raise AssertionError(f"nothing is mounted for {path}")

    def routes(self, test):
        """The routes file that the gateway will read."""
        volume, key = self.mounted(self.environment()["OBO_GATEWAY_CONFIG"])
        text = self.one("ConfigMap", volume["configMap"]["name"])["data"][key]
        folder = temporary(test)
        return Routes(text, folder, {**workload_identity(folder), **self.environment()})

    def grace(self, container):
        return container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)


def hold(test, pods):
    """Everything that is asked of every rendering."""
    restricted(test, pods)
    arguments(test, pods)
    routes = pods.routes(test)
    routes.check()
    ports(test, pods, routes)
    files(test, pods, routes)
    time_to_go(test, pods, routes)
    names(test, pods)


def restricted(test, pods):
    """The profile `restricted` of the Pod Security Standards, and a file system that can't be written."""
    spec = pods.spec
    test.assertFalse({"hostNetwork", "hostPID", "hostIPC"} & spec.keys())
    test.assertIs(spec["securityContext"]["runAsNonRoot"], True)
    test.assertGreater(spec["securityContext"]["runAsUser"], 0)
    test.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
    test.assertIs(spec["automountServiceAccountToken"], False)
    for volume in spec["volumes"]:
        test.assertIn((volume.keys() - {"name"}).pop(), {"configMap", "secret", "projected", "csi"})
    for container in pods.containers:
        context = container["securityContext"]
        test.assertIs(context["allowPrivilegeEscalation"], False)
        test.assertIs(context["readOnlyRootFilesystem"], True)
        test.assertEqual(context["capabilities"], {"drop": ["ALL"]})
        test.assertNotIn("privileged", context)
        test.assertNotRegex(container["image"], r"(:latest|^[^:@]+)$")


def arguments(test, pods):
    """What the container is started with parses, and variables of ours are ones that the program knows."""
    test.assertNotIn("command", pods.gateway)
    run(BINARY, *pods.gateway["args"], "--help")
    help_text = run(BINARY, "--help").stdout
    for name in pods.environment():
        if name.startswith("OBO_GATEWAY_"):
            test.assertIn(f"env: {name}", help_text)


def ports(test, pods, routes):
    """The ports of the manifest are those where the routes file listens, and probes and services lead to them."""
    named = {port["name"]: port["containerPort"] for port in pods.gateway["ports"]}
    outside = [address for address in routes.listeners() if not address.startswith("127.")]
    test.assertEqual([f"0.0.0.0:{port}" for name, port in named.items() if name != "admin"], outside)
    # The kubelet asks at the pod's address.
    test.assertEqual(routes.admin(), f"0.0.0.0:{named['admin']}")
    for probe, paths in (("startupProbe", ("/livez", "/readyz")), ("livenessProbe", ("/livez",)), ("readinessProbe", ("/readyz",))):
        asked = pods.gateway[probe]["httpGet"]
        test.assertEqual(asked["port"], "admin")
        test.assertIn(asked["path"], paths)
    for service in pods.all("Service"):
        for port in service["spec"]["ports"]:
            test.assertIn(port["targetPort"], named.keys() - {"admin"})
    for policy in pods.all("NetworkPolicy"):
        for rule in policy["spec"]["ingress"]:
            for port in rule["ports"]:
                test.assertIn(port["port"], named)
            if {"port": "admin"} in rule["ports"]:
                test.assertTrue(rule["from"], "anybody could read the metrics")
        for upstream in routes.read["upstreams"].values():
            inside = re.fullmatch(r"http://[^.]+\.([^.]+)\.svc\.cluster\.local:(\d+)", upstream.get("url", ""))
            if inside:
                peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": inside[1]}}}
                test.assertIn({"to": [peer], "ports": [{"port": int(inside[2])}]}, policy["spec"]["egress"])
    for monitor in pods.all("PodMonitor"):
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            test.assertEqual((endpoint["port"], endpoint["path"]), ("admin", "/metrics"))


def files(test, pods, routes):
    """Every file that the routes name is mounted, as a folder, from a secret that has it where the secret is known."""
    for file in routes.files:
        volume, key = pods.mounted(str(file))
        known = [each for each in pods.all("Secret") if each["metadata"]["name"] == volume["secret"]["secretName"]]
        for secret in known:
            test.assertIn(key, secret["stringData"])
    for volume in pods.spec["volumes"]:
        if "secret" in volume:
            # Read by the group of the pod, which is not the owner.
            test.assertIn(volume["secret"].get("defaultMode", 0o644), (0o440, 0o644))


def time_to_go(test, pods, routes):
    """A pod that goes has the time it was promised: first it serves on, then requests in flight end."""
    total = pods.spec["terminationGracePeriodSeconds"]
    delay = pods.grace(pods.gateway) + routes.seconds("shutdown_delay", "0s")
    sidecar = pods.gateway.get("restartPolicy") == "Always"
    if not sidecar:
        test.assertGreater(total, delay + routes.seconds("shutdown_grace", "30s"))
    for container in pods.spec["containers"]:
        if container["name"] != "obo-gateway":
            # The service outlives the gateway, or, where the gateway outlives it, serves until callers have gone elsewhere.
            needed = 10 if sidecar else delay + routes.seconds("shutdown_grace", "30s")
            test.assertGreaterEqual(pods.grace(container), needed)
            test.assertGreater(total, pods.grace(container))
    rolling = pods.one("Deployment")["spec"]["strategy"]["rollingUpdate"]
    test.assertEqual(rolling["maxUnavailable"], 0)


def names(test, pods):
    """Selectors select these pods, and references lead to what is there."""
    labels = pods.template["metadata"]["labels"]
    selectors = [pods.one("Deployment")["spec"]["selector"]["matchLabels"]]
    selectors += [each["spec"]["selector"] for each in pods.all("Service")]
    for kind in ("PodDisruptionBudget", "PodMonitor"):
        selectors += [each["spec"]["selector"]["matchLabels"] for each in pods.all(kind)]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in pods.all("NetworkPolicy")]
    for selector in selectors:
        test.assertTrue(selector and selector.items() <= labels.items(), selector)
    for account in pods.all("ServiceAccount"):
        test.assertEqual(account["metadata"]["name"], pods.spec["serviceAccountName"])
        identity = "azure.workload.identity/client-id" in account["metadata"].get("annotations", {})
        if identity:
            test.assertEqual(labels["azure.workload.identity/use"], "true")
    for scaler in pods.all("HorizontalPodAutoscaler"):
        test.assertEqual(scaler["spec"]["scaleTargetRef"]["name"], pods.one("Deployment")["metadata"]["name"])
        test.assertNotIn("replicas", pods.one("Deployment")["spec"])
    for ingress in pods.all("Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                test.assertEqual(path["backend"]["service"]["name"], pods.one("Service")["metadata"]["name"])
