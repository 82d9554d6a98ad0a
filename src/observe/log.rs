//! The log of the process: start, listeners, reloads, failures in the background.
//!
//! Requests have their own event (`access_log/`). Of other crates only warnings and errors
//! pass, whatever the level: at finer ones they print headers and URLs, and with them tokens.

use std::panic;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt, FilterFn, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, fmt};

use crate::observe::sink::{LogFormat, LogSink};
use crate::observe::timestamp::LogClock;

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `--log-level` is not understood.
    #[error(
        "`{given}` is no log level: use `error`, `warn`, `info`, `debug` or `trace`, \
         or for parts of the program `info,obo_gateway::authn=debug`"
    )]
    Level {
        /// What was given.
        given: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process has a log already.
    #[error("the log is set up already")]
    Twice(#[source] tracing::dispatcher::SetGlobalDefaultError),
}

/// Sets up the log of this process, for what panics too; call it once, from `main`.
///
/// # Errors
///
/// `level` is no level or directive, or there is a log already.
pub fn init(level: &str, sink: &LogSink) -> Result<(), LogError> {
    tracing::subscriber::set_global_default(subscriber(level, sink)?).map_err(LogError::Twice)?;
    // The standard hook prints several lines to standard error, in the middle of ours.
    panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, what, "a panic: this is a defect of the gateway");
    }));
    Ok(())
}

/// What [`init`] sets up, for one who wants it for a single thread.
pub fn subscriber(
    level: &str,
    sink: &LogSink,
) -> Result<impl Subscriber + Send + Sync + use<>, LogError> {
    let asked_for = EnvFilter::builder()
        .parse(level)
        .map_err(|source| LogError::Level { given: level.to_owned(), source })?;
    let filter = asked_for.and(harmless());
    let lines = fmt::layer().with_timer(LogClock).with_writer(sink.clone()).with_ansi(false);
    let lines = match sink.format() {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    Ok(tracing_subscriber::registry().with(lines.with_filter(filter)))
}

fn harmless() -> FilterFn<fn(&Metadata<'_>) -> bool> {
    let ours_or_serious: fn(&Metadata<'_>) -> bool = |event| {
        let ours = event.target() == "obo_gateway" || event.target().starts_with("obo_gateway::");
        ours || *event.level() <= Level::WARN
    };
    filter_fn(ours_or_serious).with_max_level_hint(LevelFilter::TRACE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::sink::tests::captured;

    fn logged(format: LogFormat, level: &str) -> String {
        let (sink, out) = captured(format);
        tracing::subscriber::with_default(subscriber(level, &sink).unwrap(), || {
            tracing::info!(address = "127.0.0.1:1", "listening");
            tracing::debug!(forged = "a\nb", "ours");
            tracing::debug!(target: "h2::codec", "Authorization: Bearer x");
            tracing::trace!(target: "obo_gateway_impostor", "Bearer y");
            tracing::warn!(target: "hyper", "theirs");
        });
        sink.flush();
        out.text()
    }

    #[test]
    fn lines_of_text_begin_with_time_and_level() {
        let text = logged(LogFormat::Text, "info");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].contains("Z  INFO obo_gateway::observe::log::tests: listening address="));
        assert!(lines[1].ends_with("Z  WARN hyper: theirs"), "{text}");
    }

    #[test]
    fn lines_of_json_are_objects() {
        let text = logged(LogFormat::Json, "trace");
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0]["message"], "listening");
        assert_eq!(lines[0]["address"], "127.0.0.1:1");
        assert_eq!(lines[1]["forged"], "a\nb");
    }

    #[test]
    fn other_crates_stay_silent_at_every_level() {
        let text = logged(LogFormat::Text, "trace,h2=trace");
        assert!(!text.contains("Bearer"), "{text}");
        assert!(text.contains("ours"), "{text}");
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        let (sink, _out) = captured(LogFormat::Text);
        let error = subscriber("loud=very", &sink).err().unwrap();
        assert!(error.to_string().starts_with("`loud=very` is no log level: use `error`"));
    }
}
