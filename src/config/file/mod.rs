//! The keys of the routes file. These docs are their reference, defaults included.
//!
//! Decides which keys there are, what form their values have and what stands for one that is
//! left out. Whether names exist and values go together is decided when it is resolved.

mod cache;
mod provider;
mod route;
mod server;
mod telemetry;
mod tests;
mod upstream;

use schemars::JsonSchema;
use serde::Deserialize;

pub use cache::{Cache, Redis};
pub use provider::{
    Certificate, Cloud, Entra, EntraCredential, Exchange, FederatedIdentity, Oidc, OidcCredential,
    PrivateKey, Provider, ProviderCalls,
};
pub use route::{
    Auth, AuthRules, Callers, Cors, EncodedSlashes, HeaderChanges, LimitBy, Match, RateLimit,
    Redirect, Respond, Rewrite, Route,
};
pub use server::{Admin, ClientAuth, Listener, ListenerTls, Server};
pub use telemetry::{AccessLog, AccessLogFields, FollowParent, Otlp, OtlpProtocol, Telemetry};
pub use tests::{
    Expect, ExpectedCredential, ExpectedToken, Test, TestClaims, TestRequest, TestToken,
};
pub use upstream::{
    AppCallers, ClientCredentials, HeaderToken, HealthCheck, HostHeader, LoadBalancing,
    ManagedIdentity, OnBehalfOf, OnlyTrue, OutlierEjection, Preset, Protocol, Retry, RetryOn,
    Timeouts, TokenRequest, TokenSource, Upstream, UpstreamTls,
};

use super::rule::{Needs, Rule};
use super::spanned::{List, Spanned, Table};

/// A routes file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct RoutesFile {
    /// Where callers connect. Default: one on [`Listener::DEFAULT_ADDRESS`], without TLS.
    pub listeners: Option<List<Spanned<Listener>>>,
    /// The admin port.
    #[serde(default)]
    pub admin: Admin,
    /// What holds for all listeners.
    #[serde(default)]
    pub server: Server,
    /// The identity providers whose tokens are accepted, by name.
    #[serde(default)]
    pub providers: Table<Spanned<Provider>>,
    /// Where requests go, by name.
    #[serde(default)]
    pub upstreams: Table<Spanned<Upstream>>,
    /// Which requests go where, and who may send them. Required.
    pub routes: List<Spanned<Route>>,
    /// The cache of outbound tokens.
    #[serde(default)]
    pub cache: Cache,
    /// What `obo-gateway test` holds the routes to. Default: nothing.
    #[serde(default)]
    pub tests: Vec<Spanned<Test>>,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: Telemetry,
}

