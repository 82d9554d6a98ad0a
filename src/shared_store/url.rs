//! Where the store is: the forms of `cache.redis.url`.
//!
//! Decides what a URL means, and what no URL of a store is. It opens nothing. Messages never quote
//! the URL: a password may be in it.

use std::fmt;
use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;

use crate::secret::Secret;

/// The port of Redis where the URL has none.
const PORT: u16 = 6379;

/// The port of Sentinel where the URL has none.
const SENTINEL_PORT: u16 = 26379;

/// Most hosts of one URL.
const MAX_HOSTS: usize = 32;

/// How the store is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreAddress {
    /// The servers that are asked first.
    pub(super) hosts: Vec<Host>,
    /// What they are.
    pub(super) form: Form,
    /// Whether connections are TLS.
    pub(super) tls: bool,
    /// Who we are there.
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    /// The number of the database.
    pub(super) database: i64,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Host {
    /// A name or an address, an IPv6 one without brackets.
    pub(super) name: String,
    pub(super) port: u16,
}

/// What the servers of a URL are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// One server.
    Single,
    /// Nodes of a cluster.
    Cluster,
    /// Sentinels, who know the master of this service.
    Sentinel(String),
}

/// What is wrong with a URL, and what to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongUrl {
    /// What is wrong.
    pub message: &'static str,
    /// What to do.
    pub hint: &'static str,
}

const FORMS: &str = "write `redis://host:6379`, `rediss://user:password@host:6379/0`, `redis-cluster://host1:6379,host2:6379` or `redis-sentinel://host1:26379,host2:26379/service-name`";

