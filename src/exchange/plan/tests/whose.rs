//! Whose token a plan asks for, and under which name it is kept: random plans, random callers.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderValue;
use proptest::prelude::*;

use crate::authn::{Caller, Issuing, Provider, ProviderSettings};
use crate::clock::{SystemClock, UnixTime};
use crate::exchange::grant::Grant;
use crate::exchange::terms::Key;
use crate::exchange::{
    AppCallers, ClientCredential, ExchangePlan, ExchangeSettings, InNameOf, OAuthClient,
    OAuthClients, Requested, UserGrant,
};
use crate::identity::{CallerKind, Claims, Identity};
use crate::observe::metrics::Metrics;
use crate::rejection::Code;
use crate::secret::{InboundToken, Secret};
use crate::trust::Roots;

/// Providers by number; the first one is Entra, whose callers have tenants.
const PROVIDERS: [&str; 2] = ["entra", "sso"];

pub(super) fn providers() -> [Arc<Provider>; 2] {
    let ca = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    PROVIDERS.map(|name| {
        let issuing = Issuing::Oidc { issuer: format!("https://{name}.example") };
        let mut settings = ProviderSettings::new(name, issuing, Vec::new());
        settings.roots = Roots::from_pem(ca.cert.pem().as_bytes()).unwrap();
        settings.token_endpoint = Some(format!("https://{name}.example/token"));
        Provider::new(settings, Arc::new(SystemClock), Metrics::default()).unwrap()
    })
}

#[derive(Clone, Debug)]
struct APlan {
    named: Option<usize>,
    in_name_of: InNameOf,
    scopes: Vec<String>,
    audience: bool,
    upstream: bool,
    jwt_bearer: bool,
}

#[derive(Clone, Debug)]
struct ACaller {
    provider: usize,
    is_app: bool,
    tenant: bool,
    /// Which of a user's tokens.
    token: u8,
}

fn a_plan() -> impl Strategy<Value = APlan> {
    let in_name_of = prop_oneof![
        Just(InNameOf::Caller { apps: AppCallers::Reject }),
        Just(InNameOf::Caller { apps: AppCallers::ClientCredentials }),
        Just(InNameOf::Gateway),
    ];
    let scopes = prop_oneof![
        Just(vec!["api://x/read".to_owned()]),
        Just(vec!["api://x/.default".to_owned()]),
        Just(vec!["api://y/read".to_owned(), "api://y/write".to_owned()]),
    ];
    let named = prop_oneof![Just(None), (0_usize..2).prop_map(Some)];
    (named, in_name_of, scopes, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(named, in_name_of, scopes, audience, upstream, jwt_bearer)| APlan {
            named,
            in_name_of,
            scopes,
            audience,
            upstream,
            jwt_bearer,
        },
    )
}

fn a_caller() -> impl Strategy<Value = ACaller> {
    (0_usize..2, any::<bool>(), any::<bool>(), 0_u8..3)
        .prop_map(|(provider, is_app, tenant, token)| ACaller { provider, is_app, tenant, token })
}

impl APlan {
    fn user_grant(&self, provider: usize) -> UserGrant {
        match (provider, self.jwt_bearer) {
            (0, _) => UserGrant::EntraOnBehalfOf,
            (_, true) => UserGrant::JwtBearer,
            (_, false) => UserGrant::TokenExchange,
        }
    }

    fn build(&self, providers: &[Arc<Provider>; 2]) -> ExchangePlan {
        let client = |number: usize| OAuthClient {
            provider: Arc::clone(&providers[number]),
            client_id: "gateway".into(),
            credential: ClientCredential::ClientSecret(Secret::new("hush".into())),
            user_grant: self.user_grant(number),
        };
        let audiences = if self.audience { vec!["a".to_owned()] } else { Vec::new() };
        ExchangePlan::new(ExchangeSettings {
            clients: match self.named {
                Some(number) => OAuthClients::Named(client(number)),
                None => OAuthClients::OfCaller(vec![client(0), client(1)]),
            },
            in_name_of: self.in_name_of,
            requested: Requested { audiences, ..Requested::scopes(self.scopes.clone()) },
            upstream: if self.upstream { "one" } else { "other" }.into(),
        })
    }
}

