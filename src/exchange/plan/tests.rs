//! Who may be acted for, and by whom.

mod whose;

use super::*;
use crate::clock::UnixTime;
use crate::identity::Claims;
use crate::secret::Secret;

fn identity(kind: CallerKind) -> Identity {
    Identity {
        provider: Arc::from("entra"),
        issuer: Arc::from("https://login.example/t1/v2.0"),
        tenant: Some("t1".into()),
        user: Some("u1".into()),
        client_id: Some("daemon".into()),
        kind,
        scopes: Vec::new(),
        roles: Vec::new(),
        claims: Claims::default(),
        expires_at: UnixTime(1),
    }
}

fn plan(apps: AppCallers) -> ExchangePlan {
    ExchangePlan::new(ExchangeSettings {
        clients: OAuthClients::OfCaller(Vec::new()),
        in_name_of: InNameOf::Caller { apps },
        requested: Requested::scopes(vec!["api://x/.default".into()]),
        upstream: Arc::from("graph"),
    })
}

#[test]
fn an_application_never_goes_on_behalf_of() {
    let (app, user) = (identity(CallerKind::App), identity(CallerKind::User));
    let rejection = plan(AppCallers::Reject).subject(Some(&app)).unwrap_err();
    assert_eq!(rejection.code(), Code::CallerNotAllowed);
    assert!(rejection.reason().contains("`app_callers`"), "{}", rejection.reason());
    assert!(rejection.reason().contains("daemon"), "{}", rejection.reason());
    assert!(plan(AppCallers::Reject).subject(Some(&user)).unwrap().is_some());
    assert!(plan(AppCallers::ClientCredentials).subject(Some(&app)).unwrap().is_none());
    assert!(plan(AppCallers::ClientCredentials).subject(Some(&user)).unwrap().is_some());
}

#[test]
fn nobody_has_no_user_to_act_for() {
    let rejection = plan(AppCallers::ClientCredentials).subject(None).unwrap_err();
    assert_eq!(rejection.code(), Code::Internal);
}

#[test]
fn a_provider_without_credential_is_our_fault() {
    let rejection = plan(AppCallers::Reject).desk(Some(&identity(CallerKind::User))).err().unwrap();
    assert_eq!(rejection.code(), Code::ExchangeFailed);
    assert!(rejection.reason().contains("provider `entra`"), "{}", rejection.reason());
}

/// One round of callers of a hundred tenants: the terms of each.
fn a_round_of_tenants(desk: &Desk) -> Vec<Arc<Terms>> {
    let tenants = (0..100).map(|n| (format!("https://login.example/{n}/v2.0"), n.to_string()));
    let terms = tenants.map(|(issuer, tenant)| {
        let issuer = Arc::from(issuer);
        let grant = Grant::EntraOnBehalfOf;
        let particulars = Particulars { grant, issuer: Some(&issuer), tenant: Some(&tenant) };
        desk.terms(particulars, "graph").unwrap()
    });
    terms.collect()
}

#[test]
fn terms_of_a_hundred_tenants_in_turns_are_made_once_each() {
    let [provider, _] = whose::providers();
    let client = OAuthClient {
        provider,
        client_id: "c".into(),
        credential: ClientCredential::ClientSecret(Secret::new("hush".into())),
        user_grant: UserGrant::EntraOnBehalfOf,
    };
    let apps = InNameOf::Caller { apps: AppCallers::Reject };
    let desk = Desk::new(client, apps, &Arc::default());
    let (first, second) = (a_round_of_tenants(&desk), a_round_of_tenants(&desk));
    assert!(first.iter().zip(&second).all(|(one, other)| Arc::ptr_eq(one, other)));
    assert!(first.windows(2).all(|pair| pair[0].key(None) != pair[1].key(None)));
}
