//! What the operator can do about a handshake, or a connection behind one, that came to nothing. It
//! knows errors and alerts, and how the gateway stands with its own certificate; not the connection.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, PeerMisbehaved};

/// How the gateway stands with its own certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// It was asked, and showed it.
    Shown,
    /// It was asked, and has none.
    Missing,
    /// It was not asked.
    NotAsked,
}

/// What the operator can do about `error`, where TLS is what failed: `None` for an error of another
/// kind. `alert` is the last that came over a connection, in place of data.
pub(super) fn on(
    error: &(dyn Error + 'static),
    own: Own,
    alert: Option<AlertDescription>,
) -> Option<String> {
    match (find(error)?, alert, own) {
        (Found::Tls(error), _, _) => of_error(error, own),
        (Found::Lost, None, Own::NotAsked) => None,
        // The server sent none, or it was lost when the connection was reset.
        (Found::Lost, None, Own::Missing | Own::Shown) => Some(refused(None, own)),
        (Found::Lost, Some(alert), _) => Some(of_alert(alert, own)),
    }
}

/// What failed, as far as it is known.
#[derive(Debug)]
enum Found<'e> {
    Tls(&'e rustls::Error),
    /// The connection is gone; nothing says why.
    Lost,
}

/// What of TLS is in the chain of an error.
fn find<'e>(error: &'e (dyn Error + 'static)) -> Option<Found<'e>> {
    let mut next = Some(error);
    let mut found = None;
    while let Some(error) = next {
        let broken = error.downcast_ref::<io::Error>();
        if let Some(tls) = broken.and_then(inside) {
            return Some(Found::Tls(tls));
        }
        if broken.is_some() || error.is::<hyper::Error>() {
            found = Some(Found::Lost);
        }
        next = error.source();
    }
    found
}

/// The error of TLS in one of the system's: it is not its source, but that one's source is.
pub(super) fn inside(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

pub(super) const MISSING: &str = "it asks the gateway for a certificate: set `tls.cert_file` and `tls.key_file` to one that it takes";

fn of_error(error: &rustls::Error, own: Own) -> Option<String> {
    const UNOFFERED: PeerMisbehaved = PeerMisbehaved::SelectedUnofferedApplicationProtocol;
    let advice = if let rustls::Error::AlertReceived(alert) = error {
        return Some(of_alert(*alert, own));
    } else if let rustls::Error::InvalidCertificate(fault) = error {
        of_certificate(fault)
    } else if let rustls::Error::InvalidMessage(_) = error {
        "what it sends is not TLS: check the port, or write `http://` in its `url`"
    } else if let rustls::Error::PeerMisbehaved(UNOFFERED) = error {
        "it chose a protocol by ALPN that was not offered: mend its TLS settings"
    } else if let rustls::Error::PeerIncompatible(_) = error {
        OLD
    } else {
        return None;
    };
    Some(advice.to_owned())
}

const OLD: &str = "the gateway speaks TLS 1.2 and 1.3, and it does not";

fn of_alert(alert: AlertDescription, own: Own) -> String {
    use AlertDescription as A;
    let of_own_certificate = [
        A::CertificateRequired,
        A::UnknownCA,
        A::BadCertificate,
        A::UnsupportedCertificate,
        A::CertificateExpired,
        A::CertificateRevoked,
        A::CertificateUnknown,
        A::AccessDenied,
        // Other programs say these for the same.
        A::HandshakeFailure,
        A::DecryptError,
    ];
    if own != Own::NotAsked && of_own_certificate.contains(&alert) {
        return refused(Some(alert), own);
    }
    let advice = if alert == A::NoApplicationProtocol {
        "it speaks none of the HTTP versions that were offered: change `protocol`"
    } else if alert == A::UnrecognisedName {
        "it knows no host of that name: set `tls.server_name` to the one it has"
    } else if alert == A::ProtocolVersion {
        OLD
    } else {
        "its own log may say why it refused the handshake"
    };
    advice.to_owned()
}

/// It asked for a certificate, and broke off.
fn refused(alert: Option<AlertDescription>, own: Own) -> String {
    match (own, alert) {
        (Own::Missing | Own::NotAsked, _) => MISSING.to_owned(),
        (Own::Shown, Some(alert)) => {
            format!("it refuses the certificate in `tls.cert_file` ({alert:?}): {TAKEN}")
        }
        (Own::Shown, None) => {
            format!("it was shown the certificate in `tls.cert_file` and broke off: {TAKEN}")
        }
    }
}

const TAKEN: &str =
    "it must be of a CA that the upstream knows, for client authentication, and not expired";

fn of_certificate(fault: &CertificateError) -> &'static str {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, InvalidPurpose, InvalidPurposeContext,
        NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext, UnknownIssuer,
    };
    if matches!(fault, UnknownIssuer | BadSignature) {
        "its certificate is of no CA that is believed: set `tls.ca_file` to the one that issued it, and see that it sends those in between"
    } else if matches!(fault, NotValidForName | NotValidForNameContext { .. }) {
        "its certificate has another name: set `tls.server_name` to the one it has, if that is the right server"
    } else if matches!(fault, Expired | ExpiredContext { .. }) {
        "its certificate has expired: it needs a new one, if the gateway's clock is right"
    } else if matches!(fault, NotValidYet | NotValidYetContext { .. }) {
        "its certificate is not valid yet: compare its clock and the gateway's"
    } else if matches!(fault, InvalidPurpose | InvalidPurposeContext { .. }) {
        "its certificate is not for servers: it needs one for server authentication"
    } else {
        "its certificate can't be used: it needs another"
    }
}
