//! A whole gateway in this process, on ports of the system's choice.
//!
//! It runs on a runtime of its own, whose threads are named after it: dropping the [`Gateway`]
//! drains it, raises what panicked on its threads, and searches its log and its metrics for
//! every token and secret that the process knows.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, Once, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use obo_gateway::accept::CutOff;
use obo_gateway::config::{Environment, Problems, Source};
use obo_gateway::last_reload::{LastReload, ReloadOutcome};
use obo_gateway::launch::{self, Origin, Prepared};
use obo_gateway::observe::sink::{LogFormat, LogSink};
use obo_gateway::observe::{Metrics, log};
use obo_gateway::workers::Workers;
use obo_gateway::written::Changes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc as steps, oneshot, watch};

use super::capture::{self, Capture};
use super::client::Client;
use super::clock::ManualClock;
use super::names::Names;
use super::registry;
use super::token::CLIENT_SECRET;

/// What the routes files of tests find in the environment.
const VARIABLES: &[(&str, &str)] = &[("CLIENT_SECRET", CLIENT_SECRET)];

/// The routes file of a gateway, which nobody else reads.
pub struct HeldFile<'a>(MutexGuard<'a, String>);

impl HeldFile<'_> {
    /// Changes it.
    pub fn write(&mut self, yaml: &str) {
        yaml.clone_into(&mut self.0);
    }
}

/// What panicked, by the name of the gateway on whose threads it did.
static PANICS: LazyLock<Mutex<HashMap<String, Vec<String>>>> = LazyLock::new(Mutex::default);

/// Some time that passes, and who wants to know when it has.
type Step = (Duration, oneshot::Sender<()>);

/// The gateway; see the module.
pub struct Gateway {
    name: String,
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    clock: ManualClock,
    log: Capture,
    sink: LogSink,
    running: Arc<launch::Running>,
    runtime: tokio::runtime::Handle,
    file: RoutesFile,
    stop: Option<oneshot::Sender<()>>,
    /// Where its timers are moved, if they stand still.
    time: Option<steps::Sender<Step>>,
    /// Ends with the metrics, as they were before the drain.
    thread: Option<JoinHandle<Option<String>>>,
    panics_expected: bool,
}

impl Gateway {
    /// Starts one with this routes file.
    ///
    /// # Panics
    ///
    /// When it does not start; with the problems of the file.
    pub fn start(yaml: &str) -> Self {
        Self::try_start(yaml)
            .unwrap_or_else(|problems| panic!("the gateway does not start:\n{problems}"))
    }

    /// Starts one with this routes file, which finds `variables` in the environment too.
    ///
    /// # Panics
    ///
    /// When it does not start; with the problems of the file.
    pub fn start_in(variables: &[(String, String)], yaml: &str) -> Self {
        Self::try_start_in(variables, yaml)
            .unwrap_or_else(|problems| panic!("the gateway does not start:\n{problems}"))
    }

    /// Starts one with this routes file; else what is wrong, as the operator sees it.
    pub fn try_start(yaml: &str) -> Result<Self, String> {
        Self::launch(&[], yaml, None, None)
    }

    /// The same with more `variables` in the environment.
    pub fn try_start_in(variables: &[(String, String)], yaml: &str) -> Result<Self, String> {
        Self::launch(variables, yaml, None, None)
    }

    /// Starts one whose timers stand still, and move with its clock by [`Self::pass`].
    ///
    /// # Panics
    ///
    /// When it does not start; with the problems of the file.
    pub fn start_in_virtual_time(yaml: &str) -> Self {
        Self::start_in_virtual_time_with(None, yaml)
    }

    /// The same, with the names of upstreams as `names` has them.
    ///
    /// # Panics
    ///
    /// When it does not start; with the problems of the file.
    pub fn start_in_virtual_time_with_names(names: &Names, yaml: &str) -> Self {
        Self::start_in_virtual_time_with(Some(names), yaml)
    }

    fn start_in_virtual_time_with(names: Option<&Names>, yaml: &str) -> Self {
        let (time, moved) = steps::channel(1);
        let mut gateway = Self::launch(&[], yaml, Some(moved), names)
            .unwrap_or_else(|problems| panic!("the gateway does not start:\n{problems}"));
        gateway.time = Some(time);
        gateway
    }

