//! `demo`: all on loopback. The development identity provider, stand-ins for Graph and ARM,
//! and the gateway in front with the shipped `routes.yaml`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::DemoArguments;
use super::run::{self, Signals};
use crate::body::BoxError;
use crate::chain::with_sources;
use crate::clock::SystemClock;
use crate::config::{Environment, Problems, Source};
use crate::dev::{
    self, ArmStandIn, Bound, DevServer, DevTls, GraphStandIn, IdentityProvider, directory,
};
use crate::launch::{self, Origin};
use crate::observe::Metrics;
use crate::observe::sink::LogSink;

/// The shipped routes file: what the demo shows is what an operator runs.
const ROUTES: &str = include_str!("../../routes.yaml");

/// Where everything listens unless `--port-base` says otherwise.
const PORTS: [u16; 5] = [8080, 9901, 9010, 9011, 9012];

/// Its own provider is on this machine; what takes longer than this is broken.
const READY_WITHIN: Duration = Duration::from_secs(30);

pub(super) fn main(arguments: &DemoArguments, sink: &LogSink, metrics: Metrics) -> ExitCode {
    let runtime = match run::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return super::failure(&format!("no runtime: {error}")),
    };
    let code = runtime.block_on(async {
        match serve(arguments, sink, metrics).await {
            Ok(code) => code,
            Err(error) => super::failure(&with_sources(error.as_ref())),
        }
    });
    sink.close();
    runtime.shutdown_background();
    code
}

async fn serve(
    arguments: &DemoArguments,
    sink: &LogSink,
    metrics: Metrics,
) -> Result<ExitCode, BoxError> {
    let signals = Signals::register()?;
    let ports = ports(arguments.port_base)?;
    let tls = match &arguments.ca_file {
        Some(file) => {
            let tls = DevTls::generate()?;
            tls.write_ca_file(file).await?;
            Some(tls)
        }
        None => None,
    };
    let services = Services::start(&ports, tls.as_ref()).await?;
    let variables = services.variables(&ports);
    let folder = tls.as_ref().map(Folder::with).transpose()?;
    let demo = DemoFile { variables, folder };
    let prepared = match launch::prepare(Box::new(demo), Arc::new(SystemClock), metrics) {
        Ok(prepared) => prepared,
        Err(problems) => {
            super::to_stderr(&problems.to_string());
            return Ok(ExitCode::FAILURE);
        }
    };
    let workers = run::workers(&prepared)?;
    let running = prepared.served_by(workers).start(sink.clone())?;
    // What is printed is pasted at once: it has to work.
    if let Err(missing) = running.until_ready(READY_WITHIN).await {
        return Err(format!("the demo did not get ready: {}", missing.join("; ")).into());
    }
    sink.flush();
    super::to_stdout(&guide(&ports, &services, arguments));
    Ok(run::until_signal(running, signals, sink).await)
}

fn ports(base: Option<u16>) -> Result<[u16; 5], BoxError> {
    let Some(base) = base else { return Ok(PORTS) };
    let mut ports = PORTS;
    for (port, offset) in ports.iter_mut().zip(0..) {
        let moved = base.checked_add(offset).filter(|_| base > 0);
        *port = moved
            .ok_or_else(|| format!("--port-base `{base}`: choose a number from 1 to 65531"))?;
    }
    Ok(ports)
}

/// What stands in for the outside world.
struct Services {
    provider: DevServer,
    graph: DevServer,
    arm: DevServer,
}

impl Services {
    async fn start(ports: &[u16; 5], tls: Option<&DevTls>) -> Result<Self, BoxError> {
        let [_, _, provider, graph, arm] = ports.map(loopback);
        let bound = Bound::bind(provider, tls).await?;
        let provider = IdentityProvider::new(bound.base_url(), Arc::new(SystemClock))?;
        Ok(Self {
            graph: GraphStandIn::new(&provider).serve(Bound::bind(graph, None).await?),
            arm: ArmStandIn::new(&provider).serve(Bound::bind(arm, None).await?),
            provider: provider.serve(bound),
        })
    }