impl ACaller {
    fn tenant(&self) -> Option<String> {
        let tenant = if self.tenant { "t1" } else { "t2" };
        (self.provider == 0).then(|| tenant.to_owned())
    }

    fn build(&self) -> Caller {
        // Tokens are told apart by their bytes, not by what they say.
        let Self { provider, is_app, tenant, token } = self;
        let text = format!("Bearer {provider}.{is_app}-{tenant}.{token}");
        let token = InboundToken::new(HeaderValue::try_from(text).unwrap(), 7).unwrap();
        let identity = Identity {
            provider: PROVIDERS[self.provider].into(),
            issuer: format!("https://{}.example/{:?}", PROVIDERS[self.provider], self.tenant())
                .into(),
            tenant: self.tenant(),
            user: Some("u".into()),
            client_id: Some("c".into()),
            kind: if self.is_app { CallerKind::App } else { CallerKind::User },
            scopes: Vec::new(),
            roles: Vec::new(),
            claims: Claims::default(),
            expires_at: UnixTime(1_000),
        };
        Caller::forged(token, identity)
    }
}

/// All that an outbound token depends on, in words.
fn entitlement(plan: &APlan, caller: &ACaller) -> Option<String> {
    let asked = plan.named.unwrap_or(caller.provider);
    let tenant = caller.tenant().filter(|_| asked == caller.provider);
    let is_own = match (plan.in_name_of, caller.is_app) {
        (InNameOf::Caller { apps: AppCallers::Reject }, true) => return None,
        (InNameOf::Gateway, _) => true,
        (InNameOf::Caller { apps: AppCallers::ClientCredentials }, is_app) => is_app,
        (InNameOf::Caller { .. }, false) => false,
    };
    let mut scopes = plan.scopes.clone();
    if is_own && asked == 0 && plan.in_name_of != InNameOf::Gateway {
        let (resource, _) = scopes[0].rsplit_once('/').unwrap();
        scopes = vec![format!("{resource}/.default")];
    }
    let whose = if is_own {
        "the gateway's".to_owned()
    } else {
        format!("{:?} of {caller:?}", plan.user_grant(asked))
    };
    let APlan { audience, upstream, .. } = plan;
    Some(format!("{whose} by {asked} in {tenant:?} for {scopes:?} {audience} {upstream}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Two requests share a token if, and only if, all that it depends on is the same: a user's
    /// is never the gateway's, and the gateway's is one for all callers of a tenant.
    #[test]
    fn a_token_is_shared_by_those_who_may_and_nobody_else(
        plans in proptest::collection::vec(a_plan(), 1..6),
        callers in proptest::collection::vec(a_caller(), 1..8),
    ) {
        let providers = providers();
        let mut seen: HashMap<Key, String> = HashMap::new();
        let mut keys: HashMap<String, Key> = HashMap::new();
        for a_plan in &plans {
            let plan = a_plan.build(&providers);
            // Twice: what is remembered of the first time must not matter to the second.
            for a_caller in callers.iter().chain(&callers) {
                let caller = a_caller.build();
                let request = plan.request(Some(&caller));
                let Some(expected) = entitlement(a_plan, a_caller) else {
                    let refused = request.err().unwrap().code();
                    prop_assert_eq!(refused, Code::CallerNotAllowed);
                    continue;
                };
                let request = request.ok().unwrap();
                let own = request.terms.grant == Grant::ClientCredentials;
                prop_assert_eq!(own, request.subject.is_none());
                prop_assert!(a_caller.is_app || !own || a_plan.in_name_of == InNameOf::Gateway);
                // A token of the gateway's own outlives whichever caller's.
                prop_assert_eq!(own, request.subject_expires_at() == UnixTime(u64::MAX));
                let key = request.key();
                prop_assert_eq!(seen.entry(key).or_insert_with(|| expected.clone()), &expected);
                let same = *keys.entry(expected.clone()).or_insert(key) == key;
                prop_assert!(same, "{} has two names", expected);
            }
        }
    }
}