    /// Starts one with this routes file, and the names of upstreams as `names` has them.
    ///
    /// # Panics
    ///
    /// When it does not start; with the problems of the file.
    pub fn start_with_names(names: &Names, yaml: &str) -> Self {
        Self::launch(&[], yaml, None, Some(names))
            .unwrap_or_else(|problems| panic!("the gateway does not start:\n{problems}"))
    }

    /// Lets time pass, on its clock and for its timers.
    ///
    /// # Panics
    ///
    /// When its time is not virtual.
    pub async fn pass(&self, by: Duration) {
        let time = self.time.as_ref().expect("its time is virtual");
        self.clock.advance(by);
        let (done, passed) = oneshot::channel();
        time.send((by, done)).await.expect("it lives");
        passed.await.expect("it lives");
    }

    fn launch(
        variables: &[(String, String)],
        yaml: &str,
        moved: Option<steps::Receiver<Step>>,
        names: Option<&Names>,
    ) -> Result<Self, String> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        watch_panics();
        capture::elsewhere();
        registry::secret(CLIENT_SECRET);
        let name = format!("gateway-{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        let (clock, log) = (ManualClock::new(), Capture::default());
        let file = RoutesFile {
            text: Arc::new(Mutex::new(yaml.to_owned())),
            asked_for: Arc::default(),
            variables: variables.to_vec(),
        };
        let options = Options::new(&file, &clock, &log, names)?;
        let sink = options.sink.clone();
        let (stop, stopped) = oneshot::channel();
        let (started, outcome) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn({
                let name = name.clone();
                move || live(&name, options, &started, stopped, moved)
            })
            .unwrap();
        let (running, runtime) = outcome.recv().expect("the gateway's thread is there")?;
        Ok(Self {
            addresses: running.addresses(),
            file,
            admin: running.admin_address(),
            name,
            clock,
            log,
            sink,
            running,
            runtime,
            stop: Some(stop),
            time: None,
            thread: Some(thread),
            panics_expected: false,
        })
    }

