"""MSAL for Python, as published by Microsoft, against `obo-gateway dev-idp --tls`.

Nothing of MSAL is patched. It is told what any user of a private authority tells it: which
CA to trust, and that the authority is not one of Microsoft's public ones (instance
discovery off). One thing of the transport is helped, see `LoopbackPorts`.

Needs in the environment (tests/msal/run sets them):
  DEV_IDP_URL      https://localhost:PORT
  DEV_IDP_CA_FILE  the CA's certificate that dev-idp wrote
  OBO_GATEWAY      the program (for test_claims_challenge.py, which uses what is here)
"""

import base64
import json
import os
import unittest
import warnings

import msal
import requests
from requests.adapters import HTTPAdapter

BASE = os.environ["DEV_IDP_URL"].rstrip("/")
CA_FILE = os.environ["DEV_IDP_CA_FILE"]

TENANT = "10000000-0000-4000-8000-000000000001"
GATEWAY = "20000000-0000-4000-8000-000000000001"
PUBLIC_CLIENT = "20000000-0000-4000-8000-000000000002"
DAEMON = "20000000-0000-4000-8000-000000000003"
ACCESS_AS_USER = "api://obo-gateway-demo/access_as_user"
GRAPH = "https://graph.microsoft.com/.default"
ARM = "https://management.azure.com/.default"


class LoopbackPorts(HTTPAdapter):
    """Sends requests for https://localhost/ to the port that dev-idp has.

    MSAL asks for the user's realm at the host of the authority without its port, because
    Microsoft's own hosts have none. The endpoint is asked all the same, at the right port.
    """

    asked = []

    def send(self, request, **kwargs):
        portless = "https://localhost/"
        assert request.url.startswith(portless), request.url
        request.url = BASE + "/" + request.url[len(portless):]
        LoopbackPorts.asked.append(request.url)
        return super().send(request, **kwargs)


def http_client():
    session = requests.Session()
    session.verify = CA_FILE
    session.trust_env = False  # no proxy of the machine between us and loopback
    session.mount("https://localhost/", LoopbackPorts())
    return session


def settings():
    return {
        "authority": f"{BASE}/{TENANT}",
        "instance_discovery": False,
        "http_client": http_client(),
    }


def public_client():
    return msal.PublicClientApplication(PUBLIC_CLIENT, **settings())


def gateway(**more):
    return msal.ConfidentialClientApplication(
        GATEWAY, client_credential="dev-gateway-secret", **settings(), **more)


def sign_in(name, password="dev", client=None, scopes=(ACCESS_AS_USER,)):
    client = client or public_client()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the grant, by MSAL
        return client.acquire_token_by_username_password(
            f"{name}@dev.local", password, list(scopes))


