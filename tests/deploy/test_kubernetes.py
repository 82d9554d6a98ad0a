"""The manifests and the sidecars, as kubectl's own kustomize makes them."""

import threading
import unittest
import warnings
from pathlib import Path

import kubernetes_validate
import yaml

from pods import Pods, hold
from program import DEPLOY, TOOLS, Process, run, status, temporary, workload_identity

# The oldest release that has what is used (preStop.sleep), and the newest that is known here.
RELEASES = ("1.30", "1.37")
FOLDERS = (DEPLOY / "kubernetes", DEPLOY / "sidecar" / "beside", DEPLOY / "sidecar" / "native")


def rendered(folder):
    objects = list(yaml.safe_load_all(run(TOOLS / "kubectl", "kustomize", folder).stdout))
    if (folder / "secret.example.yaml").exists():
        objects.append(yaml.safe_load((folder / "secret.example.yaml").read_text()))
    return objects


def validate(test, objects):
    """Held to the schemas of Kubernetes, unknown fields refused."""
    for each in objects:
        for release in RELEASES:
            with test.subTest(kind=each["kind"], release=release), warnings.catch_warnings():
                warnings.simplefilter("error")
                kubernetes_validate.validate(each, release, strict=True)


class Manifests(unittest.TestCase):
    def test_are_what_kubernetes_takes(self):
        for folder in FOLDERS:
            with self.subTest(folder=folder.name):
                validate(self, rendered(folder))

    def test_a_misspelt_field_would_be_found(self):
        deployment = Pods(rendered(FOLDERS[0])).one("Deployment")
        deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(deployment, RELEASES[-1], strict=True)

    def test_fit_the_program(self):
        for folder in FOLDERS:
            with self.subTest(folder=folder.name):
                hold(self, Pods(rendered(folder)))

    def test_every_file_is_used(self):
        for folder in (FOLDERS[0], DEPLOY / "sidecar" / "base"):
            kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
            used = set(kustomization["resources"]) | {"kustomization.yaml", "secret.example.yaml"}
            used |= {file for each in kustomization["configMapGenerator"] for file in each["files"]}
            self.assertLessEqual({file.name for file in Path(folder).glob("*.yaml")}, used)

    def test_the_native_sidecar_is_one(self):
        pods = Pods(rendered(DEPLOY / "sidecar" / "native"))
        self.assertEqual([each["name"] for each in pods.spec["initContainers"]], ["obo-gateway"])
        self.assertEqual(pods.gateway["restartPolicy"], "Always")

    def test_the_service_in_the_pod_is_reached_through_the_gateway_alone(self):
        for variant in ("beside", "native"):
            pods = Pods(rendered(DEPLOY / "sidecar" / variant))
            upstream = pods.routes(self).read["upstreams"]["service"]["url"]
            service = next(each for each in pods.spec["containers"] if each["name"] == "example-service")
            self.assertEqual(upstream, "http://" + service["env"][0]["value"])
            self.assertTrue(upstream.startswith("http://127.0.0.1:"))
            self.assertNotIn("ports", service)
            # Its probe comes through the gateway, by an open route.
            probe = service["readinessProbe"]["httpGet"]
            self.assertIn(probe["port"], [each["containerPort"] for each in pods.gateway["ports"]])
            health = [each for each in pods.routes(self).read["routes"] if each["match"]["path"] == probe["path"]]
            self.assertEqual([(each["auth"], each["upstream"]) for each in health], [("none", "service")])


class Started(unittest.TestCase):
    """A gateway with the arguments, variables and routes of a manifest, on free ports of loopback and with the development provider."""

    def test_becomes_ready_and_goes(self):
        provider = Process("dev-idp", "--address", "127.0.0.1:0")
        self.addCleanup(provider.kill)
        authority = provider.wait_for(r"listening on (http://127\.0\.0\.1:\d+)")[1]
        for folder in FOLDERS:
            with self.subTest(folder=folder.name):
                self.one(Pods(rendered(folder)), authority)
        provider.stop()

    def one(self, pods, authority):
        routes = pods.routes(self)
        anywhere = {name: "127.0.0.1:0" for name in ("LISTEN_ADDRESS", "LOCAL_ADDRESS", "ADMIN_ADDRESS")}
        environment = {
            **routes.environment, **workload_identity(temporary(self), authority), **anywhere,
            "OBO_GATEWAY_CONFIG": str(routes.path),
        }
        gateway = Process("--log-format", "json", *pods.gateway["args"], environment=environment)
        self.addCleanup(gateway.kill)
        admin = gateway.wait_for(r'"address":"([^"]+)".*"message":"admin port"|"message":"admin port".*"address":"([^"]+)"')
        base = "http://" + (admin[1] or admin[2])
        self.assertEqual(status(base + pods.gateway["livenessProbe"]["httpGet"]["path"]), 200)
        self.until_ready(base + pods.gateway["readinessProbe"]["httpGet"]["path"])
        self.assertEqual(status(base + "/metrics"), 200)
        self.assertEqual(gateway.stop(), 0)

    def until_ready(self, url):
        """As the kubelet does: again and again, for as long as it is unready, up to a number of times."""
        for _ in range(600):
            found = status(url)
            if found == 200:
                return
            self.assertEqual(found, 503)
            threading.Event().wait(0.1)
        self.fail("it never became ready")


if __name__ == "__main__":
    unittest.main()
