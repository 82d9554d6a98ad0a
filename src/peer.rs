//! Who is on the other end of the connection that reached us (the downstream), and which
//! peers are believed when they say for whom they speak.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

/// `X-Forwarded-For`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The far end of a downstream connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address and port.
    pub address: SocketAddr,
    /// Whether the connection is TLS: `https` in `X-Forwarded-Proto` and `Forwarded`.
    pub tls: bool,
    /// The certificate that it showed, and proved to have the key of, in the TLS handshake.
    pub certificate: Option<CertificateDigest>,
}

/// SHA-256 of a certificate in DER: `x5t#S256` of RFC 8705 §3.1.
#[derive(Clone, Copy)]
pub struct CertificateDigest([u8; 32]);

impl CertificateDigest {
    /// The digest of the certificate `der`.
    pub fn of(der: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// A digest that somebody names: 32 bytes.
    pub fn named(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Whether it is of the same certificate, in time that does not depend on where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

/// The beginning of it in base64url: enough to tell certificates apart in a log.
impl fmt::Display for CertificateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = URL_SAFE_NO_PAD.encode(self.0);
        write!(f, "{}…", text.get(..12).unwrap_or_default())
    }
}

impl fmt::Debug for CertificateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateDigest({self})")
    }
}

/// `server.trusted_proxies`: networks whose `X-Forwarded-*` and `X-Request-Id` are believed.
/// Empty by default: nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Believes peers of `networks`.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether `address` is a trusted proxy. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address of the caller: the peer's, or, where trusted proxies stand in between, the
    /// last address in `X-Forwarded-For` that is not one of theirs. What an untrusted party
    /// wrote in front of that is never looked at.
    pub fn client_ip(&self, peer: &Peer, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.address.ip().to_canonical();
        if self.0.is_empty() {
            return client;
        }
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        let mut hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        while self.trust(client) {
            match hops.next().and_then(parse_hop) {
                Some(hop) => client = hop,
                None => break,
            }
        }
        client
    }
}

/// One element of `X-Forwarded-For`: an address, with a port and brackets as some write it.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    let address = address.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn client(trusted: &[&str], peer: &str, forwarded: &[&str]) -> String {
        let trusted = TrustedProxies::new(trusted.iter().map(|net| net.parse().unwrap()).collect());
        let address = SocketAddr::new(peer.parse().unwrap(), 1);
        let peer = Peer { address, tls: false, certificate: None };
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        trusted.client_ip(&peer, &headers).to_string()
    }

    #[test]
    fn nobody_is_believed_unless_the_file_says_so() {
        assert_eq!(client(&[], "10.0.0.1", &["1.2.3.4"]), "10.0.0.1");
        assert_eq!(client(&["10.0.0.0/8"], "11.0.0.1", &["1.2.3.4"]), "11.0.0.1");
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
    }

    #[test]
    fn what_an_untrusted_party_wrote_in_front_is_not_looked_at() {
        let trusted = ["10.0.0.0/8"];
        assert_eq!(client(&trusted, "10.0.0.1", &["6.6.6.6, 1.2.3.4"]), "1.2.3.4");
        assert_eq!(client(&trusted, "10.0.0.1", &["6.6.6.6", "1.2.3.4, 10.9.9.9"]), "1.2.3.4");
        assert_eq!(client(&trusted, "10.0.0.1", &["1.2.3.4, nonsense"]), "10.0.0.1");
    }

    #[test]
    fn forms_of_addresses() {
        let trusted = ["10.0.0.0/8", "::1/128"];
        assert_eq!(client(&trusted, "::ffff:10.0.0.1", &["1.2.3.4:55"]), "1.2.3.4");
        assert_eq!(client(&trusted, "::1", &["[2001:db8::1]:55"]), "2001:db8::1");
        assert_eq!(client(&trusted, "::1", &["[2001:db8::1]"]), "2001:db8::1");
    }

    #[test]
    fn a_certificate_is_known_by_all_of_its_digest() {
        let one = CertificateDigest::of(b"one");
        assert!(one.matches(&CertificateDigest::named(one.0)));
        for at in [0, 31] {
            let mut other = one.0;
            other[at] ^= 1;
            assert!(!one.matches(&CertificateDigest::named(other)), "{at}");
        }
        assert_eq!(one.to_string().chars().count(), 13);
    }
}