    /// Where its first listener listens.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where all its listeners listen, in the order of the file.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin port listens.
    ///
    /// # Panics
    ///
    /// When the file turned it off.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.expect("the file has an admin port")
    }

    /// What its tokens are judged by.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// What it logged up to now: lines are written behind what they tell of.
    pub fn log(&self) -> &Capture {
        self.sink.flush();
        &self.log
    }

    /// Changes the routes file; [`Self::reload`] reads it.
    pub fn write_file(&self, yaml: &str) {
        yaml.clone_into(&mut self.file.text.lock().unwrap());
    }

    /// The routes file can't be read, and who reads it hangs, until this is dropped.
    pub fn hold_file(&self) -> HeldFile<'_> {
        HeldFile(self.file.text.lock().unwrap())
    }

    /// Waits until somebody has begun to read the routes file for the `times`th time; the start did once.
    pub async fn file_is_read(&self, times: usize) {
        let mut read = self.file.asked_for.subscribe();
        let reached = read.wait_for(|read| *read >= times);
        super::within("the routes file to be read", reached).await.unwrap();
    }

    /// How often somebody has begun to read the routes file.
    pub fn file_reads(&self) -> usize {
        *self.file.asked_for.borrow()
    }

    /// Asks for a reload, as signals and watched files do.
    pub fn ask_reload(&self, cause: &str) -> impl Future<Output = Option<Arc<LastReload>>> + use<> {
        self.running.ask(cause)
    }

    /// The gateway as the product knows it.
    pub fn running(&self) -> &launch::Running {
        &self.running
    }

    /// Has the routes file read again, as a signal does, and waits until it is in force.
    ///
    /// # Panics
    ///
    /// With the problems of the file.
    pub fn reload(&self) -> Changes {
        self.try_reload().unwrap_or_else(|problems| panic!("no reload:\n{problems}"))
    }

    /// The same with a file that may be refused; else what is wrong, as the operator sees it.
    ///
    /// # Panics
    ///
    /// When no reload is done.
    pub fn try_reload(&self) -> Result<Changes, String> {
        let (done, told) = mpsc::channel();
        let asked = self.ask_reload("SIGHUP");
        // Whoever calls may be on a runtime, where nobody can be waited for otherwise.
        self.runtime.spawn(async move { done.send(asked.await) });
        let last = told.recv_timeout(Duration::from_mins(1)).expect("the reload ends");
        let last = last.expect("the reload is done");
        match last.outcome {
            ReloadOutcome::Success => Ok(last.changes.clone()),
            ReloadOutcome::Failure => Err(last.text.clone()),
        }
    }

    /// Ends it, on its own runtime and by its timers.
    pub fn drain(&self) -> tokio::task::JoinHandle<CutOff> {
        let running = Arc::clone(&self.running);
        self.runtime.spawn(async move { running.drain().await })
    }

    /// From now on it watches the files that its configuration was made of, at short intervals.
    pub fn watch(&self) -> tokio::task::JoinHandle<()> {
        self.runtime.spawn(self.running.watch(Duration::from_millis(10)))
    }

    /// A connection to its first listener; HTTP/1.1.
    pub async fn client(&self) -> Client {
        Client::http1(self.address()).await
    }

    /// A connection to its first listener; HTTP/2 with prior knowledge.
    pub async fn client_http2(&self) -> Client {
        Client::http2(self.address()).await
    }

    /// Waits until every provider's keys are loaded, as `/readyz` says.
    ///
    /// # Panics
    ///
    /// When it does not become ready.
    pub async fn ready(&self) {
        let mut client = Client::http1(self.admin_address()).await;
        client.is_not_a_gateway();
        let ready = async {
            while client.get("/readyz").await.status != 200 {
                // Nothing tells of readiness but asking; the interval only spares the processor.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        super::within("the gateway to be ready", ready).await;
    }

    /// The metrics, in Prometheus' text format.
    pub async fn metrics(&self) -> String {
        metrics(self.admin_address()).await
    }

    /// Waits until the metrics contain `text`.
    pub async fn metrics_when(&self, text: &str) {
        let there = async {
            while !self.metrics().await.contains(text) {
                // Metrics are asked for; the interval only spares the processor.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        super::within(text, there).await;
    }

    /// This test makes the gateway panic: its end does not raise that again.
    pub fn expect_panics(&mut self) {
        self.panics_expected = true;
    }

    /// What panicked so far.
    pub fn panics(&self) -> Vec<String> {
        PANICS.lock().unwrap().get(&self.name).cloned().unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // A gateway that ended by itself no longer listens to this.
        drop(self.stop.take());
        let ended = self.thread.take().expect("it is dropped once").join();
        if std::thread::panicking() {
            eprintln!("the log of {}:\n{}", self.name, self.log.text());
            return;
        }
        let panics = self.panics();
        assert!(
            self.panics_expected || panics.is_empty(),
            "{} panicked:\n{}",
            self.name,
            panics.join("\n")
        );
        for panic in &panics {
            registry::assert_clean("a panic", panic.as_bytes());
        }
        self.log.assert_clean();
        capture::elsewhere().assert_clean();
        if let Ok(Some(metrics)) = ended {
            registry::assert_clean("the metrics", metrics.as_bytes());
        }
    }
}

/// A gateway that serves, and the runtime that it does it on.
type Started = (Arc<launch::Running>, tokio::runtime::Handle);

/// The life of a gateway, on its own thread.
fn live(
    name: &str,
    options: Options,
    started: &mpsc::SyncSender<Result<Started, String>>,
    stopped: oneshot::Receiver<()>,
    moved: Option<steps::Receiver<Step>>,
) -> Option<String> {
    let Options { prepared, sink, dispatch } = options;
    let on_start = {
        let dispatch = dispatch.clone();
        // The thread ends with the runtime, and its subscriber with it.
        move || std::mem::forget(tracing::dispatcher::set_default(&dispatch))
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .start_paused(moved.is_some())
        .thread_name(name)
        .on_thread_start(on_start.clone())
        .enable_all()
        .build()
        .unwrap();
    // Threads have their own time each.
    let count = if moved.is_some() { 1 } else { prepared.resolved().server.workers.unwrap_or(2) };
    let prepared = prepared.served_by(Workers::start(count, name, on_start).unwrap());
    let _logging = tracing::dispatcher::set_default(&dispatch);
    runtime.block_on(async {
        let running = match prepared.start(sink.clone()) {
            Ok(running) => running,
            Err(error) => {
                started.send(Err(error.to_string())).unwrap();
                return None;
            }
        };
        let runtime = tokio::runtime::Handle::current();
        started.send(Ok((Arc::clone(&running), runtime))).unwrap();
        // The other end is dropped, never sent to: that is the sign.
        match moved {
            None => {
                stopped.await.unwrap_err();
            }
            Some(moved) => move_time(moved, stopped).await,
        }
        let metrics = match running.admin_address() {
            Some(address) => last_metrics(address).await.ok(),
            None => None,
        };
        super::within("the gateway to drain", running.drain()).await;
        running.close_log();
        metrics
    })
}

/// Moves the timers of this runtime, and nothing else does, until the sign to stop.
async fn move_time(mut moved: steps::Receiver<Step>, mut stopped: oneshot::Receiver<()>) {
    // Paused time jumps to the next timer when all tasks wait, also for a socket: every timeout
    // would be over at once. It does not while a blocking task runs.
    let (let_go, held) = mpsc::channel::<()>();
    let still = tokio::task::spawn_blocking(move || held.recv().unwrap_err());
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            Some((by, done)) = moved.recv() => {
                tokio::time::advance(by).await;
                done.send(()).unwrap_or_default();
            }
        }
    }
    tokio::time::resume();
    drop(let_go);
    still.await.unwrap();
}

async fn metrics(admin: SocketAddr) -> String {
    let mut client = Client::http1(admin).await;
    client.is_not_a_gateway();
    let reply = client.get("/metrics").await;
    assert_eq!(reply.status, 200);
    String::from_utf8(reply.body.to_vec()).unwrap()
}

/// The metrics for the search in them. A test may have drained the gateway: then there are none.
async fn last_metrics(admin: SocketAddr) -> std::io::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(admin).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Where the harness meets the product: all that is set from outside.
struct Options {
    prepared: Prepared,
    sink: LogSink,
    dispatch: tracing::Dispatch,
}

impl Options {
    fn new(
        file: &RoutesFile,
        clock: &ManualClock,
        log: &Capture,
        names: Option<&Names>,
    ) -> Result<Self, String> {
        let metrics = Metrics::default();
        let sink = LogSink::start(Box::new(log.clone()), LogFormat::Json, metrics.clone()).unwrap();
        let dispatch = tracing::Dispatch::new(log::subscriber("trace", &sink).unwrap());
        let (origin, clock) = (Box::new(file.clone()), Arc::new(clock.clone()));
        let prepared = match names {
            Some(names) => {
                launch::prepare_with_names(origin, clock, metrics, Arc::new(names.clone()))
            }
            None => launch::prepare(origin, clock, metrics),
        };
        let prepared = prepared.map_err(|problems| problems.to_string())?;
        Ok(Self { prepared, sink, dispatch })
    }
}

/// A routes file in memory, and what it finds in the environment beside [`VARIABLES`].
#[derive(Clone)]
struct RoutesFile {
    text: Arc<Mutex<String>>,
    /// How often it was.
    asked_for: Arc<watch::Sender<usize>>,
    variables: Vec<(String, String)>,
}

impl Origin for RoutesFile {
    fn source(&self) -> Result<Source, Problems> {
        self.asked_for.send_modify(|times| *times += 1);
        let text = self.text.lock().unwrap().clone();
        Ok(Source { name: "routes.yaml".to_owned(), text, base: std::env::temp_dir() })
    }

    fn environment(&self, source: &Source) -> Environment {
        let variables = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Environment::of(VARIABLES.iter().copied().chain(variables), &source.base)
    }
}

/// Takes down what panics on threads of gateways, in whichever task.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            if let Some(name) = thread.name().filter(|name| name.starts_with("gateway-")) {
                PANICS.lock().unwrap().entry(name.to_owned()).or_default().push(panic.to_string());
            }
            before(panic);
        }));
    });
}
