"""A claims challenge of the gateway, through Microsoft's own libraries and back.

A client of azure-core calls the gateway with a token that MSAL got; the exchange of the user's
token wants another factor. The client's pipeline parses the `WWW-Authenticate` of the 401 and asks
MSAL for a token with the claims in it, and the request that it then repeats reaches the upstream.
No parser is ours: `BearerTokenCredentialPolicy` is what the SDKs of Azure are built on.
"""

import http.server
import json
import os
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse
import warnings

from azure.core.credentials import AccessToken
from azure.core.pipeline import Pipeline
from azure.core.pipeline.policies import BearerTokenCredentialPolicy
from azure.core.pipeline.policies._utils import get_challenge_parameter
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

from test_msal import (
    ACCESS_AS_USER, BASE, CA_FILE, GATEWAY, PUBLIC_CLIENT, TENANT, claims_of, http_client,
    public_client, settings,
)

import msal

PUBLIC_URL = "https://api.example.com"

ROUTES = """
listeners: [{ address: "127.0.0.1:0" }]
admin: { address: "127.0.0.1:0" }
server: { public_url: "%(public_url)s" }
providers:
  entra:
    type: entra
    tenant: %(tenant)s
    authority: %(authority)s
    ca_file: %(ca_file)s
    client_id: %(client_id)s
    credential: { client_secret: "${GATEWAY_SECRET}" }
upstreams:
  graph:
    url: http://127.0.0.1:%(port)d
    token: { on_behalf_of: { scopes: ["https://graph.microsoft.com/.default"] } }
routes:
  - match: { path: "/graph/{*rest}" }
    auth: { scopes: [access_as_user] }
    upstream: graph
"""


class Upstream(http.server.BaseHTTPRequestHandler):
    """Stands in for Graph, and remembers the tokens it was sent."""

    tokens = []

    def do_GET(self):
        Upstream.tokens.append(self.headers["authorization"].removeprefix("Bearer "))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


class Credential:
    """A user of a public client, as the credentials of azure-identity are made of MSAL."""

    def __init__(self, name, **more):
        self.name = f"{name}@dev.local"
        session = http_client()
        session.hooks["response"].append(self.record)
        self.client = msal.PublicClientApplication(
            PUBLIC_CLIENT, **{**settings(), "http_client": session}, **more)
        self.claims = []  # what it was asked for, call by call
        self.tokens = []  # what it gave
        self.forms = []  # what MSAL sent to the token endpoint

    def record(self, response, **_):
        if response.request.method == "POST":
            body = response.request.body
            text = body.decode() if isinstance(body, bytes) else body
            self.forms.append(dict(urllib.parse.parse_qsl(text)))

    def get_token(self, *scopes, claims=None, **_):
        self.claims.append(claims)
        accounts = self.client.get_accounts(self.name)
        answer = accounts and self.client.acquire_token_silent(
            list(scopes), accounts[0], claims_challenge=claims)
        if not answer:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # the grant, by MSAL
                answer = self.client.acquire_token_by_username_password(
                    self.name, "dev", list(scopes), claims_challenge=claims)
        assert "access_token" in answer, answer
        self.tokens.append(answer["access_token"])
        return AccessToken(answer["access_token"], int(time.time()) + answer["expires_in"])


