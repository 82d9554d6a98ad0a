"""The chart, as Helm (its own library) lints and renders it."""

import json
import tomllib
import unittest

import helm_python as helm
import yaml

from pods import Pods, hold
from program import DEPLOY, ROOT
from test_kubernetes import validate

CHART = DEPLOY / "helm" / "obo-gateway"
VALUES = {"default": {}, **{file.stem: helm.values_from_yaml(file.read_text()) for file in sorted((CHART / "ci").glob("*.yaml"))}}
# Of the Prometheus operator, whose schema is not Kubernetes' own.
FOREIGN = {"PodMonitor"}


def rendered(values, **options):
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        texts = chart.render(values, name="gw", namespace="apis", **options)
    return [
        each for name, text in texts.items() if name.endswith(".yaml") for each in yaml.safe_load_all(text) if each is not None
    ]


def refused(values):
    with helm.Chart.load(CHART) as chart:
        try:
            chart.validate_schema(values)
        except helm.HelmError as error:
            return str(error)
    raise AssertionError(f"{values} was taken")


class Chart(unittest.TestCase):
    def test_lints(self):
        for name, values in VALUES.items():
            with self.subTest(values=name):
                report = helm.lint(CHART, values, strict=True, namespace="apis", kube_version="v1.37.0")
                worse = [each for each in report["messages"] if each["severity"] > 1]
                self.assertEqual((worse, report["errors"]), ([], []))

    def test_renders_what_kubernetes_takes(self):
        for name, values in VALUES.items():
            with self.subTest(values=name):
                validate(self, [each for each in rendered(values) if each["kind"] not in FOREIGN])

    def test_fits_the_program(self):
        for name, values in VALUES.items():
            with self.subTest(values=name):
                objects = rendered(values)
                if name == "least":
                    objects += theirs(values)
                hold(self, Pods(objects))

    def test_everything_is_there_when_asked_for(self):
        kinds = {each["kind"] for each in rendered(VALUES["everything"])}
        self.assertEqual(kinds, {
            "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy", "PodDisruptionBudget",
            "PodMonitor", "Secret", "Service", "ServiceAccount",
        })
        self.assertEqual({each["kind"] for each in rendered(VALUES["least"])}, {"Deployment", "Service"})

    def test_every_object_is_in_the_namespace_of_the_release(self):
        for values in VALUES.values():
            self.assertEqual({each["metadata"]["namespace"] for each in rendered(values)}, {"apis"})

    def test_a_routes_file_arrives_as_it_was_written(self):
        text = 'a: "{{ .Values.x }}"   # {{ comment }}\n\n\n  - on: [connect_failure]\n\ttab: \'${X:-y}\'\n# end'
        arrived = Pods(rendered({"routesFile": text})).one("ConfigMap")["data"]["routes.yaml"]
        self.assertEqual(arrived.strip("\n"), text)

    def test_a_change_of_the_routes_restarts_nothing(self):
        one, other = ({**VALUES["everything"], "routesFile": text} for text in ("a", "b"))
        templates = [Pods(rendered(values)).template for values in (one, other)]
        self.assertEqual(*templates)

    def test_the_secret_is_no_environment_variable(self):
        pods = Pods(rendered(VALUES["everything"]))
        self.assertNotIn("only-for-trying", json.dumps(pods.spec))

    def test_autoscaling_keeps_its_hands_off_the_replicas(self):
        self.assertEqual(Pods(rendered({})).one("Deployment")["spec"]["replicas"], 2)
        self.assertNotIn("replicas", Pods(rendered({"autoscaling": {"enabled": True}})).one("Deployment")["spec"])


class Values(unittest.TestCase):
    def test_wrong_ones_are_refused(self):
        self.assertIn("replicas", refused({"replicas": 3}))
        self.assertIn("/workloadIdentity/clientId", refused({"workloadIdentity": {"clientId": "mine"}}))
        self.assertIn("/ports/http", refused({"ports": {"http": 443}}))
        self.assertIn("/image/digest", refused({"image": {"digest": "sha256:abc"}}))
        self.assertIn("/secrets/data", refused({"secrets": {"data": {"key": 1}}}))

    def test_right_ones_are_taken(self):
        rendered({"ports": {"http": 1024}, "podDisruptionBudget": {"maxUnavailable": "25%"}})

    def test_the_schema_knows_those_of_the_file_and_no_others(self):
        schema = json.loads((CHART / "values.schema.json").read_text())
        values = yaml.safe_load((CHART / "values.yaml").read_text())
        self.assertEqual(schema["properties"].keys() - {"global"}, values.keys())
        for name, value in values.items():
            described = schema["properties"][name]
            if isinstance(value, dict) and "properties" in described:
                with self.subTest(value=name):
                    self.assertEqual(described["properties"].keys(), value.keys())

    def test_everything_sets_them_all(self):
        with helm.Chart.load(CHART) as chart:
            default, merged = chart.values, chart.merge_values(VALUES["everything"])
        elsewhere = {"replicaCount", "routesFile", "existingConfigMap", "resources"}
        unset = {name for name in default if merged[name] == default[name]}
        self.assertEqual(unset, elsewhere)


class Version(unittest.TestCase):
    def test_is_that_of_the_program(self):
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        package = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
        self.assertEqual(chart["appVersion"], package["version"])
        for folder in (DEPLOY / "kubernetes", DEPLOY / "sidecar" / "beside", DEPLOY / "sidecar" / "native"):
            images = yaml.safe_load((folder / "kustomization.yaml").read_text())["images"]
            tags = [each["newTag"] for each in images if each["name"] == "obo-gateway"]
            self.assertEqual(tags, [package["version"]])


def theirs(values):
    """What the values say is in the cluster already."""
    routes = (CHART / "files" / "routes.yaml").read_text()
    return [
        {"kind": "ConfigMap", "metadata": {"name": values["existingConfigMap"]}, "data": {"routes.yaml": routes}},
        {"kind": "Secret", "metadata": {"name": values["secrets"]["existingSecret"]}, "stringData": {}},
    ]


if __name__ == "__main__":
    unittest.main()
