//! Keys of `type: entra` providers that are left out, from the variables that Azure workload
//! identity sets in a pod.
//!
//! | key | variable |
//! | --- | --- |
//! | `tenant` | `AZURE_TENANT_ID` |
//! | `client_id` | `AZURE_CLIENT_ID` |
//! | `credential` (`federated_token_file`), beside a `client_id` | `AZURE_FEDERATED_TOKEN_FILE` |
//! | `cloud` or `authority`, both left out, beside a `federated_token_file` | `AZURE_AUTHORITY_HOST` |
//!
//! What the file says always goes before, and an empty variable is none. What is filled in is
//! judged as if it stood in the file, where the provider's name stands.

use std::sync::Arc;

use super::problem::{Place, Problem, Problems};
use super::source::Environment;
use super::tree::{Entry, Held, Key, Node, Scalar, Tree, Value};

/// The struct whose keys they are, and the keys, which a file may therefore lack.
pub(super) const STRUCT: &str = "Entra";
pub(super) const FILLED_IN: [&str; 5] = ["tenant", "client_id", "credential", "cloud", "authority"];

/// The login hosts of the clouds, by the words of `cloud`. The last one is what the Azure
/// libraries still call China's.
const CLOUDS: [(&str, &str); 4] = [
    ("login.microsoftonline.com", "public"),
    ("login.microsoftonline.us", "usgov"),
    ("login.partner.microsoftonline.cn", "china"),
    ("login.chinacloudapi.cn", "china"),
];

/// `tree` with what was left out.
pub(super) fn fill_in(tree: Tree, environment: &Environment, problems: &mut Problems) -> Tree {
    let Tree { mut root, files } = tree;
    // Numbers from the end: the tree's own come from the beginning.
    let mut filler = Filler { environment, problems, next_id: u32::MAX };
    let sections = entries_mut(&mut root).into_iter().flatten();
    for section in sections.filter(|it| &*it.key.text == "providers") {
        for Entry { key, value } in entries_mut(&mut section.value).into_iter().flatten() {
            filler.provider(key.place, value);
        }
    }
    Tree { root, files }
}

struct Filler<'a> {
    environment: &'a Environment,
    problems: &'a mut Problems,
    next_id: u32,
}

impl Filler<'_> {
    /// The provider `node`, whose name stands at `place`.
    fn provider(&mut self, place: Place, node: &mut Node) {
        let Value::Mapping(written) = node.value() else { return };
        if scalar(written, "type") != Some("entra") {
            return;
        }
        let mut added = Vec::new();
        for (key, variable) in [("tenant", "AZURE_TENANT_ID"), ("client_id", "AZURE_CLIENT_ID")] {
            if !has(written, key) {
                let value = self.variable(variable, place);
                added.extend(value.map(|value| self.entry(key, value, place)));
            }
        }
        let is_client = has(written, "client_id") || has(&added, "client_id");
        if is_client && !has(written, "credential") {
            let file = self.variable("AZURE_FEDERATED_TOKEN_FILE", place);
            if let Some(file) = file {
                let file = self.entry("federated_token_file", file, place);
                let value = self.node(Value::Mapping(vec![file]), place);
                added.push(Entry { key: key("credential", place), value });
            }
        }
        let is_federated = is_federated(written) || is_federated(&added);
        if is_federated && !has(written, "cloud") && !has(written, "authority") {
            let host = self.variable("AZURE_AUTHORITY_HOST", place);
            added.extend(host.map(|host| match cloud(&host) {
                Some(cloud) => self.entry("cloud", cloud.to_owned(), place),
                None => self.entry("authority", host, place),
            }));
        }
        if let (false, Some(entries)) = (added.is_empty(), entries_mut(node)) {
            entries.append(&mut added);
        }
    }

    fn variable(&mut self, name: &str, place: Place) -> Option<String> {
        self.environment.of_platform(name).unwrap_or_else(|wrong| {
            self.problems.push(Problem::error(place, wrong.message).hint(wrong.hint));
            None
        })
    }

    fn entry(&mut self, name: &str, text: String, place: Place) -> Entry {
        let scalar = Scalar { text, from_outside: true, is_plain: false, is_null: false };
        Entry { key: key(name, place), value: self.node(Value::Scalar(scalar), place) }
    }

    fn node(&mut self, value: Value, place: Place) -> Node {
        let id = self.next_id;
        self.next_id -= 1;
        Node { id, weight: 1, place, end: (place.line, place.column), held: Held::Own(value) }
    }
}

fn key(name: &str, place: Place) -> Key {
    Key { text: Arc::from(name), place }
}

fn has(entries: &[Entry], key: &str) -> bool {
    entries.iter().any(|entry| &*entry.key.text == key)
}

fn value<'e>(entries: &'e [Entry], key: &str) -> Option<&'e Value> {
    entries.iter().find(|entry| &*entry.key.text == key).map(|entry| entry.value.value())
}

fn scalar<'e>(entries: &'e [Entry], key: &str) -> Option<&'e str> {
    match value(entries, key)? {
        Value::Scalar(scalar) => Some(&scalar.text),
        Value::List(_) | Value::Mapping(_) | Value::Broken => None,
    }
}

fn is_federated(provider: &[Entry]) -> bool {
    match value(provider, "credential") {
        Some(Value::Mapping(credential)) => has(credential, "federated_token_file"),
        Some(Value::Scalar(_) | Value::List(_) | Value::Broken) | None => false,
    }
}