class ClaimsChallenge(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
        threading.Thread(target=cls.upstream.serve_forever, daemon=True).start()
        cls.folder = tempfile.TemporaryDirectory()
        routes = os.path.join(cls.folder.name, "routes.yaml")
        with open(routes, "w", encoding="utf-8") as file:
            file.write(ROUTES % {
                "public_url": PUBLIC_URL, "tenant": TENANT, "authority": BASE, "ca_file": CA_FILE,
                "client_id": GATEWAY, "port": cls.upstream.server_address[1],
            })
        cls.gateway = subprocess.Popen(
            [os.environ["OBO_GATEWAY"], "run", "--config", routes, "--log-format", "json"],
            env={"GATEWAY_SECRET": "dev-gateway-secret"}, stderr=subprocess.PIPE, text=True)
        addresses, log = {}, []
        for line in cls.gateway.stderr:
            log.append(line)
            event = json.loads(line)
            text = event.get("message") or event.get("fields", {}).get("message")
            address = event.get("address") or event.get("fields", {}).get("address")
            if text in ("listening", "admin port"):
                addresses[text] = address
            if len(addresses) == 2:
                break
        else:
            raise AssertionError("the gateway did not start:\n" + "".join(log))
        # Whatever it logs later must not fill the pipe.
        cls.reading = threading.Thread(target=cls.gateway.stderr.read, daemon=True)
        cls.reading.start()
        cls.base = "http://" + addresses["listening"]
        cls.ready("http://" + addresses["admin port"] + "/readyz")

    @classmethod
    def ready(cls, url):
        session = http_client()
        for _ in range(300):
            if session.get(url).status_code == 200:
                return
            time.sleep(0.05)  # nothing tells of readiness but asking
        raise AssertionError("the gateway did not become ready")

    @classmethod
    def tearDownClass(cls):
        cls.gateway.terminate()
        code = cls.gateway.wait(timeout=60)
        cls.reading.join()
        cls.gateway.stderr.close()
        cls.upstream.shutdown()
        cls.upstream.server_close()
        cls.folder.cleanup()
        assert code == 0, f"the gateway ended with {code}"

    def setUp(self):
        Upstream.tokens.clear()

    def call(self, policy):
        """One request through a pipeline of azure-core; `enforce_https` is off on loopback only."""
        session = http_client()
        with Pipeline(RequestsTransport(session=session, session_owner=False), [policy]) as pipeline:
            request = HttpRequest("GET", self.base + "/graph/v1.0/me")
            return pipeline.run(request, enforce_https=False).http_response

    def test_an_ordinary_user_is_asked_for_nothing(self):
        credential = Credential("alice")
        response = self.call(BearerTokenCredentialPolicy(credential, ACCESS_AS_USER))
        self.assertEqual(response.status_code, 200)
        self.assertEqual(credential.claims, [None])

    def test_a_claims_challenge_is_parsed_and_answered(self):
        for policy in (BearerTokenCredentialPolicy, ARMChallengeAuthenticationPolicy):
            with self.subTest(policy=policy.__name__):
                self.setUp()
                credential = Credential("mfa")
                response = self.call(policy(credential, ACCESS_AS_USER))
                self.assertEqual(response.status_code, 200)

                # Asked twice: first for any token, then with what the gateway said.
                none, claims = credential.claims
                self.assertIsNone(none)
                self.assertIn("polids", json.loads(claims)["access_token"])
                sent = [form["claims"] for form in credential.forms if "claims" in form]
                self.assertEqual([json.loads(one) for one in sent], [json.loads(claims)])
                first, second = credential.tokens
                self.assertNotIn("amr", claims_of(first))
                self.assertEqual(claims_of(second)["amr"], ["pwd", "mfa"])

                # What reached the upstream is neither of the two.
                (outbound,) = Upstream.tokens
                self.assertNotIn(outbound, credential.tokens)
                self.assertEqual(claims_of(outbound)["aud"], "https://graph.microsoft.com")
                self.assertEqual(claims_of(outbound)["upn"], "mfa@dev.local")

    def test_msal_merges_the_challenge_with_its_own_capabilities(self):
        credential = Credential("mfa", client_capabilities=["cp1"])
        response = self.call(BearerTokenCredentialPolicy(credential, ACCESS_AS_USER))
        self.assertEqual(response.status_code, 200)
        merged = json.loads(credential.forms[-1]["claims"])["access_token"]
        self.assertEqual(merged["xms_cc"], {"values": ["cp1"]})
        self.assertIn("polids", merged)
        self.assertEqual(claims_of(credential.tokens[-1])["xms_cc"], ["cp1"])

    def test_each_parameter_is_read_as_it_was_meant(self):
        token = Credential("mfa").get_token(ACCESS_AS_USER).token
        response = http_client().get(
            self.base + "/graph/v1.0/me", headers={"authorization": "Bearer " + token})
        self.assertEqual(response.status_code, 401)
        self.assertEqual(response.json()["code"], "claims_challenge")
        read = {
            name: get_challenge_parameter(response.headers, "Bearer", name)
            for name in ("realm", "authorization_uri", "client_id", "error", "resource_metadata")
        }
        self.assertEqual(read, {
            "realm": "",
            "authorization_uri": f"{BASE}/{TENANT}/oauth2/v2.0/authorize",
            "client_id": GATEWAY,
            "error": "insufficient_claims",
            "resource_metadata": f"{PUBLIC_URL}/.well-known/oauth-protected-resource/graph",
        })

    def test_a_token_without_the_claims_is_challenged_every_time(self):
        client = public_client()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            token = client.acquire_token_by_username_password(
                "mfa@dev.local", "dev", [ACCESS_AS_USER])["access_token"]
        for _ in range(3):
            response = http_client().get(
                self.base + "/graph/v1.0/me", headers={"authorization": "Bearer " + token})
            self.assertEqual(response.status_code, 401)
        self.assertEqual(Upstream.tokens, [])


if __name__ == "__main__":
    unittest.main()
