//! What tokens are judged by: tenants, algorithms and types.

use super::super::failure::WrongText;
use super::super::schema::Form;
use super::super::suggest::did_you_mean;
use super::Written;
use crate::authn::is_guid;

/// Which tenant of Entra, or that it is several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenant {
    /// One, by its id.
    Id(TenantId),
    /// One, by a domain, in lower case.
    Domain(String),
    /// Accounts of organisations: `organizations`.
    Organizations,
    /// These and personal accounts: `common`.
    Common,
}

/// The id of an Entra tenant, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantId(pub String);

const TENANT_HINT: &str =
    "write the tenant's id (Entra admin center, Overview): `11111111-2222-3333-4444-555555555555`";

impl Written for Tenant {
    const FORM: &'static str = "a tenant id, a domain, `organizations` or `common`";

    fn form() -> Form {
        Form::Pattern("organizations|common|[0-9a-fA-F-]{36}|[A-Za-z0-9-]+([.][A-Za-z0-9-]+)+")
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        match text {
            "organizations" => return Ok(Self::Organizations),
            "common" => return Ok(Self::Common),
            "consumers" => {
                let message = "`consumers` is not a tenant here";
                let hint = "personal accounts are the tenant `9188040d-6c67-4c5b-b112-36a304b66dad`: write that, or `common` with it in `allowed_tenants`";
                return Err(WrongText::new(message, hint));
            }
            _ => {}
        }
        if let Some(id) = guid(text) {
            return Ok(Self::Id(TenantId(id)));
        }
        if is_domain(text) {
            return Ok(Self::Domain(text.to_ascii_lowercase()));
        }
        let hint =
            format!("{TENANT_HINT}, a domain of it, or `organizations` with `allowed_tenants`");
        Err(WrongText::new(format!("`{text}` is neither the id nor a domain of a tenant"), hint))
    }
}

impl Written for TenantId {
    const FORM: &'static str = "a tenant id";

    fn form() -> Form {
        Form::Pattern("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        let id = guid(text).map(Self);
        id.ok_or_else(|| WrongText::new(format!("`{text}` is not the id of a tenant"), TENANT_HINT))
    }
}

fn guid(text: &str) -> Option<String> {
    is_guid(text).then(|| text.to_ascii_lowercase())
}

/// A name of two labels or more (RFC 1123 §2.1), the last of which is no number.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let Some((_, last)) = text.rsplit_once('.') else { return false };
    text.len() <= 253
        && text.split('.').all(is_label)
        && last.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// What the header of a provider's tokens must name: `typ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderType(pub crate::authn::HeaderType);

impl Written for HeaderType {
    const FORM: &'static str = "a type of token such as `at+jwt`";

    fn form() -> Form {
        Form::Scalar
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        crate::authn::HeaderType::named(text).map(Self).ok_or_else(|| {
            let message = format!("tokens with `typ: {text}` are never accepted");
            WrongText::new(message, "write `at+jwt` (RFC 9068) or `JWT`; without the key both are accepted, and tokens without `typ`")
        })
    }
}

/// A signature algorithm that tokens may use (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "they are the names of the RFC")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// All, with the names they have in tokens.
    pub const ALL: [(&'static str, Self); 9] = [
        ("RS256", Self::RS256),
        ("RS384", Self::RS384),
        ("RS512", Self::RS512),
        ("PS256", Self::PS256),
        ("PS384", Self::PS384),
        ("PS512", Self::PS512),
        ("ES256", Self::ES256),
        ("ES384", Self::ES384),
        ("EdDSA", Self::EdDSA),
    ];
}

impl Written for Algorithm {
    const FORM: &'static str = "an algorithm such as `RS256`";

    fn form() -> Form {
        Form::Words(&[
            "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
        ])
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        if let Some((_, algorithm)) = Self::ALL.iter().find(|(name, _)| *name == text) {
            return Ok(*algorithm);
        }
        let upper = text.to_ascii_uppercase();
        let hint = if upper.starts_with("HS") || upper == "NONE" {
            "tokens must be signed with a key that only the provider has: remove it".to_owned()
        } else {
            did_you_mean(text, "algorithms", Self::ALL.iter().map(|(name, _)| *name))
        };
        Err(WrongText::new(format!("algorithm `{text}` is not accepted"), hint))
    }
}

/// What the gateway signs assertions of its own with (RFC 7523 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SigningAlgorithm(pub Algorithm);

impl Written for SigningAlgorithm {
    const FORM: &'static str = Algorithm::FORM;

    fn form() -> Form {
        Algorithm::form()
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        Algorithm::parse(text).map(Self).map_err(|wrong| {
            let hint = match text.to_ascii_uppercase().as_str() {
                "NONE" => "an assertion without a signature proves nothing: write `RS256`, or what else the provider takes",
                symmetric if symmetric.starts_with("HS") => "that signs with a secret, and `key_file` is a private key: write `RS256`, or what else the provider takes; a secret goes into `client_secret`",
                _ => return wrong,
            };
            WrongText::new(format!("algorithm `{text}` signs with no private key"), hint)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_ids_domains_or_several() {
        let id = "aaaaaaaa-2222-3333-4444-555555555555";
        assert_eq!(Tenant::parse(&id.to_uppercase()).unwrap(), Tenant::Id(TenantId(id.into())));
        assert_eq!(TenantId::parse(&id.to_uppercase()).unwrap().0, id);
        let domain = Tenant::Domain("contoso.onmicrosoft.com".to_owned());
        assert_eq!(Tenant::parse("Contoso.onmicrosoft.com").unwrap(), domain);
        assert_eq!(Tenant::parse("common").unwrap(), Tenant::Common);
        assert_eq!(Tenant::parse("organizations").unwrap(), Tenant::Organizations);
        for text in [
            "aaaaaaaa222233334444555555555555",
            "{aaaaaaaa-2222-3333-4444-555555555555}",
            "1e3",
            "1.5",
            "10.0.0.1",
            "Common",
            "consumers",
            "{tenantid}",
            "contoso",
            "contoso..com",
            ".contoso.com",
            "contoso.com.",
            "contoso.com/common",
            "contoso.com?x",
            "-a.com",
            "*.contoso.com",
            "contoso .com",
            "../common.x",
        ] {
            assert!(Tenant::parse(text).is_err(), "{text}");
            assert!(TenantId::parse(text).is_err(), "{text}");
        }
        for several in ["common", "organizations", "contoso.com"] {
            assert!(TenantId::parse(several).is_err(), "{several}");
        }
    }

    #[test]
    fn header_types_are_those_of_access_tokens() {
        use crate::authn::HeaderType as Known;
        assert_eq!(HeaderType::parse("at+jwt").unwrap().0, Known::AccessToken);
        assert_eq!(HeaderType::parse("application/AT+JWT").unwrap().0, Known::AccessToken);
        assert_eq!(HeaderType::parse("JWT").unwrap().0, Known::Jwt);
        for text in ["dpop+jwt", "id_token", "Bearer", "*"] {
            assert!(HeaderType::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn symmetric_algorithms_are_refused() {
        assert_eq!(Algorithm::parse("EdDSA").unwrap(), Algorithm::EdDSA);
        for text in ["HS256", "none", "rs256", "ES512"] {
            assert!(Algorithm::parse(text).is_err(), "{text}");
            assert!(SigningAlgorithm::parse(text).is_err(), "{text}");
        }
        assert_eq!(SigningAlgorithm::parse("ES256").unwrap().0, Algorithm::ES256);
    }
}
