//! An upstream: its names, each of its addresses, TLS, health; and that it is not the gateway itself.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use futures_util::StreamExt as _;
use futures_util::stream;

use super::certificate;
use super::found::Found;
use super::report::Outcome;
use crate::accept::expiry;
use crate::clock::UnixTime;
use crate::forward::{Connected, Handshake, Refused, Upstream};
use crate::limits;

/// Tries `upstream`. Those of its addresses that are `own`, where the gateway listens, are not
/// connected to.
pub(super) async fn check(
    upstream: &Upstream,
    own: &[SocketAddr],
    now: UnixTime,
    found: &mut Found,
) {
    let names = upstream.look_up().await;
    let mut to_try = Vec::new();
    for name in &names {
        let addresses = match &name.addresses {
            Ok(addresses) => addresses,
            Err(why) => {
                let hint = "correct the host in its `url`, or see what the resolver of this machine says of it";
                let detail = format!("`{}` has no address: {why}", name.label);
                found.fail("name", detail, hint);
                continue;
            }
        };
        if !name.is_address() {
            found.ok("name", format!("`{}` is {}", name.label, listed(addresses)));
        }
        for address in addresses.iter().take(limits::MAX_ADDRESSES_TRIED) {
            if is_own(*address, own) {
                let detail =
                    format!("`{}` is {address}, where the gateway itself listens", name.label);
                let hint = "each request would come back until something breaks: correct its `url`, or the address of the listener";
                found.fail("loop", detail, hint);
            } else {
                to_try.push((name, *address));
            }
        }
    }
    let tries = to_try.into_iter().map(|(name, address)| async move {
        let connected = name.connect(address).await;
        let health = match &connected {
            Ok(_) => name.check_health(address).await,
            Err(_) => None,
        };
        (address, connected, health)
    });
    let mut tries = stream::iter(tries).buffered(limits::ONLINE_TRIES);
    while let Some((address, connected, health)) = tries.next().await {
        say_connected(address, &connected, now, found);
        if let Some(health) = &health {
            say_health(upstream, address, health, found);
        }
    }
}

fn listed(addresses: &[SocketAddr]) -> String {
    let some = addresses.iter().take(limits::MAX_ADDRESSES_TRIED);
    let some: Vec<_> = some.map(|address| address.ip().to_string()).collect();
    let more = addresses.len().saturating_sub(some.len());
    let more = if more > 0 { format!(" and {more} more, not tried") } else { String::new() };
    format!("{}{more}", some.join(", "))
}

fn say_connected(
    address: SocketAddr,
    connected: &Result<Connected, Refused>,
    now: UnixTime,
    found: &mut Found,
) {
    match connected {
        Ok(Connected { tls }) => {
            found.ok("connect", address.to_string());
            if let Some(handshake) = tls {
                say_handshake(address, handshake, now, found);
            }
        }
        Err(Refused { in_handshake: true, what, hint }) => {
            found.ok("connect", address.to_string());
            let hint = hint.as_deref().unwrap_or(
                "see that it speaks TLS at that port, and what its own log says of this moment",
            );
            found.fail("tls", format!("{address}: {what}"), hint);
        }
        Err(Refused { in_handshake: false, what, hint }) => {
            let hint = hint.as_deref().unwrap_or(
                "see that it runs, that the port is right, and that this machine may connect to it",
            );
            found.fail("connect", format!("{address}: {what}"), hint);
        }
    }
}

fn say_handshake(address: SocketAddr, handshake: &Handshake, now: UnixTime, found: &mut Found) {
    let Handshake { version, alpn, certificate, name, asked_for_ours } = handshake;
    let alpn = alpn
        .as_deref()
        .map_or("no ALPN, so HTTP/1.1".to_owned(), |alpn| format!("`{alpn}` by ALPN"));
    let asked = if *asked_for_ours { "; it asks for a client certificate" } else { "" };
    let end = certificate.as_deref().and_then(expiry::not_after);
    let left = end.map(|end| certificate::left(end, now, certificate::THEIR_NOTICE));
    let (outcome, left) = match left {
        // The handshake says whether it has expired; here the two clocks may be read a moment apart.
        Some((Outcome::Ok, left)) => (Outcome::Ok, format!(", and {left}")),
        Some((Outcome::Warn | Outcome::Fail, left)) => (Outcome::Warn, format!(", and {left}")),
        None => (Outcome::Ok, String::new()),
    };
    let detail =
        format!("{address}: {version}, {alpn}; its certificate is for `{name}`{left}{asked}");
    let hint = (outcome == Outcome::Warn)
        .then(|| "tell those who run it that its certificate ends soon".to_owned());
    found.add(outcome, "tls", detail, hint);
}

fn say_health(
    upstream: &Upstream,
    address: SocketAddr,
    health: &Result<u16, Refused>,
    found: &mut Found,
) {
    let path = upstream.settings().health_check.as_ref().map(|check| check.path.path());
    let path = path.unwrap_or_default();
    let what = match health {
        Ok(status @ 200..300) => {
            return found.ok("health", format!("{address}: `{path}` answered {status}"));
        }
        Ok(status) => format!("answered {status}"),
        Err(refused) => refused.what.clone(),
    };
    let hint = "with `health_check` it takes no requests while this is so: correct `health_check.path`, or mend the service";
    found.fail("health", format!("{address}: `{path}` {what}"), hint);
}

/// Whether the gateway listens at `address`: at it alone, or at all addresses of this machine.
fn is_own(address: SocketAddr, own: &[SocketAddr]) -> bool {
    let ip = address.ip().to_canonical();
    own.iter().filter(|own| own.port() == address.port()).any(|own| {
        let own = own.ip().to_canonical();
        own == ip || ip.is_unspecified() || (own.is_unspecified() && is_of_this_machine(ip))
    })
}

/// Whether the machine has this address. A socket can be bound to no other; nothing is sent over it.
fn is_of_this_machine(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind(SocketAddr::new(ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_knows_itself() {
        let is_own = |address: &str, own: &[&str]| {
            let own: Vec<_> = own.iter().map(|own| own.parse().unwrap()).collect();
            is_own(address.parse().unwrap(), &own)
        };
        for (address, own, expected) in [
            ("127.0.0.1:8080", &["127.0.0.1:8080"][..], true),
            ("127.0.0.1:8081", &["127.0.0.1:8080"], false),
            ("127.0.0.2:8080", &["127.0.0.1:8080"], false),
            ("127.0.0.2:8080", &["127.0.0.1:8080", "0.0.0.0:8080"], true),
            ("127.0.0.1:8080", &["[::]:8080"], true),
            ("[::ffff:127.0.0.1]:8080", &["127.0.0.1:8080"], true),
            ("[::1]:8080", &["[::]:8080"], true),
            ("0.0.0.0:8080", &["127.0.0.1:8080"], true),
            // An address of documentation (RFC 5737), which no machine has.
            ("192.0.2.1:8080", &["0.0.0.0:8080"], false),
            ("127.0.0.1:8080", &[], false),
        ] {
            assert_eq!(is_own(address, own), expected, "{address} {own:?}");
        }
    }
}
