//! Which credential a plan gives, where no provider is asked.

use http::HeaderValue;

use super::*;
use crate::clock::SystemClock;
use crate::observe::metrics::Metrics;
use crate::rejection::Code;

fn exchanger() -> Arc<Exchanger> {
    Exchanger::new(100, Arc::new(SystemClock), Metrics::default())
}

#[tokio::test]
async fn plans_without_an_exchange_need_no_provider() {
    let (exchanger, metrics) = (exchanger(), Metrics::default().upstream("graph"));
    let upstream: Arc<str> = Arc::from("graph");
    let none =
        credential_of(&exchanger, &TokenPlan::None, &upstream, &metrics, None, Waited::default())
            .await
            .unwrap();
    assert_eq!((none.header(), none.upstream()), (None, &upstream));
    assert_eq!((none.cache_result(), none.exchange_time()), (None, None));
    exchanger.forget(&none);

    let open = credential_of(
        &exchanger,
        &TokenPlan::Passthrough,
        &upstream,
        &metrics,
        None,
        Waited::default(),
    )
    .await
    .unwrap();
    assert_eq!(open.header(), None);

    let name = HeaderName::from_static("x-api-key");
    let value = SecretHeader::new(HeaderValue::from_static("key"));
    let plan = TokenPlan::Header { name: name.clone(), value };
    let fixed = credential_of(&exchanger, &plan, &upstream, &metrics, None, Waited::default())
        .await
        .unwrap();
    let (sent_name, sent_value) = fixed.header().unwrap();
    assert_eq!((sent_name, sent_value.to_str().unwrap()), (&name, "key"));
    assert!(sent_value.is_sensitive());
    assert!(!format!("{plan:?} {fixed:?}").contains("\"key\""));
}

#[tokio::test]
async fn on_behalf_of_nobody_is_refused() {
    let (exchanger, metrics) = (exchanger(), Metrics::default().upstream("graph"));
    let plan = TokenPlan::Exchange(Arc::new(ExchangePlan::new(ExchangeSettings {
        clients: OAuthClients::OfCaller(Vec::new()),
        in_name_of: InNameOf::Caller { apps: AppCallers::Reject },
        requested: Requested::scopes(vec!["api://x/.default".into()]),
        upstream: Arc::from("graph"),
    })));
    let refused =
        credential_of(&exchanger, &plan, &Arc::from("graph"), &metrics, None, Waited::default())
            .await
            .unwrap_err();
    assert_eq!(refused.code(), Code::Internal);
}