/// What the structs' types don't say.
pub(super) const RULES: &[Rule] = &[
    Rule {
        of: "RoutesFile",
        needs: Needs::Key("routes"),
        hint: "add `routes:` with one route at least; `obo-gateway demo` shows a file that works",
    },
    Rule {
        of: "Listener",
        needs: Needs::Key("address"),
        hint: "write `address: 0.0.0.0:8443`, or leave `listeners` out for `127.0.0.1:8080`",
    },
    Rule {
        of: "ListenerTls",
        needs: Needs::Key("cert_file"),
        hint: "name the file with the certificate chain (PEM)",
    },
    Rule {
        of: "ListenerTls",
        needs: Needs::Key("key_file"),
        hint: "name the file with the certificate's private key (PEM)",
    },
    Rule {
        of: "ListenerTls",
        needs: Needs::With { key: "client_auth", needs: "client_ca_file" },
        hint: "name the file with the CAs that issue certificates to callers (PEM), or remove `client_auth`",
    },
    Rule {
        of: "Entra",
        needs: Needs::Key("tenant"),
        hint: "write the tenant's id: `tenant: 11111111-2222-3333-4444-555555555555`, or set `AZURE_TENANT_ID`",
    },
    Rule {
        of: "Entra",
        needs: Needs::AnyOf(&["client_id", "audiences"]),
        hint: "without one of them no token is for this gateway: write the application's `client_id`, or set `AZURE_CLIENT_ID`",
    },
    Rule {
        of: "Entra",
        needs: Needs::With { key: "credential", needs: "client_id" },
        hint: "add the `client_id` of the application that the credential belongs to, or set `AZURE_CLIENT_ID`",
    },
    Rule {
        of: "Certificate",
        needs: Needs::Key("cert_file"),
        hint: "name the file with the certificate that was uploaded to the application (PEM)",
    },
    Rule {
        of: "Certificate",
        needs: Needs::Key("key_file"),
        hint: "name the file with the certificate's private key (PEM)",
    },
    Rule {
        of: "FederatedIdentity",
        needs: Needs::Key("client_id"),
        hint: "write the `client_id` of the user-assigned managed identity: a system-assigned one can't be a federated credential",
    },
    Rule {
        of: "PrivateKey",
        needs: Needs::Key("key_file"),
        hint: "name the file with the private key (PEM)",
    },
    Rule {
        of: "PrivateKey",
        needs: Needs::Key("key_id"),
        hint: "write the `kid` under which the provider knows the public key",
    },
    Rule {
        of: "Redis",
        needs: Needs::Key("url"),
        hint: "say where it is: `url: ${REDIS_URL}`, which is `rediss://user:password@host:6379` or the like",
    },
    Rule {
        of: "Redis",
        needs: Needs::Key("encryption_keys"),
        hint: "whoever reads Redis is to learn nothing: make a key with `openssl rand -base64 32`, and name its file: `encryption_keys: [\"${file:/run/secrets/cache-key}\"]`",
    },
    Rule {
        of: "Oidc",
        needs: Needs::Key("issuer"),
        hint: "write the issuer exactly as tokens have it in `iss`",
    },
    Rule {
        of: "Oidc",
        needs: Needs::Key("audiences"),
        hint: "name what tokens for this gateway have in `aud`: `audiences: [orders]`",
    },
    Rule {
        of: "ProviderCalls",
        needs: Needs::AtMostOneOf(&["jwks_uri", "jwks_file"]),
        hint: "keys are either fetched or read from a file",
    },
    Rule {
        of: "Upstream",
        needs: Needs::AnyOf(&["url", "preset", "urls"]),
        hint: "give it a `url`, or a `preset`: `graph` or `arm`",
    },
    Rule {
        of: "HealthCheck",
        needs: Needs::Key("path"),
        hint: "write what is asked for: `path: /healthz`",
    },
    Rule {
        of: "Upstream",
        needs: Needs::AtMostOneOf(&["url", "urls"]),
        hint: "name all of them in `urls`",
    },
    Rule {
        of: "UpstreamTls",
        needs: Needs::With { key: "cert_file", needs: "key_file" },
        hint: "name the file with the certificate's private key (PEM)",
    },
    Rule {
        of: "UpstreamTls",
        needs: Needs::With { key: "key_file", needs: "cert_file" },
        hint: "name the file with the certificate that the upstream is shown (PEM)",
    },
    Rule {
        of: "Oidc",
        needs: Needs::With { key: "credential", needs: "client_id" },
        hint: "add the `client_id` that the credential belongs to",
    },
    Rule {
        of: "TokenRequest",
        needs: Needs::AnyOf(&["scopes", "audience", "resource"]),
        hint: "name the upstream's scope: `scopes: [https://graph.microsoft.com/.default]`",
    },
    Rule {
        of: "ManagedIdentity",
        needs: Needs::Key("resource"),
        hint: "say what the token is for: `resource: https://management.azure.com`",
    },
    Rule {
        of: "HeaderToken",
        needs: Needs::Key("name"),
        hint: "name the header: `name: x-api-key`",
    },
    Rule {
        of: "HeaderToken",
        needs: Needs::Key("value"),
        hint: "give its value: `value: \"${file:/run/secrets/key}\"`",
    },
    Rule {
        of: "Route",
        needs: Needs::Key("match"),
        hint: "say which requests it takes: `match: { path: \"/orders/{*rest}\" }`",
    },
    Rule {
        of: "Route",
        needs: Needs::Key("auth"),
        hint: "say who may call it: `auth: { scopes: [access_as_user] }`, `auth: any` for any valid token, or `auth: none` to leave it open",
    },
    Rule {
        of: "Route",
        needs: Needs::OneOf(&["upstream", "respond", "redirect"]),
        hint: "a route has one of them: an `upstream` by name, an answer of its own, or a redirect",
    },
    Rule {
        of: "Match",
        needs: Needs::Key("path"),
        hint: "write `path: /orders/{*rest}`, or `path: /{*rest}` for all paths",
    },
    Rule {
        of: "AuthRules",
        needs: Needs::AnyOf(&[
            "providers",
            "scopes",
            "roles",
            "callers",
            "clients",
            "tenants",
            "claims",
        ]),
        hint: "for any valid token write `auth: any`",
    },
    Rule {
        of: "AccessLogFields",
        needs: Needs::Key("fields"),
        hint: "name them: `access_log: { fields: [time, request_id, status, code, reason] }`, or write `access_log: true` for all",
    },
    Rule {
        of: "Cors",
        needs: Needs::Key("origins"),
        hint: "name the pages' origins: `origins: [https://app.example.com]`, or `origins: [\"*\"]` for all",
    },
    Rule {
        of: "RateLimit",
        needs: Needs::Key("requests"),
        hint: "say how many: `rate_limit: { requests: 100, per: 1s }`",
    },
    Rule { of: "Respond", needs: Needs::Key("status"), hint: "write `respond: { status: 204 }`" },
    Rule {
        of: "Test",
        needs: Needs::Key("request"),
        hint: "say what is asked: `request: { url: \"https://api.example.com/orders/1\" }`",
    },
    Rule {
        of: "Test",
        needs: Needs::Key("expect"),
        hint: "say what has to come of it: `expect: { route: orders, status: forward }`",
    },
    Rule {
        of: "TestRequest",
        needs: Needs::OneOf(&["url", "path"]),
        hint: "write `url: https://api.example.com/orders/1`, or `path: /orders/1` where the host makes no difference",
    },
    Rule {
        of: "Expect",
        needs: Needs::AnyOf(&[
            "route",
            "status",
            "code",
            "location",
            "upstream_path",
            "upstream_headers",
            "upstream_without",
            "token",
        ]),
        hint: "a test that expects nothing can't fail: write `status: forward`, or `status: 403`",
    },
    Rule {
        of: "Redirect",
        needs: Needs::Key("to"),
        hint: "write `redirect: { to: https://www.example.com/ }`",
    },
];
