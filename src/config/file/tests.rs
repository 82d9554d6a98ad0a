//! `tests`: what `obo-gateway test` holds the routes to. Serving a file takes no notice of them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::spanned::{List, OneOrMany, Spanned, Table};
use super::super::value::{Claim, ExpectedStatus, Text};
use super::upstream::OnlyTrue;

/// An element of `tests`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Test {
    /// What reports call it. Default: its method and URL.
    pub name: Option<Spanned<Text>>,
    /// The request. Required.
    pub request: Spanned<TestRequest>,
    /// Whose it is: `none`, or claims in place of a token. Default: `none`.
    pub token: Option<Spanned<TestToken>>,
    /// What has to come of it. Required.
    pub expect: Spanned<Expect>,
}

/// `request`: one without a body. Either `url` or `path` is required.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct TestRequest {
    /// Its method. Default: `GET`.
    pub method: Option<Spanned<Text>>,
    /// What is called: scheme, host, path and query.
    pub url: Option<Spanned<Text>>,
    /// The same where the host makes no difference: path and query, at the host of
    /// `server.public_url`, or at `localhost`.
    pub path: Option<Spanned<Text>>,
    /// Its headers. Default: none but `host`.
    #[serde(default)]
    pub headers: Table<Spanned<String>>,
}

/// `token` of a test.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename = "$word or mapping", rename_all = "lowercase")]
#[schemars(rename = "WordOr_TestToken")]
pub enum TestToken {
    /// There is none.
    None,
    /// A token of this provider with these claims and a good signature.
    #[serde(rename = "$mapping")]
    Claims(TestClaims),
}

/// Claims in place of a token. What each token of the provider has is filled in: `iss`, `aud`, `exp`,
/// `iat`, `nbf` and `sub`, for Entra also `tid` and `azp`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TestClaims {
    /// Who issued it, by name. Default: the one that there is.
    pub provider: Option<Spanned<Text>>,
    /// Claims beside, and in place of, those that are filled in; `null` leaves one out. Numbers, `true`
    /// and `false` without quotes are of their types, all else is text.
    pub claims: Table<Claim>,
}

/// `expect`: all that is said has to be so. One of them at least.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Expect {
    /// The name of the route that takes it.
    pub route: Option<Spanned<Text>>,
    /// `forward`, or the status that the gateway answers with. Default: any.
    pub status: Option<Spanned<ExpectedStatus>>,
    /// The `code` that it is refused with.
    pub code: Option<Spanned<Text>>,
    /// Where a redirect leads to.
    pub location: Option<Spanned<Text>>,
    /// The path at the upstream, its base path before it; with the query if there is a `?` in it.
    pub upstream_path: Option<Spanned<Text>>,
    /// Headers that the upstream gets, each with this value.
    #[serde(default)]
    pub upstream_headers: Table<Spanned<String>>,
    /// Names of headers that the upstream does not get.
    pub upstream_without: Option<List<Spanned<Text>>>,
    /// The credential that the upstream gets.
    pub token: Option<Spanned<ExpectedToken>>,
}

/// `token` of `expect`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename = "$word or mapping", rename_all = "lowercase")]
#[schemars(rename = "WordOr_ExpectedToken")]
pub enum ExpectedToken {
    /// None.
    None,
    /// The inbound token as it came.
    Passthrough,
    /// One of these.
    #[serde(rename = "$mapping")]
    Of(ExpectedCredential),
}

/// What an upstream gets: one key, as in `token` of an upstream, in short.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename = "$one of", rename_all = "snake_case")]
#[schemars(rename = "OneOf_ExpectedCredential")]
pub enum ExpectedCredential {
    /// One on behalf of the caller, for all of these scopes, audiences and resources.
    OnBehalfOf(OneOrMany<Spanned<Text>>),
    /// One in the gateway's own name, for all of these.
    ClientCredentials(OneOrMany<Spanned<Text>>),
    /// One of the managed identity, for this resource.
    ManagedIdentity(Spanned<Text>),
    /// A header of this name.
    Header(Spanned<Text>),
    /// The inbound token as it came.
    Passthrough(OnlyTrue),
    /// None.
    None(OnlyTrue),
}
