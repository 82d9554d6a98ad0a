//! `managed_identity`, and where the gateway runs: the platform says it in the environment.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use http::HeaderValue;
use url::Url;

use super::super::file::ManagedIdentity as Written;
use super::super::problem::Place;
use super::super::source::Environment;
use super::super::spanned::Spanned;
use super::super::value::Text;
use super::{Finding, Lasting};
use crate::chain::with_sources;
use crate::exchange::{
    KEY_DIRECTORY, ManagedIdentity, ManagedIdentityHost, ManagedIdentityPlan, MetadataService,
    TokenPlan, may_be_asked,
};
use crate::secret::SecretHeader;

const ENDPOINT: &str = "IDENTITY_ENDPOINT";
const HEADER: &str = "IDENTITY_HEADER";
const SERVER_THUMBPRINT: &str = "IDENTITY_SERVER_THUMBPRINT";
const ARC: &str = "IMDS_ENDPOINT";
const IMDS_BASE: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";

/// What is wrong with the environment, and what to do.
type Wrong = (String, &'static str);

/// Resolves `managed_identity` of a token for `upstream`; `key` is where it stands.
pub(super) fn plan(
    token: &Written,
    key: Place,
    upstream: &Arc<str>,
    finding: &mut Finding<'_>,
) -> Option<TokenPlan> {
    let resource = resource(&token.resource, finding);
    let identity = identity(token.client_id.as_ref(), key, finding)?;
    let plan = ManagedIdentityPlan::new(identity, resource?, Arc::clone(upstream));
    Some(TokenPlan::ManagedIdentity(Arc::new(plan)))
}

/// The identity `client_id`, or the system-assigned one, of the machine; `key` is where it is
/// asked for.
pub(super) fn identity(
    client_id: Option<&Spanned<Text>>,
    key: Place,
    finding: &mut Finding<'_>,
) -> Option<ManagedIdentity> {
    let service = service(key, finding)?;
    if let Some(id) = client_id.filter(|_| service.is_system_assigned_only()) {
        finding.error(
            id.place,
            "Azure Arc has no user-assigned identity, and `IMDS_ENDPOINT` says that this is Azure Arc",
            "remove `client_id`: the system-assigned identity of the server is the only one",
        );
        return None;
    }
    Some(ManagedIdentity::new(service, client_id.map(|id| id.value.0.clone())))
}

fn resource(resource: &Spanned<Text>, finding: &mut Finding<'_>) -> Option<String> {
    let text = resource.value.0.as_str();
    if let Some(bare) = text.strip_suffix("/.default") {
        finding.error(
            resource.place,
            format!("`{text}` is a scope, and no resource"),
            format!("write `{bare}`"),
        );
        return None;
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        finding.error(
            resource.place,
            format!("`{text}` is not a resource"),
            "write the URI or the id of the application: `https://management.azure.com`",
        );
        return None;
    }
    Some(text.to_owned())
}

/// The service of this machine; one for the whole file, and its problem is said once.
fn service(key: Place, finding: &mut Finding<'_>) -> Option<Arc<MetadataService>> {
    if let Some(known) = finding.metadata_service.get() {
        return known.clone();
    }
    let service = host(finding.environment).and_then(|host| lasting(host, finding.lasting));
    let service = service.map_err(|(message, hint)| finding.error(key, message, hint)).ok();
    finding.metadata_service.get_or_init(|| service).clone()
}

/// The service of `host`: the one of the configuration before, if there was one.
fn lasting(host: ManagedIdentityHost, lasting: &Lasting) -> Result<Arc<MetadataService>, Wrong> {
    let mut kept = lasting.metadata_service.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(service) = kept.as_ref().filter(|service| *service.host() == host) {
        return Ok(Arc::clone(service));
    }
    let made = MetadataService::new(host, Arc::clone(&lasting.clock), lasting.metrics.clone());
    let made = made.map_err(|error| {
        (with_sources(&error), "nothing in the file can be the cause: report it as a bug")
    })?;
    Ok(Arc::clone(kept.insert(Arc::new(made))))
}

/// Where the gateway runs, as the variables of the platform say.
fn host(environment: &Environment) -> Result<ManagedIdentityHost, Wrong> {
    let Some(endpoint) = variable(ENDPOINT, environment)? else {
        let imds = url(IMDS_BASE, environment)?;
        let imds = imds.map_or_else(|| parse(IMDS_BASE, ManagedIdentityHost::IMDS), Ok)?;
        return Ok(ManagedIdentityHost::imds(&imds));
    };
    let endpoint = parse(ENDPOINT, &endpoint)?;
    if let Some(header) = variable(HEADER, environment)? {
        if variable(SERVER_THUMBPRINT, environment)?.is_some() {
            return Err((
                format!(
                    "`{SERVER_THUMBPRINT}` says that this is Service Fabric, whose managed identities are not supported"
                ),
                "use `client_credentials` with a certificate",
            ));
        }
        let header = HeaderValue::try_from(header).map(SecretHeader::new).ok();
        let header = header.ok_or_else(|| {
            (
                format!("the environment variable `{HEADER}` holds what no header can"),
                "start the gateway with the variables that App Service sets, as they are",
            )
        })?;
        return Ok(ManagedIdentityHost::AppService { endpoint, header });
    }
    if variable(ARC, environment)?.is_some() {
        let key_directory = PathBuf::from(KEY_DIRECTORY);
        return Ok(ManagedIdentityHost::AzureArc { endpoint, key_directory });
    }
    Err((
        format!(
            "the environment variable `{ENDPOINT}` is set, but neither `{HEADER}` (App Service) nor `{ARC}` (Azure Arc)"
        ),
        "start the gateway with all variables that the platform sets, or with none of them to ask IMDS",
    ))
}

fn variable(name: &str, environment: &Environment) -> Result<Option<String>, Wrong> {
    environment.of_platform(name).map_err(|wrong| {
        (wrong.message, "start the gateway with the variables that the platform sets, as they are")
    })
}

fn url(name: &str, environment: &Environment) -> Result<Option<Url>, Wrong> {
    variable(name, environment)?.map(|text| parse(name, &text)).transpose()
}

/// The URL of a variable; it is not repeated, as no value from the environment is.
fn parse(name: &str, text: &str) -> Result<Url, Wrong> {
    let wrong = |what: &str, hint| (format!("the environment variable `{name}` {what}"), hint);
    let url = Url::parse(text).ok().ok_or_else(|| {
        wrong("is not a URL", "set it to what the platform says, or remove it to ask IMDS")
    })?;
    if !may_be_asked(&url) {
        return Err(wrong(
            "is neither https nor http on this machine or its link (127.0.0.0/8, 169.254.0.0/16, ::1, fe80::/10)",
            "tokens and `IDENTITY_HEADER` would be read on the way: set it to what the platform says",
        ));
    }
    let is_bare = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if !is_bare {
        return Err(wrong(
            "has a user name, a query or a fragment",
            "set it to what the platform says",
        ));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host_of(variables: &[(&str, &str)]) -> Result<ManagedIdentityHost, String> {
        let environment = Environment::of(variables.iter().copied(), "/");
        host(&environment).map_err(|(message, _)| message)
    }

    #[test]
    fn the_variables_of_the_platform_say_where_this_is() {
        let local = "http://127.0.0.1:40342/metadata/identity/oauth2/token";
        let endpoint_of_imds = |variables: &[(&str, &str)]| match host_of(variables) {
            Ok(ManagedIdentityHost::Imds { endpoint }) => endpoint.to_string(),
            other => panic!("{other:?}"),
        };
        let path = "/metadata/identity/oauth2/token";
        assert_eq!(endpoint_of_imds(&[]), format!("http://169.254.169.254{path}"));
        assert_eq!(
            endpoint_of_imds(&[(ENDPOINT, ""), (HEADER, "x"), (ARC, local)]),
            format!("http://169.254.169.254{path}")
        );
        assert_eq!(
            endpoint_of_imds(&[(IMDS_BASE, "http://127.0.0.1:9/")]),
            format!("http://127.0.0.1:9{path}")
        );

        let host = host_of(&[(ENDPOINT, local), (HEADER, "h"), (ARC, local)]).unwrap();
        assert!(matches!(&host, ManagedIdentityHost::AppService { endpoint, header }
            if endpoint.as_str() == local && header.expose() == "h"));
        let host = host_of(&[(ENDPOINT, local), (HEADER, ""), (ARC, local)]).unwrap();
        assert!(matches!(&host, ManagedIdentityHost::AzureArc { endpoint, key_directory }
            if endpoint.as_str() == local && key_directory.as_os_str() == KEY_DIRECTORY));
    }

    #[test]
    fn what_the_variables_must_not_say() {
        for (variables, sign) in [
            (&[(ENDPOINT, "http://127.0.0.1/x")][..], "neither `IDENTITY_HEADER`"),
            (&[(ENDPOINT, "http://10.0.0.1/x"), (HEADER, "h")], "neither https"),
            (&[(ENDPOINT, "http://127.0.0.1.example/x"), (HEADER, "h")], "neither https"),
            (&[(ENDPOINT, "hunter2"), (HEADER, "h")], "is not a URL"),
            (&[(ENDPOINT, "https://u:hunter2@a.example/x"), (HEADER, "h")], "a user name"),
            (&[(ENDPOINT, "http://127.0.0.1/x?hunter2"), (ARC, "x")], "a query"),
            (&[(ENDPOINT, "http://127.0.0.1/x"), (HEADER, "hunter2\n")], "no header can"),
            (&[(IMDS_BASE, "http://imds.example")], "neither https"),
            (&[(IMDS_BASE, "169.254.169.254")], "is not a URL"),
            (
                &[(ENDPOINT, "https://127.0.0.1/x"), (HEADER, "h"), (SERVER_THUMBPRINT, "t")],
                "Service Fabric",
            ),
        ] {
            let message = host_of(variables).unwrap_err();
            assert!(message.contains(sign), "{variables:?}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
