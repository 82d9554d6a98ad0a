"""Real clients that follow the links of answers, through `obo-gateway demo --tls`.

Nothing of the clients is patched. They are told where the service is (the gateway) and which CA
to trust. Whatever connection this process opens is written down by Python itself (an audit hook):
none may lead to the stand-ins, whose own addresses are what their links name.

Needs in the environment (tests/links/run sets it): OBO_GATEWAY, the program.
"""

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request
import ssl
from dataclasses import dataclass
from typing import Optional

import httpx
from azure.core.credentials import AccessToken
from azure.mgmt.resource.resources import ResourceManagementClient
from azure.mgmt.resource.resources.models import GenericResource
from kiota_abstractions.authentication import (
    AccessTokenProvider, AllowedHostsValidator, BaseBearerTokenAuthenticationProvider,
)
from kiota_abstractions.method import Method
from kiota_abstractions.request_information import RequestInformation
from kiota_abstractions.serialization import Parsable, ParseNodeFactoryRegistry
from kiota_serialization_json.json_parse_node_factory import JsonParseNodeFactory
from msgraph_core import BaseGraphRequestAdapter, GraphClientFactory
from msgraph_core.tasks import PageIterator

SUBSCRIPTION = "70000000-0000-4000-8000-000000000001"

connected = []  # ports


