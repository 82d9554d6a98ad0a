//! Keys that are written beside the key below which they belong.
//!
//! A hint must not send anybody to where the key is refused as well: what stands below a key is not the
//! same in all structs that have it, so a row names the struct, and a test holds the rows to the structs.

/// Keys that belong below `parent` in one struct.
struct Below {
    keys: &'static [&'static str],
    parent: &'static str,
    /// A key of that struct which none has that has another `parent`.
    of: &'static str,
}

const IN_TOKEN: &[&str] =
    &["on_behalf_of", "client_credentials", "managed_identity", "header", "passthrough"];

const BELOW: [Below; 6] = [
    Below {
        keys: &["client_secret", "certificate", "federated_token_file", "managed_identity"],
        parent: "credential",
        of: "tenant",
    },
    Below {
        keys: &["client_secret", "client_secret_post", "private_key"],
        parent: "credential",
        of: "issuer",
    },
    Below { keys: IN_TOKEN, parent: "token", of: "url" },
    Below { keys: &["server_name"], parent: "tls", of: "url" },
    Below { keys: IN_TOKEN, parent: "token", of: "match" },
    Below { keys: &["strip_prefix"], parent: "rewrite", of: "match" },
];

/// The one of the keys that are `known` here below which `key` belongs.
pub(super) fn below<'k>(
    key: &str,
    known: &(impl Iterator<Item = &'k str> + Clone),
) -> Option<&'static str> {
    let is_known = |wanted: &str| known.clone().any(|own| own == wanted);
    let holds = |row: &&Below| row.keys.contains(&key) && is_known(row.of) && is_known(row.parent);
    BELOW.iter().find(holds).map(|row| row.parent)
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, read};
    use super::*;

    /// What is said of a file in which the struct that has `of` has these `keys`.
    fn said(of: &str, keys: &str) -> String {
        let text = match of {
            "tenant" => format!("providers: {{ p: {{ type: entra, {keys} }} }}"),
            "issuer" => format!("providers: {{ p: {{ type: oidc, {keys} }} }}"),
            "url" => format!("upstreams: {{ u: {{ {keys} }} }}"),
            "match" => format!("routes: [{{ {keys} }}]"),
            "address" => format!("listeners: [{{ {keys} }}]"),
            "admin" => format!("admin: {{ {keys} }}"),
            other => panic!("no struct with `{other}`"),
        };
        read(&text, "routes.yaml", &Environment::of([("NOBODY", "x")], "/")).problems.to_string()
    }

    #[test]
    fn the_key_is_known_where_the_hint_sends_one() {
        for Below { keys, parent, of } in BELOW {
            for key in keys {
                let unknown = format!("unknown key `{key}`");
                let beside = said(of, &format!("{key}: x"));
                assert!(beside.contains(&unknown), "{beside}");
                assert!(beside.contains(&format!("it belongs below `{parent}:`")), "{beside}");
                let within = said(of, &format!("{parent}: {{ {key}: x }}"));
                assert!(!within.contains(&unknown), "{within}");
            }
        }
    }

    #[test]
    fn nobody_is_sent_where_the_key_is_refused_as_well() {
        for (of, key, parent) in [
            ("tenant", "client_secret_post", "credential"),
            ("tenant", "private_key", "credential"),
            ("issuer", "certificate", "credential"),
            ("issuer", "federated_token_file", "credential"),
            ("issuer", "managed_identity", "credential"),
            ("address", "server_name", "tls"),
            ("admin", "on_behalf_of", "token"),
        ] {
            let unknown = format!("unknown key `{key}`");
            let beside = said(of, &format!("{key}: x"));
            assert!(beside.contains(&unknown), "{beside}");
            assert!(!beside.contains("it belongs below"), "{beside}");
            let within = said(of, &format!("{parent}: {{ {key}: x }}"));
            assert!(within.contains(&unknown) || of == "admin", "{within}");
        }
    }
}
