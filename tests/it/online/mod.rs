//! `check --online`, in this process: each check once where all is well and once where it is not.
//! The program around it is tested in `cli/online.rs`.

mod cache;
mod credentials;
mod providers;
mod tokens;
mod upstreams;

use std::sync::Arc;

use obo_gateway::clock::{SharedClock, SystemClock};
use obo_gateway::config::{Environment, Problems, Source};
use obo_gateway::launch::{self, Origin};
use obo_gateway::observe::Metrics;
use obo_gateway::online::{self, Check, Outcome, Report};

use crate::support::names::Names;
use crate::support::provider::Provider;
use crate::support::registry;
use crate::support::token::{CLIENT_ID, CLIENT_SECRET, TENANT};
use crate::support::within;

/// A routes file in memory.
struct File {
    text: String,
    variables: Vec<(String, String)>,
}

impl Origin for File {
    fn source(&self) -> Result<Source, Problems> {
        let base = std::env::temp_dir();
        Ok(Source { name: "routes.yaml".to_owned(), text: self.text.clone(), base })
    }

    fn environment(&self, source: &Source) -> Environment {
        let variables = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Environment::of(variables.chain([("CLIENT_SECRET", CLIENT_SECRET)]), &source.base)
    }
}

/// What comes of trying `yaml`, which finds `variables` in the environment.
async fn tried_in(variables: &[(String, String)], names: &Names, yaml: &str) -> Report {
    registry::secret(CLIENT_SECRET);
    let file = File { text: yaml.to_owned(), variables: variables.to_vec() };
    let clock: SharedClock = Arc::new(SystemClock);
    let (metrics, names) = (Metrics::default(), Arc::new(names.clone()));
    let prepared = launch::prepare_with_names(Box::new(file), Arc::clone(&clock), metrics, names)
        .unwrap_or_else(|problems| panic!("the file is not good:\n{problems}"));
    let report = within("all tries", online::check(prepared.resolved(), &clock)).await;
    for check in report.0.iter().filter(|check| check.outcome == Outcome::Fail) {
        assert!(check.hint.is_some(), "no hint:\n{}", report.text());
    }
    registry::assert_clean("the table", report.text().as_bytes());
    registry::assert_clean("the JSON", report.json().unwrap().as_bytes());
    report
}

async fn tried(yaml: &str) -> Report {
    tried_in(&[], &Names::default(), yaml).await
}

/// The checks of this kind, all of them.
fn all<'r>(report: &'r Report, check: &str) -> Vec<&'r Check> {
    report.0.iter().filter(|found| found.check == check).collect()
}

/// The one check of this kind.
#[track_caller]
fn one<'r>(report: &'r Report, check: &str) -> &'r Check {
    let [one] = all(report, check)[..] else { panic!("not one `{check}`:\n{}", report.text()) };
    one
}

/// There is one check of this kind, which ended so and says this.
#[track_caller]
fn says(report: &Report, check: &str, outcome: Outcome, words: &[&str]) {
    let found = one(report, check);
    let said = format!("{} {}", found.detail, found.hint.as_deref().unwrap_or_default());
    assert_eq!(found.outcome, outcome, "{}", report.text());
    for word in words {
        assert!(said.contains(word), "`{word}`:\n{}", report.text());
    }
    assert_eq!(found.outcome == Outcome::Fail, !report.is_good(), "{}", report.text());
}

/// A route that answers by itself, and whatever the file has beside it.
fn file(rest: &str) -> String {
    format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: off }}\n{rest}\n\
         routes:\n  - {{ match: {{ path: /own }}, auth: none, respond: {{ status: 204 }} }}\n"
    )
}

/// The Entra side of `provider`, with more keys in flow style.
fn entra(provider: &Provider, keys: &str) -> String {
    let base = provider.base();
    format!(
        "entra: {{ type: entra, tenant: {TENANT}, authority: \"{base}\", client_id: {CLIENT_ID}{keys} }}"
    )
}

const SECRET: &str = ", credential: { client_secret: \"${CLIENT_SECRET}\" }";
