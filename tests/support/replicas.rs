//! Several gateways of one configuration, beside one provider and its upstreams: what replicas
//! behind a load balancer are ([`super::balancer`]). The provider counts the exchanges.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obo_gateway::clock::{Clock as _, SystemClock, UnixTime};

use super::client::Client;
use super::clock::START;
use super::gateway::Gateway;
use super::provider::{Endpoint, Provider};
use super::registry;
use super::replica::Replica;
use super::token::{CLIENT_ID, CLIENT_SECRET, TENANT, Token};
use super::upstream::Upstream;

/// The upstreams: name, route and scope, none of which comes up by chance.
pub const UPSTREAMS: [(&str, &str, &str); 2] = [
    ("upstream-northwind", "route-northwind", "https://northwind.example/.default"),
    ("upstream-tailspin", "route-tailspin", "https://tailspin.example/.default"),
];

/// What the routes file finds in the environment: the URL, and the keys by number.
const URL: &str = "SHARED_URL";

/// What the metrics of a replica say that has reached Redis.
pub const JOINED: &str = "\nobo_gateway_shared_cache_up 1\n";

/// A key for what is in Redis: 32 bytes in base64.
#[derive(Clone)]
pub struct EncryptionKey(String);

impl EncryptionKey {
    /// A new one.
    pub fn new() -> Self {
        let bytes: [u8; 32] = std::array::from_fn(|_| fastrand::u8(..));
        let key = STANDARD.encode(bytes);
        registry::secret(&key);
        Self(key)
    }

    /// As it stands in a file.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// What replicas have in common.
pub struct Fleet {
    pub provider: Provider,
    pub upstreams: [Upstream; 2],
    url: Option<String>,
    keys: Vec<EncryptionKey>,
    timeout: Duration,
    max_entries: usize,
    rate_limit: &'static str,
    now: UnixTime,
}

impl Fleet {
    /// Replicas that share the Redis at `url`. They wait for it for long: what is counted must not
    /// depend on how busy the machine is. [`Self::timeout`] changes that.
    pub fn sharing(url: &str) -> Self {
        Self { url: Some(url.to_owned()), ..Self::alone() }
    }

    /// Replicas that share nothing.
    pub fn alone() -> Self {
        Self {
            provider: Provider::start(),
            upstreams: [Upstream::start(), Upstream::start()],
            url: None,
            keys: vec![EncryptionKey::new()],
            timeout: Duration::from_secs(10),
            max_entries: 100_000,
            rate_limit: "",
            now: START,
        }
    }

    /// How long a request waits for Redis.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many tokens a replica keeps in memory.
    #[must_use]
    pub fn max_entries(mut self, max_entries: usize) -> Self {
        self.max_entries = max_entries;
        self
    }

    /// What the routes say of `rate_limit`.
    #[must_use]
    pub fn rate_limit(mut self, rate_limit: &'static str) -> Self {
        self.rate_limit = rate_limit;
        self
    }

    /// Tokens are of the real time, as processes go by it.
    #[must_use]
    pub fn in_real_time(mut self) -> Self {
        self.now = SystemClock.now();
        self
    }

    /// The keys of gateways that are started from now on.
    pub fn set_keys(&mut self, keys: &[&EncryptionKey]) {
        self.keys = keys.iter().map(|key| (*key).clone()).collect();
    }

    /// Where gateways that are started from now on find Redis.
    pub fn set_url(&mut self, url: &str) {
        self.url = Some(url.to_owned());
    }

    /// The routes file: `/{index of the upstream}/{user}`.
    pub fn file(&self) -> String {
        let mut file = format!(
            "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\n\
             providers:\n  entra: {{ type: entra, tenant: {TENANT}, authority: \"{}\", \
             client_id: {CLIENT_ID}, credential: {{ client_secret: \"${{CLIENT_SECRET}}\" }} }}\n\
             upstreams:\n",
            self.provider.base()
        );
        for ((name, _, _), upstream) in UPSTREAMS.iter().zip(&self.upstreams) {
            writeln!(file, "  {name}: {{ url: \"{}\" }}", upstream.url()).unwrap();
        }
        file += "routes:\n";
        let rate_limit = match self.rate_limit {
            "" => String::new(),
            limit => format!("rate_limit: {{ {limit} }}, "),
        };
        for (index, (name, route, scope)) in UPSTREAMS.iter().enumerate() {
            writeln!(
                file,
                "  - {{ name: {route}, match: {{ path: \"/{index}/{{user}}\" }}, auth: any, \
                 upstream: {name}, {rate_limit}token: {{ on_behalf_of: {{ scopes: [\"{scope}\"] }} }} }}"
            )
            .unwrap();
        }
        write!(file, "cache:\n  max_entries: {}\n", self.max_entries).unwrap();
        if self.url.is_some() {
            let keys: Vec<_> =
                (0..self.keys.len()).map(|number| format!("\"${{CACHE_KEY_{number}}}\"")).collect();
            writeln!(
                file,
                "  redis: {{ url: \"${{{URL}}}\", encryption_keys: [{}], timeout: {}ms }}",
                keys.join(", "),
                self.timeout.as_millis()
            )
            .unwrap();
        }
        file
    }