/// The word of the cloud whose login host `url` names.
fn cloud(url: &str) -> Option<&'static str> {
    let url = url::Url::parse(url).ok()?;
    let is_bare = url.scheme() == "https" && url.path() == "/" && url.port().is_none();
    let host = url.host_str().filter(|_| is_bare)?;
    CLOUDS.iter().find(|(known, _)| *known == host).map(|(_, cloud)| *cloud)
}

/// The entries of a mapping, which aliases of it do not have from now on.
fn entries_mut(node: &mut Node) -> Option<&mut Vec<Entry>> {
    if let Held::Shared(value) = &node.held {
        node.held = Held::Own(Value::clone(value));
    }
    match &mut node.held {
        Held::Own(Value::Mapping(entries)) => Some(entries),
        Held::Own(Value::Scalar(_) | Value::List(_) | Value::Broken) | Held::Shared(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::{Cloud, EntraCredential, Provider};
    use super::super::value::{Tenant, TenantId};
    use super::super::{Environment, Reading, read};

    const TENANT: &str = "11111111-2222-3333-4444-555555555555";
    const OTHER: &str = "aaaaaaaa-2222-3333-4444-555555555555";
    const POD: [(&str, &str); 4] = [
        ("AZURE_TENANT_ID", TENANT),
        ("AZURE_CLIENT_ID", "pod-client"),
        ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/tokens/azure-identity-token"),
        ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/"),
    ];

    fn reading(provider: &str, variables: &[(&str, &str)]) -> Reading {
        let text = format!(
            "providers:\n  p: {{ {provider} }}\nroutes:\n  - {{ match: {{ path: / }}, auth: any, respond: {{ status: 204 }} }}\n"
        );
        read(&text, "routes.yaml", &Environment::of(variables.iter().copied(), "/"))
    }

    fn entra(provider: &str, variables: &[(&str, &str)]) -> super::super::file::Entra {
        let reading = reading(provider, variables);
        assert!(reading.problems.is_empty(), "{}", reading.problems);
        match reading.file.unwrap().providers.0.remove(0).1.value {
            Provider::Entra(entra) => entra,
            Provider::Oidc(oidc) => panic!("{oidc:?}"),
        }
    }

    fn token_file(entra: &super::super::file::Entra) -> Option<&str> {
        match &entra.credential.as_ref()?.value {
            EntraCredential::FederatedTokenFile(path) => path.value.to_str(),
            EntraCredential::ClientSecret(_)
            | EntraCredential::Certificate(_)
            | EntraCredential::ManagedIdentity(_) => None,
        }
    }

    #[test]
    fn what_is_left_out_comes_from_the_pod() {
        let entra = entra("type: entra", &POD);
        assert_eq!(entra.tenant.value, Tenant::Id(TenantId(TENANT.to_owned())));
        assert_eq!(entra.client_id.as_ref().unwrap().value.0, "pod-client");
        assert_eq!(token_file(&entra), Some(POD[2].1));
        assert_eq!((entra.cloud, entra.authority.is_none()), (Cloud::UsGov, true));
    }

    #[test]
    fn what_the_file_says_goes_before() {
        let text = format!(
            "type: entra, tenant: {OTHER}, client_id: own, cloud: china, credential: {{ federated_token_file: own-token }}"
        );
        let written = entra(&text, &POD);
        assert_eq!(written.tenant.value, Tenant::Id(TenantId(OTHER.to_owned())));
        assert_eq!(written.client_id.as_ref().unwrap().value.0, "own");
        assert_eq!(token_file(&written), Some("own-token"));
        assert_eq!(written.cloud, Cloud::China);
        let authority = entra("type: entra, authority: https://login.example", &POD);
        assert_eq!(authority.cloud, Cloud::Public);
        assert_eq!(authority.authority.unwrap().text, "https://login.example");
    }

    #[test]
    fn the_host_counts_only_beside_a_federated_token_and_may_be_any() {
        let secret =
            entra("type: entra, credential: { client_secret: \"${AZURE_CLIENT_ID}\" }", &POD);
        assert_eq!((secret.cloud, token_file(&secret)), (Cloud::Public, None));
        let mut pod = POD;
        for host in
            ["https://login.example/", "http://127.0.0.1:9", "https://login.microsoftonline.us/x"]
        {
            pod[3].1 = host;
            let entra = entra("type: entra", &pod);
            assert_eq!(
                (entra.cloud, entra.authority.unwrap().text.as_str()),
                (Cloud::Public, host)
            );
        }
    }

    #[test]
    fn nothing_set_is_nothing_filled_in() {
        let reading = reading("type: entra", &[("AZURE_TENANT_ID", "")]);
        let shown = reading.problems.to_string();
        assert!(shown.contains("or set `AZURE_TENANT_ID`"), "{shown}");
        assert!(shown.contains("or set `AZURE_CLIENT_ID`"), "{shown}");
        let plain = entra(&format!("type: entra, tenant: {TENANT}, audiences: [a]"), &POD[2..]);
        assert!(plain.credential.is_none() && plain.client_id.is_none());
    }

    #[test]
    fn a_bad_variable_is_a_problem_of_the_provider_and_others_are_left_alone() {
        let bad = reading("type: entra", &[("AZURE_TENANT_ID", "nonsense"), POD[1]]);
        let shown = bad.problems.to_string();
        assert!(shown.contains("routes.yaml:2:3: error:"), "{shown}");
        let oidc = reading("type: oidc, issuer: https://a.example, audiences: [a]", &POD);
        assert!(oidc.problems.is_empty(), "{}", oidc.problems);
    }
}