def note(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        connected.append(arguments[1][1])


sys.addaudithook(note)


def is_free(port):
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Demo:
    """The demo on five free ports in a row, with the events of its access log."""

    def __init__(self, folder):
        self.ca_file = os.path.join(folder, "ca.pem")
        for _ in range(20):
            self.port = random.randrange(20000, 30000, 5)
            if all(is_free(self.port + offset) for offset in range(5)) and self.start():
                return
        raise AssertionError("the demo did not start:\n" + "".join(self.log))

    def start(self):
        self.log = []
        self.process = subprocess.Popen(
            [os.environ["OBO_GATEWAY"], "--log-format", "json", "demo", "--tls",
             "--ca-file", self.ca_file, "--port-base", str(self.port)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.reading = threading.Thread(target=self.read, daemon=True)
        self.reading.start()
        for line in self.process.stdout:
            if line.startswith("Ctrl-C ends it"):
                return True
        self.stop()
        return False

    def read(self):
        for line in self.process.stderr:
            self.log.append(line)

    def stop(self):
        self.process.terminate()
        self.process.wait(20)
        self.reading.join(20)
        self.process.stdout.close()
        self.process.stderr.close()

    def gateway(self):
        return f"https://localhost:{self.port}"

    def token(self):
        url = (f"https://localhost:{self.port + 2}"
               "/dev/token?user=alice&scope=access_as_user")
        context = ssl.create_default_context(cafile=self.ca_file)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        with opener.open(url) as answer:
            return answer.read().decode().strip()

    def requests(self):
        """Method, path and status of all requests so far."""
        events = [json.loads(line) for line in self.log]
        events = [event.get("fields", event) for event in events]
        return [(event["method"], event["path"], event["status"]) for event in events
                if "method" in event and "route" in event]


class Credential:
    def __init__(self, token):
        self.token = token

    def get_token(self, *_scopes, **_):
        return AccessToken(self.token, int(time.time()) + 3000)


@dataclass
class Message(Parsable):
    """An entity as the generated SDK of Graph has it."""

    subject: Optional[str] = None

    @staticmethod
    def create_from_discriminator_value(_node=None):
        return Message()

    def get_field_deserializers(self):
        return {"subject": lambda node: setattr(self, "subject", node.get_str_value())}

    def serialize(self, writer):
        writer.write_str_value("subject", self.subject)


@dataclass
class Messages(Parsable):
    """A collection as the generated SDK of Graph has it."""

    odata_next_link: Optional[str] = None
    value: Optional[list] = None

    @staticmethod
    def create_from_discriminator_value(_node=None):
        return Messages()

    def get_field_deserializers(self):
        return {
            "@odata.nextLink":
                lambda node: setattr(self, "odata_next_link", node.get_str_value()),
            "value":
                lambda node: setattr(self, "value", node.get_collection_of_object_values(Message)),
        }

    def serialize(self, writer):
        writer.write_str_value("@odata.nextLink", self.odata_next_link)


class Tokens(AccessTokenProvider):
    def __init__(self, token):
        self.token = token

    async def get_authorization_token(self, uri, additional_authentication_context=None):
        return self.token

    def get_allowed_hosts_validator(self):
        return AllowedHostsValidator(["localhost"])


class Links(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.demo = Demo(cls.folder.name)
        cls.token = cls.demo.token()

    @classmethod
    def tearDownClass(cls):
        cls.demo.stop()
        cls.folder.cleanup()

    def setUp(self):
        connected.clear()
        self.before = len(self.demo.requests())

    def called(self):
        """What was asked of the gateway; nothing else was called."""
        self.assertEqual(set(connected), {self.demo.port}, "a connection left the gateway")
        return self.demo.requests()[self.before:]

    def wait_for(self, count):
        # The access log is written in batches; nothing tells of a line but the line.
        for _ in range(400):
            if len(self.demo.requests()) >= self.before + count:
                return self.called()
            time.sleep(0.02)
        self.fail(f"{count} requests did not reach the log: {self.called()}")

    def arm(self):
        return ResourceManagementClient(
            Credential(self.token), SUBSCRIPTION, base_url=self.demo.gateway() + "/arm",
            credential_scopes=["https://management.azure.com/.default"],
            connection_verify=self.demo.ca_file, retry_total=0)

    def test_azure_mgmt_resource_pages(self):
        with self.arm() as client:
            groups = [group.name for group in client.resource_groups.list()]
        self.assertEqual(groups, ["dev-1", "dev-2", "dev-3"])
        path = f"/arm/subscriptions/{SUBSCRIPTION}/resourcegroups"
        self.assertEqual(self.wait_for(2), [("GET", path, 200)] * 2)

    def test_azure_mgmt_resource_polls_a_location(self):
        with self.arm() as client:
            poller = client.resource_groups.begin_delete("dev-1", polling_interval=0)
            poller.result(60)
            self.assertEqual(poller.status(), "Succeeded")
        calls = self.wait_for(3)
        self.assertEqual([(method, status) for method, _, status in calls],
                         [("DELETE", 202), ("GET", 202), ("GET", 200)])
        self.assertTrue(all(path.startswith(f"/arm/subscriptions/{SUBSCRIPTION}/operationresults/")
                            for _, path, _ in calls[1:]), calls)

    def test_azure_mgmt_resource_polls_an_operation(self):
        resource = (f"/subscriptions/{SUBSCRIPTION}/resourceGroups/dev-2/providers"
                    "/Microsoft.Storage/storageAccounts/one")
        with self.arm() as client:
            poller = client.resources.begin_create_or_update_by_id(
                resource, GenericResource(location="dev"), api_version="2023-01-01",
                polling_interval=0)
            made = poller.result(60)
        self.assertEqual(made.name, "one")
        calls = self.wait_for(4)
        self.assertEqual([(method, status) for method, _, status in calls],
                         [("PUT", 201), ("GET", 200), ("GET", 200), ("GET", 200)])
        self.assertIn("/locations/dev/operations/", calls[1][1])

    def test_graph_core_pages(self):
        subjects = asyncio.run(self.messages())
        self.assertEqual(len(subjects), 25)
        self.assertEqual(len(set(subjects)), 25)
        self.assertEqual(self.wait_for(4), [("GET", "/graph/v1.0/me/messages", 200)] * 4)

    async def messages(self):
        context = ssl.create_default_context(cafile=self.demo.ca_file)
        client = GraphClientFactory.create_with_default_middleware(
            client=httpx.AsyncClient(verify=context, trust_env=False))
        ParseNodeFactoryRegistry().CONTENT_TYPE_ASSOCIATED_FACTORIES["application/json"] = (
            JsonParseNodeFactory())
        adapter = BaseGraphRequestAdapter(
            BaseBearerTokenAuthenticationProvider(Tokens(self.token)), http_client=client)
        first = RequestInformation()
        first.http_method = Method.GET
        first.url = self.demo.gateway() + "/graph/v1.0/me/messages?$top=7"
        page = await adapter.send_async(first, Messages, {})
        self.assertTrue(page.odata_next_link.startswith(self.demo.gateway() + "/graph/v1.0/"))
        subjects = []

        def keep(message):
            subjects.append(message.subject)
            return True

        await PageIterator(page, adapter).iterate(keep)
        return subjects


if __name__ == "__main__":
    unittest.main()