    /// What it finds in the environment.
    pub fn variables(&self) -> Vec<(String, String)> {
        let keys = self.keys.iter().enumerate();
        let keys = keys.map(|(number, key)| (format!("CACHE_KEY_{number}"), key.0.clone()));
        let url = self.url.iter().map(|url| (URL.to_owned(), url.clone()));
        url.chain(keys).collect()
    }

    /// A replica in this process, which has reached Redis if there is one.
    pub async fn gateway(&self) -> Gateway {
        let gateway = self.gateway_without_redis().await;
        if self.url.is_some() {
            gateway.metrics_when(JOINED).await;
        }
        gateway
    }

    /// A replica in this process, whether Redis is there or not.
    pub async fn gateway_without_redis(&self) -> Gateway {
        let gateway = Gateway::start_in(&self.variables(), &self.file());
        gateway.ready().await;
        gateway
    }

    /// Three of them.
    pub async fn three(&self) -> Vec<Gateway> {
        vec![self.gateway().await, self.gateway().await, self.gateway().await]
    }

    /// A replica that is a process.
    pub async fn process(&self) -> Replica {
        let replica = self.process_in(&[]);
        replica.ready().await;
        if self.url.is_some() {
            replica.metrics_when(JOINED).await;
        }
        replica
    }

    /// The same with more in its environment, and maybe not ready.
    pub fn process_in(&self, more: &[(&str, &str)]) -> Replica {
        assert!(self.now > START, "its time is the real one: say `in_real_time`");
        let mut variables = self.variables();
        variables.push(("CLIENT_SECRET".to_owned(), CLIENT_SECRET.to_owned()));
        variables
            .extend(more.iter().map(|(name, value)| (String::from(*name), String::from(*value))));
        registry::secret(CLIENT_SECRET);
        Replica::start(&self.file(), &variables)
    }

    /// A user, and the token that it comes with, which lives an hour.
    pub fn user(&self, number: usize) -> User {
        self.user_for(number, Duration::from_hours(1))
    }

    /// The same with a token that lives so long.
    pub fn user_for(&self, number: usize, life: Duration) -> User {
        let oid = format!("{number:08x}-c0de-4000-8000-{:012x}", fastrand::u64(..1 << 48));
        let token = Token::entra_v2(&self.provider.entra_issuer()).user(&oid).issued_at(self.now);
        let token = token.claim("exp", self.now.plus(life).0).build();
        User { oid, token }
    }

    /// So many.
    pub fn users(&self, count: usize) -> Arc<Vec<User>> {
        Arc::new((0..count).map(|number| self.user(number)).collect())
    }

    /// How many exchanges there were, good or bad.
    pub fn exchanges(&self) -> usize {
        self.provider.count(Endpoint::Token)
    }

    /// Looks at all that the upstreams saw: each token is of the user in the path and of the scope of
    /// the upstream.
    ///
    /// # Panics
    ///
    /// When one is not.
    pub fn assert_tokens_are_the_users(&self) {
        for ((name, _, scope), upstream) in UPSTREAMS.iter().zip(&self.upstreams) {
            for seen in upstream.seen() {
                let issued = seen.bearer().and_then(|token| self.provider.issued(&token));
                let issued = issued.expect("a token that the provider issued");
                let user = seen.target.rsplit('/').next().unwrap();
                let found = (issued.user.as_str(), issued.scope.as_str());
                assert_eq!(found, (user, *scope), "{name}: {}", seen.target);
            }
        }
    }

    /// All that nobody may find in Redis beside tokens and users: what it is, and the text.
    pub fn names() -> Vec<(&'static str, &'static str)> {
        let mut names =
            vec![("tenant", TENANT), ("client", CLIENT_ID), ("client secret", CLIENT_SECRET)];
        for (upstream, route, scope) in UPSTREAMS {
            let host = scope.split('/').nth(2).unwrap();
            names.extend([
                ("upstream", upstream),
                ("route", route),
                ("scope", scope),
                ("host", host),
            ]);
        }
        names
    }
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct User {
    pub oid: String,
    pub token: String,
}

impl User {
    /// GET of an upstream (by index) through a gateway; status and latency.
    pub async fn ask(&self, address: SocketAddr, upstream: usize) -> (u16, Duration) {
        let mut client = Client::http1(address).await;
        let since = Instant::now();
        let reply = client.get_with(&self.target(upstream), &self.token).await;
        (reply.status.as_u16(), since.elapsed())
    }

    /// What it asks for.
    pub fn target(&self, upstream: usize) -> String {
        format!("/{upstream}/{}", self.oid)
    }
}