    /// What the routes file takes from the environment.
    fn variables(&self, ports: &[u16; 5]) -> Vec<(String, String)> {
        let [gateway, admin, ..] = ports.map(loopback);
        [
            ("LISTEN_ADDRESS", gateway.to_string()),
            ("ADMIN_ADDRESS", admin.to_string()),
            ("AZURE_TENANT_ID", directory::TENANT.to_owned()),
            ("AZURE_CLIENT_ID", directory::GATEWAY_CLIENT_ID.to_owned()),
            ("AZURE_CLIENT_SECRET", directory::GATEWAY_SECRET.to_owned()),
            ("AZURE_AUTHORITY_HOST", self.provider.base_url().to_owned()),
            ("GRAPH_URL", self.graph.base_url().to_owned()),
            ("ARM_URL", self.arm.base_url().to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Certificate, key and CA of `--tls`, as files for the routes file to name; they go with the demo.
struct Folder(PathBuf);

impl Folder {
    fn with(tls: &DevTls) -> Result<Self, BoxError> {
        let folder =
            Self(std::env::temp_dir().join(format!("obo-gateway-demo-{}", std::process::id())));
        std::fs::create_dir(&folder.0)?;
        private(&folder.0)?;
        std::fs::write(folder.0.join("ca.pem"), tls.ca_pem())?;
        std::fs::write(folder.0.join("tls.crt"), tls.certificate_pem())?;
        std::fs::write(folder.0.join("tls.key"), tls.private_key_pem().expose())?;
        Ok(folder)
    }
}

fn private(folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// The shipped routes file; with `--tls`, its listener and its provider get what that needs.
struct DemoFile {
    variables: Vec<(String, String)>,
    folder: Option<Folder>,
}

impl Origin for DemoFile {
    fn source(&self) -> Result<Source, Problems> {
        let mut text = ROUTES.to_owned();
        if self.folder.is_some() {
            let listener = "  - address: ${LISTEN_ADDRESS:-127.0.0.1:8080}\n";
            let provider = "    type: entra\n";
            text = text.replacen(
                listener,
                &format!("{listener}    tls: {{ cert_file: tls.crt, key_file: tls.key }}\n"),
                1,
            );
            text = text.replacen(provider, &format!("{provider}    ca_file: ca.pem\n"), 1);
        }
        Ok(Source { name: "routes.yaml (built in)".to_owned(), text, base: PathBuf::new() })
    }

    fn environment(&self, _source: &Source) -> Environment {
        let base = self.folder.as_ref().map_or(PathBuf::new(), |folder| folder.0.clone());
        Environment::of(self.variables.clone(), base)
    }
}

/// What to paste, and what it shows.
fn guide(ports: &[u16; 5], services: &Services, arguments: &DemoArguments) -> String {
    let [gateway, admin, ..] = ports;
    let ca = arguments
        .ca_file
        .as_ref()
        .map_or(String::new(), |file| format!(" --cacert {}", file.display()));
    let front = if arguments.tls {
        format!("https://localhost:{gateway}")
    } else {
        format!("http://127.0.0.1:{gateway}")
    };
    let provider = services.provider.base_url();
    let warning = dev::WARNING.trim_end();
    let (graph, arm) = (services.graph.base_url(), services.arm.base_url());
    format!(
        r#"{warning}

  gateway            {front}
  admin              http://127.0.0.1:{admin}  (a page to look at; /livez, /readyz, /metrics)
  identity provider  {provider}
  Graph (stand-in)   {graph}
  ARM (stand-in)     {arm}

Paste into another terminal. A token for the gateway, as a client of yours would get it:

TOKEN=$(curl -s{ca} '{provider}/dev/token?user=alice&scope=access_as_user')

Graph and ARM each get a token of their own in its place. `tokenFor` in what they answer says for
whom it is made out:

curl -s{ca} -H "Authorization: Bearer $TOKEN" {front}/graph/v1.0/me
curl -s{ca} -H "Authorization: Bearer $TOKEN" '{front}/arm/subscriptions?api-version=2022-12-01'

Links in what they answer lead back here, so that clients page and poll through the gateway:

curl -s{ca} -H "Authorization: Bearer $TOKEN" '{front}/graph/v1.0/me/messages?$top=2'

What is refused says why: no token at all, and a user of whom the provider wants another factor
first (`claims` in `www-authenticate` is what the client takes back to it):

curl -s{ca} -i {front}/graph/v1.0/me
curl -s{ca} -i -H "Authorization: Bearer $(curl -s{ca} '{provider}/dev/token?user=mfa&scope=access_as_user')" {front}/graph/v1.0/me

Ctrl-C ends it.
"#
    )
}
