//! `explain` and `test`: what they print is held in `tests/data/explain/` (after a change run
//! `INSTA_UPDATE=always cargo test --test it explain_and_test` and read what changed as an operator
//! would), and held against what a gateway really does.

mod agreement;
mod commands;
mod printed;
mod reports;

use std::path::Path;
use std::sync::Arc;

use obo_gateway::config::{Environment, Problems, Source};
use obo_gateway::dry_run::{self, Asking, Explanation};
use obo_gateway::launch::{self, Origin, Prepared};
use obo_gateway::observe::Metrics;

use crate::support::clock::ManualClock;
use crate::support::registry;
use crate::support::token::CLIENT_SECRET;

/// A routes file that is read and not served.
struct Text(String);

impl Origin for Text {
    fn source(&self) -> Result<Source, Problems> {
        let (name, text) = ("routes.yaml".to_owned(), self.0.clone());
        Ok(Source { name, text, base: std::env::temp_dir() })
    }

    fn environment(&self, source: &Source) -> Environment {
        Environment::of([("CLIENT_SECRET", CLIENT_SECRET)], &source.base)
    }
}

/// Reads a routes file, at the time at which the tokens of tests are good.
fn prepare(yaml: &str) -> Prepared {
    let clock = Arc::new(ManualClock::new());
    launch::prepare(Box::new(Text(yaml.to_owned())), clock, Metrics::default())
        .unwrap_or_else(|problems| panic!("{problems}"))
}

async fn explain(prepared: &Prepared, asking: Asking) -> Explanation {
    let explanation = dry_run::explain(&prepared.resolved().snapshot, &asking).await;
    let json = serde_json::to_string(&explanation).unwrap();
    registry::assert_clean("explain as text", explanation.to_string().as_bytes());
    registry::assert_clean("explain as JSON", json.as_bytes());
    explanation
}

fn asking(method: &str, url: &str, fields: &[(&str, &str)], token: Option<&str>) -> Asking {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let fields: Vec<_> = fields.iter().map(own).collect();
    let asking = Asking::new(method, url, &fields, "gateway.example").unwrap();
    match token {
        Some(token) => asking.with_token(token).unwrap(),
        None => asking,
    }
}

/// Compares with the text in `tests/data/explain/`.
fn assert_golden(name: &str, shown: &str) {
    let mut settings = insta::Settings::clone_current();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/explain");
    settings.set_snapshot_path(folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, shown));
}
