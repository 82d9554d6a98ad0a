//! `cert_file` and `key_file` of an upstream's `tls`: read, and checked to go together.

use std::sync::Arc;

use super::super::file::UpstreamTls;
use super::Finding;
use super::credentials::{CredentialCertificate, ShownTo};
use crate::accept::expiry;
use crate::chain::with_sources;
use crate::forward::OwnCertificate;

/// The certificate that is shown to the upstream called `upstream`: `Some(None)` if there is none,
/// `None` if it can't be used.
#[expect(clippy::option_option, reason = "a problem is not the same as no certificate")]
pub(super) fn read(
    upstream: &str,
    tls: &UpstreamTls,
    finding: &mut Finding<'_>,
) -> Option<Option<OwnCertificate>> {
    // One without the other was said when the file was read.
    let (Some(cert_file), Some(key_file)) = (&tls.cert_file, &tls.key_file) else {
        return Some(None);
    };
    // Both, so that both problems are said.
    let (chain, key) = (finding.read(cert_file), finding.read(key_file));
    let certificate = match OwnCertificate::from_pem(&chain?, &key?) {
        Ok(certificate) => certificate,
        Err(error) => {
            let file = if error.is_of_key() { key_file } else { cert_file };
            let path = finding.environment.path(&file.value);
            let hint = "`cert_file` is the chain, the gateway's own certificate first, and `key_file` the private key of that one, both PEM; relative paths are relative to the routes file";
            finding.error(
                file.place,
                format!("`{}` {}", path.display(), with_sources(&error)),
                hint,
            );
            return None;
        }
    };
    if let Some(expires_at) = expiry::not_after(certificate.der()) {
        let now = finding.lasting.clock.now();
        let path = finding.environment.path(&cert_file.value);
        if expires_at < now {
            let hours = now.since(expires_at).as_secs() / 3600;
            finding.warning(
                cert_file.place,
                format!("the certificate in `{}` expired {hours} hours ago", path.display()),
                "put a new one in its place: upstreams that ask for one refuse this",
            );
        }
        finding.certificates.push(CredentialCertificate {
            shown_to: ShownTo::Upstream(Arc::from(upstream)),
            file: path,
            thumbprint: certificate.thumbprint(),
            expires_at,
        });
    }
    Some(Some(certificate))
}
