//! Who may be acted for, and which terms are remembered.

mod whose;

use serde_json::Map;

use super::*;
use crate::clock::UnixTime;

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
        claims: Map::new(),
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

#[test]
fn terms_are_used_again_only_for_the_same_issuer_tenant_grant_and_endpoints() {
    let terms = super::super::terms::tests::terms("c", &["s"]);
    let endpoints = Arc::new(Endpoints {
        token: Some(terms.token_endpoint.clone()),
        authorization: terms.authorization_endpoint.clone(),
    });
    let last = Remembered { endpoints: Arc::clone(&endpoints), terms: Arc::new(terms) };
    let issuer = Arc::from("https://login.example/t1/v2.0");
    let own =
        Particulars { grant: Grant::EntraOnBehalfOf, issuer: Some(&issuer), tenant: Some("t1") };
    assert!(last.fits(&endpoints, own));
    assert!(last.fits(&Arc::new(Endpoints::clone(&endpoints)), own));

    let other = Arc::from("https://sts.example/t1/");
    assert!(!last.fits(&endpoints, Particulars { tenant: Some("t2"), ..own }));
    assert!(!last.fits(&endpoints, Particulars { issuer: Some(&other), ..own }));
    assert!(!last.fits(&endpoints, Particulars { issuer: None, ..own }));
    let grant = Grant::ClientCredentials;
    assert!(!last.fits(&endpoints, Particulars { grant, ..own }));
    assert!(!last.fits(&Arc::default(), own));
}

#[test]
fn issuers_that_take_turns_keep_their_terms() {
    let endpoints = Arc::new(Endpoints::default());
    let terms_of = |issuer: usize| {
        let issuer = Arc::from(format!("https://login.example/{issuer}"));
        let mut terms = super::super::terms::tests::terms("c", &["s"]);
        terms.issuer = Some(issuer);
        Arc::new(terms)
    };
    let recent = RecentTerms::default();
    for issuer in 0..=REMEMBERED_TERMS {
        let terms = terms_of(issuer);
        recent.add(Remembered { endpoints: Arc::clone(&endpoints), terms });
    }
    let found = |issuer: usize| {
        let terms = terms_of(issuer);
        let issuer = terms.issuer.as_ref();
        let grant = Grant::EntraOnBehalfOf;
        recent.find(&endpoints, Particulars { grant, issuer, tenant: Some("t1") })
    };
    assert!(found(0).is_none(), "one more than are remembered");
    assert!((1..=REMEMBERED_TERMS).all(|issuer| found(issuer).is_some()));
    assert_eq!(recent.0.load().len(), REMEMBERED_TERMS);
}