impl StoreAddress {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// What is wrong with it; none of its text is repeated.
    pub fn parse(url: &str) -> Result<Self, WrongUrl> {
        let wrong = |message| WrongUrl { message, hint: FORMS };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("the URL has no scheme"))?;
        let (kind, tls) = match scheme {
            "redis" | "valkey" => (Form::Single, false),
            "rediss" | "valkeys" => (Form::Single, true),
            "redis-cluster" => (Form::Cluster, false),
            "rediss-cluster" => (Form::Cluster, true),
            "redis-sentinel" => (Form::Sentinel(String::new()), false),
            "rediss-sentinel" => (Form::Sentinel(String::new()), true),
            _ => return Err(wrong("the URL has a scheme that is none of Redis'")),
        };
        if rest.contains(['?', '#']) {
            return Err(wrong("the URL has a query or a fragment, which would mean nothing here"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // The last one: a password may have it, although it should be escaped.
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let (username, password) = login.map(credentials).transpose()?.unwrap_or_default();
        let port = if matches!(kind, Form::Sentinel(_)) { SENTINEL_PORT } else { PORT };
        let hosts = hosts.split(',').map(|host| Host::parse(host, port));
        let hosts = hosts.collect::<Option<Vec<_>>>();
        let hosts = hosts.ok_or_else(|| wrong("the URL has a host or a port that is none"))?;
        if hosts.len() > MAX_HOSTS {
            return Err(wrong("the URL has more than 32 hosts; some of them are enough"));
        }
        if hosts.iter().enumerate().any(|(at, host)| hosts.iter().skip(at + 1).any(|it| it == host))
        {
            let hint = "name each server once";
            return Err(WrongUrl { message: "the URL has the same host and port twice", hint });
        }
        let (form, database) = match kind {
            Form::Single if hosts.len() > 1 => {
                let message = "the URL has several hosts";
                return Err(WrongUrl {
                    message,
                    hint: "write `redis-cluster://` where they are a cluster, `redis-sentinel://…/service-name` where they are sentinels",
                });
            }
            Form::Cluster if !matches!(path, "" | "0") => {
                return Err(wrong("a cluster has no databases but 0"));
            }
            Form::Single | Form::Cluster => (kind, path),
            Form::Sentinel(_) => {
                let (service, database) = path.split_once('/').unwrap_or((path, ""));
                let service = decoded(service).filter(|service| !service.is_empty());
                let service = service.ok_or_else(|| {
                    wrong("the URL names sentinels, and not the service whose master they are to tell")
                })?;
                (Form::Sentinel(service), database)
            }
        };
        let database = match database {
            "" => 0,
            number => number
                .parse::<u16>()
                .map(i64::from)
                .map_err(|_not_a_number| wrong("the database is not a number"))?,
        };
        Ok(Self { hosts, form, tls, username, password, database })
    }

    /// Whether it holds a password, so that it belongs outside of the routes file.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// Where it is, for operators: no credential is in it.
    pub fn shown(&self) -> String {
        let scheme = match (&self.form, self.tls) {
            (Form::Single, false) => "redis",
            (Form::Single, true) => "rediss",
            (Form::Cluster, false) => "redis-cluster",
            (Form::Cluster, true) => "rediss-cluster",
            (Form::Sentinel(_), false) => "redis-sentinel",
            (Form::Sentinel(_), true) => "rediss-sentinel",
        };
        let hosts: Vec<String> = self.hosts.iter().map(Host::to_string).collect();
        let service = match &self.form {
            Form::Sentinel(service) => format!("/{service}"),
            Form::Single | Form::Cluster => String::new(),
        };
        format!("{scheme}://{}{service}", hosts.join(","))
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreAddress").field(&self.shown()).finish()
    }
}

impl Host {
    fn parse(text: &str, default_port: u16) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[') {
            Some(six) => {
                let (name, port) = six.split_once(']')?;
                name.parse::<Ipv6Addr>().ok()?;
                (name, port)
            }
            None => text.split_at_checked(text.find(':').unwrap_or(text.len()))?,
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
            None if port.is_empty() => default_port,
            None => return None,
        };
        Self::of(name, port)
    }

    /// The server at this name or address, without brackets; `None` if it is neither.
    pub(super) fn of(name: &str, port: u16) -> Option<Self> {
        let is_of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        let is_good = !name.is_empty() && name.bytes().all(is_of_a_name);
        is_good.then(|| Self { name: name.to_owned(), port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, port } = self;
        if name.contains(':') { write!(f, "[{name}]:{port}") } else { write!(f, "{name}:{port}") }
    }
}

/// The user and the password of `user:password`, of `:password` and of `password`.
fn credentials(login: &str) -> Result<(Option<String>, Option<Secret>), WrongUrl> {
    let (username, password) = match login.split_once(':') {
        Some((username, password)) => (Some(username), password),
        None => (None, login),
    };
    let wrong = WrongUrl {
        message: "the user or the password in the URL is not UTF-8 once it is unescaped",
        hint: "escape what is no letter or digit: `%40` stands for `@`",
    };
    let username = username.map(|name| decoded(name).ok_or(wrong)).transpose()?;
    let password = decoded(password).ok_or(wrong)?;
    if password.is_empty() {
        let hint = "write `redis://user:password@host`, or leave out what is before the `@`";
        return Err(WrongUrl { message: "the password in the URL is empty", hint });
    }
    let username = username.filter(|name| !name.is_empty());
    Ok((username, Some(Secret::new(password))))
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        StoreAddress::parse(url).unwrap().shown()
    }

    #[test]
    fn all_forms_are_read() {
        for (url, expected) in [
            ("redis://cache", "redis://cache:6379"),
            ("redis://cache:7000/3", "redis://cache:7000"),
            ("rediss://u:p@[::1]", "rediss://[::1]:6379"),
            ("valkeys://:p@10.0.0.1:1/", "rediss://10.0.0.1:1"),
            ("redis-cluster://a:1,b", "redis-cluster://a:1,b:6379"),
            ("redis-cluster://a:1,a:2", "redis-cluster://a:1,a:2"),
            ("rediss-cluster://p@a", "rediss-cluster://a:6379"),
            ("redis-sentinel://a,b:2/main", "redis-sentinel://a:26379,b:2/main"),
            ("rediss-sentinel://u:p@a/main/4", "rediss-sentinel://a:26379/main"),
        ] {
            assert_eq!(shown(url), expected, "{url}");
        }
        let address = StoreAddress::parse("redis://us%20er:p%40%3A@@a/5").unwrap();
        assert_eq!(address.username.as_deref(), Some("us er"));
        assert_eq!(address.password.as_ref().map(Secret::expose), Some("p@:@"));
        assert_eq!(address.database, 5);
        assert_eq!(StoreAddress::parse("redis-sentinel://a/m/4").unwrap().database, 4);
        assert!(!format!("{address:?}").contains("p@"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in [
            "",
            "cache:6379",
            "http://cache",
            "redis://",
            "redis://a,b",
            "redis://a:0",
            "redis://a:70000",
            "redis://a:x",
            "redis://[::1",
            "redis://[::1]x",
            "redis://[zz]",
            "redis://a b",
            "redis://a/x",
            "redis://a/-1",
            "redis://u:@a",
            "redis://u:%ff@a",
            "redis://a?protocol=3",
            "redis://a#x",
            "redis-cluster://a,/",
            "redis-cluster://a:1,b,a:1",
            "redis-sentinel://a,b,a:26379/m",
            "redis-cluster://a/1",
            "redis-sentinel://a",
            "redis-sentinel://a/",
            "redis-sentinel://a/m/x",
        ] {
            assert!(StoreAddress::parse(url).is_err(), "{url}");
        }
    }
}
