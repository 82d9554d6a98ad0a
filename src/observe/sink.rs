//! Where log lines go: a bounded buffer that one thread empties into standard error.
//!
//! Whoever logs never waits for whoever reads. Lines that find no room are dropped, counted
//! and spoken of as soon as there is room again. What a line says is decided elsewhere.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use crate::limits::{KEPT_LOG_BYTES, LOG_BATCH_PAUSE, LOG_CLOSE_TIMEOUT, MAX_BUFFERED_LOG_BYTES};
use crate::observe::metrics::Metrics;
use crate::observe::timestamp::Timestamp;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: `TIME LEVEL what: key=value …`.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// The way into the log; clones share it.
#[derive(Clone, Debug)]
pub struct LogSink(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    format: LogFormat,
    metrics: Metrics,
    state: Mutex<State>,
    /// Wakes the writer.
    work: Condvar,
    /// Wakes those who wait in [`LogSink::flush`].
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    buffer: Vec<u8>,
    dropped: u64,
    /// Bytes ever taken in, and bytes ever handed on.
    taken: u64,
    written: u64,
    writer: Writer,
    /// Somebody waits: no gathering of more lines.
    urgent: bool,
    closed: bool,
}

#[derive(Debug, Default, PartialEq)]
enum Writer {
    /// It looks at the buffer again by itself.
    #[default]
    Awake,
    /// It has to be woken.
    Asleep,
}

impl LogSink {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub fn start(
        out: Box<dyn Write + Send>,
        format: LogFormat,
        metrics: Metrics,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            format,
            metrics,
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
        });
        let for_writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || write_all_lines(&for_writer, out))?;
        Ok(Self(shared))
    }

    /// How lines are to be written.
    pub fn format(&self) -> LogFormat {
        self.0.format
    }

    /// Hands in one line, its line feed included. Never waits for the output.
    pub fn line(&self, line: &[u8]) {
        let mut state = self.0.lock();
        if state.closed || state.buffer.len() + line.len() > MAX_BUFFERED_LOG_BYTES {
            state.dropped += 1;
            drop(state);
            self.0.metrics.log_lines_dropped(1);
            return;
        }
        state.buffer.extend_from_slice(line);
        state.taken += line.len() as u64;
        if state.writer == Writer::Asleep {
            state.writer = Writer::Awake;
            drop(state);
            self.0.work.notify_one();
        }
    }

    /// Waits until all lines so far are written, [`LOG_CLOSE_TIMEOUT`] at most. Blocks the thread.
    pub fn flush(&self) {
        let mut state = self.0.lock();
        let target = state.taken;
        let deadline = Instant::now() + LOG_CLOSE_TIMEOUT;
        while state.written < target {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state.urgent = true;
            self.0.work.notify_one();
            state = wait(&self.0.done, state, left);
        }
    }

    /// Ends the log: writes what is there, as [`LogSink::flush`] does; later lines are dropped.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.0.work.notify_one();
        self.flush();
    }
}

/// The log of the process goes the same way; each event is one write.
impl<'a> MakeWriter<'a> for LogSink {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter(self)
    }
}

/// Takes each write as one line.
#[derive(Debug)]
pub struct LineWriter<'a>(&'a LogSink);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way; a log that went silent would be worse.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait<'a>(
    on: &Condvar,
    state: MutexGuard<'a, State>,
    at_most: Duration,
) -> MutexGuard<'a, State> {
    on.wait_timeout(state, at_most).unwrap_or_else(PoisonError::into_inner).0
}

fn write_all_lines(shared: &Shared, mut out: Box<dyn Write + Send>) {
    let mut batch = Vec::new();
    loop {
        let mut state = shared.lock();
        while state.buffer.is_empty() && state.dropped == 0 {
            if state.closed {
                return;
            }
            state.writer = Writer::Asleep;
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writer = Writer::Awake;
        if !state.urgent && !state.closed {
            state = wait(&shared.work, state, LOG_BATCH_PAUSE);
        }
        state.urgent = false;
        mem::swap(&mut batch, &mut state.buffer);
        let dropped = mem::take(&mut state.dropped);
        drop(state);

        // There is nowhere to say that standard error is gone; the count is what is left.
        if out.write_all(&batch).and_then(|()| out.flush()).is_err() {
            let lines = batch.split(|byte| *byte == b'\n').skip(1).count();
            shared.metrics.log_lines_dropped(lines as u64);
        }
        if dropped > 0 {
            out.write_all(dropped_line(shared.format, dropped).as_bytes()).unwrap_or_default();
        }
        let mut state = shared.lock();
        state.written += batch.len() as u64;
        drop(state);
        shared.done.notify_all();
        batch.clear();
        // A burst should not hold its memory for ever.
        batch.shrink_to(KEPT_LOG_BYTES);
    }
}

fn dropped_line(format: LogFormat, lines: u64) -> String {
    let time = Timestamp::now();
    let what = "log lines were dropped: standard error is not read fast enough";
    match format {
        LogFormat::Text => format!("{time}  WARN obo_gateway::observe: {what} dropped={lines}\n"),
        LogFormat::Json => format!(
            "{{\"timestamp\":\"{time}\",\"level\":\"WARN\",\"message\":\"{what}\",\
             \"dropped\":{lines},\"target\":\"obo_gateway::observe\"}}\n"
        ),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::mpsc;

    use super::*;

    /// An output that tests read.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A sink whose lines a test reads.
    pub(crate) fn captured(format: LogFormat) -> (LogSink, Captured) {
        let out = Captured::default();
        let sink = LogSink::start(Box::new(out.clone()), format, Metrics::default()).unwrap();
        (sink, out)
    }

    #[test]
    fn lines_come_out_in_order_and_whole() {
        let (sink, out) = captured(LogFormat::Text);
        sink.line(b"one\n");
        sink.line(b"two\n");
        sink.flush();
        assert_eq!(out.text(), "one\ntwo\n");
        sink.line(b"three\n");
        sink.close();
        assert_eq!(out.text(), "one\ntwo\nthree\n");
        sink.line(b"late\n");
        sink.flush();
        assert_eq!(out.text(), "one\ntwo\nthree\n");
    }

    /// Blocks each write until the test lets it go.
    struct Stuck(mpsc::Receiver<()>, Captured);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().unwrap_or_default();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_output_that_is_stuck_costs_lines_and_nobody_waits() {
        let (go, gate) = mpsc::channel();
        let out = Captured::default();
        let metrics = Metrics::default();
        let stuck = Box::new(Stuck(gate, out.clone()));
        let sink = LogSink::start(stuck, LogFormat::Json, metrics.clone()).unwrap();
        let line = vec![b'x'; 1024 * 1024];
        for _ in 0..20 {
            sink.line(&line);
        }
        let counted = metrics.encode();
        drop(go);
        sink.close();
        let text = out.text();
        let last = text.lines().last().unwrap().trim_start_matches('x');
        let said: serde_json::Value = serde_json::from_str(last).unwrap();
        // The writer may have taken one batch of up to eight before it got stuck.
        let dropped = said["dropped"].as_u64().unwrap();
        assert!((4..=12).contains(&dropped), "{dropped}");
        let line = format!("obo_gateway_log_lines_dropped_total {dropped}");
        assert!(counted.contains(&line), "{counted}");
    }
}