def claims_of(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


class Msal(unittest.TestCase):
    def token(self, answer):
        self.assertNotIn("error", answer, answer.get("error_description"))
        return answer["access_token"]

    def exchanged(self, name, scope=GRAPH, client=None):
        assertion = self.token(sign_in(name))
        return (client or gateway()).acquire_token_on_behalf_of(assertion, [scope])

    def test_a_user_signs_in(self):
        client = public_client()
        answer = sign_in("alice", client=client)
        claims = claims_of(self.token(answer))
        self.assertEqual(claims["aud"], GATEWAY)
        self.assertEqual(claims["iss"], f"{BASE}/{TENANT}/v2.0")
        self.assertEqual(claims["scp"], "access_as_user")
        self.assertEqual(claims["azp"], PUBLIC_CLIENT)
        self.assertEqual(answer["id_token_claims"]["preferred_username"], "alice@dev.local")
        self.assertTrue(
            any("/common/userrealm/alice@dev.local" in url for url in LoopbackPorts.asked))

        # MSAL made an account of it, and finds the token in its cache.
        accounts = client.get_accounts("alice@dev.local")
        self.assertEqual(len(accounts), 1)
        self.assertEqual(accounts[0]["home_account_id"], f"{claims['oid']}.{TENANT}")
        cached = client.acquire_token_silent([ACCESS_AS_USER], accounts[0])
        self.assertEqual(cached["access_token"], answer["access_token"])

        # And gets a new one with its refresh token when told to.
        fresh = client.acquire_token_silent(
            [ACCESS_AS_USER], accounts[0], force_refresh=True)
        self.assertNotEqual(self.token(fresh), answer["access_token"])
        self.assertEqual(claims_of(fresh["access_token"])["oid"], claims["oid"])

    def test_a_wrong_password_is_refused(self):
        answer = sign_in("alice", password="wrong")
        self.assertEqual(answer["error"], "invalid_grant")
        self.assertEqual(answer["error_codes"], [50126])

    def test_a_token_is_exchanged_for_one_of_graph_and_one_of_arm(self):
        for scope, audience in [
            (GRAPH, "https://graph.microsoft.com"), (ARM, "https://management.azure.com"),
        ]:
            claims = claims_of(self.token(self.exchanged("alice", scope)))
            self.assertEqual(claims["aud"], audience)
            self.assertEqual(claims["azp"], GATEWAY)
            self.assertEqual(claims["upn"], "alice@dev.local")
            self.assertNotIn("xms_cc", claims)

    def test_the_second_exchange_comes_from_msals_cache(self):
        assertion = self.token(sign_in("alice"))
        client = gateway()
        first = client.acquire_token_on_behalf_of(assertion, [GRAPH])
        accounts = client.get_accounts()
        self.assertEqual([one["username"] for one in accounts], ["alice@dev.local"])
        again = client.acquire_token_silent([GRAPH], accounts[0])
        self.assertEqual(again["access_token"], self.token(first))

    def test_a_client_that_declares_cp1_finds_it_in_its_token(self):
        client = gateway(client_capabilities=["cp1"])
        claims = claims_of(self.token(self.exchanged("alice", client=client)))
        self.assertEqual(claims["xms_cc"], ["cp1"])

    def test_the_exchange_of_mfa_is_a_claims_challenge(self):
        answer = self.exchanged("mfa")
        self.assertEqual(answer["error"], "interaction_required")
        self.assertEqual(answer["error_codes"], [50076])
        self.assertIn("access_token", json.loads(answer["claims"]))

    def test_consent_and_policy_stop_an_exchange_without_claims(self):
        for name, code, suberror in [
            ("noconsent", 65001, "consent_required"), ("blocked", 53003, "message_only"),
        ]:
            answer = self.exchanged(name)
            self.assertEqual(answer["error"], "invalid_grant", name)
            self.assertEqual(answer["error_codes"], [code], name)
            self.assertEqual(answer["suberror"], suberror, name)
            self.assertNotIn("claims", answer, name)

    def test_an_id_token_is_not_exchanged(self):
        answer = gateway().acquire_token_on_behalf_of(sign_in("alice")["id_token"], [GRAPH])
        self.assertEqual(answer["error_codes"], [240002])

    def test_a_daemon_gets_a_token_with_its_role(self):
        daemon = msal.ConfidentialClientApplication(
            DAEMON, client_credential="dev-daemon-secret", **settings())
        answer = daemon.acquire_token_for_client(["api://obo-gateway-demo/.default"])
        claims = claims_of(self.token(answer))
        self.assertEqual(claims["roles"], ["Demo.Read.All"])
        self.assertEqual(claims["aud"], GATEWAY)
        self.assertEqual(claims["idtyp"], "app")

        # There is no user in it to act for.
        refused = gateway().acquire_token_on_behalf_of(answer["access_token"], [GRAPH])
        self.assertEqual(refused["error_codes"], [7000114])

    def test_a_wrong_secret_is_refused(self):
        client = msal.ConfidentialClientApplication(
            GATEWAY, client_credential="wrong", **settings())
        answer = client.acquire_token_for_client([GRAPH])
        self.assertEqual(answer["error"], "invalid_client")
        self.assertEqual(answer["error_codes"], [7000215])


if __name__ == "__main__":
    unittest.main()
