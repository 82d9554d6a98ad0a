//! What tokens are judged by: tenants and algorithms.

use super::super::failure::WrongText;
use super::super::suggest::did_you_mean;
use super::Written;

/// The id of an Entra tenant, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant(pub String);

impl Written for Tenant {
    const FORM: &'static str = "a tenant id";

    fn parse(text: &str) -> Result<Self, WrongText> {
        let hint = "write the tenant's id (Entra admin center, Overview): `11111111-2222-3333-4444-555555555555`";
        // Only the form with hyphens: `uuid` would take three others.
        if let (Ok(id), 36) = (uuid::Uuid::try_parse(text), text.len()) {
            return Ok(Self(id.hyphenated().to_string()));
        }
        let later = matches!(text, "common" | "organizations") || text.contains('.');
        let message = if later {
            format!("tenant `{text}` is not supported yet")
        } else {
            format!("`{text}` is not the id of a tenant")
        };
        Err(WrongText::new(message, hint))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_ids() {
        let tenant = Tenant::parse("AAAAAAAA-2222-3333-4444-555555555555").unwrap();
        assert_eq!(tenant.0, "aaaaaaaa-2222-3333-4444-555555555555");
        for (text, message) in [
            ("common", "not supported yet"),
            ("contoso.onmicrosoft.com", "not supported yet"),
            ("aaaaaaaa222233334444555555555555", "is not the id"),
            ("1e3", "is not the id"),
        ] {
            assert!(Tenant::parse(text).unwrap_err().message.contains(message), "{text}");
        }
    }

    #[test]
    fn symmetric_algorithms_are_refused() {
        assert_eq!(Algorithm::parse("EdDSA").unwrap(), Algorithm::EdDSA);
        for text in ["HS256", "none", "rs256", "ES512"] {
            assert!(Algorithm::parse(text).is_err(), "{text}");
        }
    }
}
