//! Which tenants of Microsoft Entra ID a provider speaks for, and what it is asked under.
//!
//! Names only, no IO: a domain's id is learned by `provider.rs`, and `iss` is read by
//! `issuing.rs`. A tenant is a GUID in lower case wherever something is decided by it.

use std::collections::BTreeSet;

use uuid::Uuid;

/// The tenants whose tokens an Entra provider accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenants {
    /// One tenant, by its id: a GUID in lower case.
    One(String),
    /// One tenant, by one of its domains, in lower case. Its id is what the metadata says first.
    Domain(String),
    /// Several tenants, and no other.
    Several {
        /// Whose metadata and keys are fetched.
        directory: Directory,
        /// Their ids: GUIDs in lower case. The tenant of personal accounts is one like any other.
        allowed: BTreeSet<String>,
    },
}

/// What Entra calls several tenants at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory {
    /// Accounts of organisations, of any tenant.
    Organizations,
    /// These, and personal accounts.
    Common,
}

impl Directory {
    /// Its name in paths.
    pub fn name(self) -> &'static str {
        match self {
            Self::Organizations => "organizations",
            Self::Common => "common",
        }
    }
}

impl Tenants {
    /// The tenant of personal accounts (Outlook.com, Xbox …).
    pub const PERSONAL_ACCOUNTS: &'static str = "9188040d-6c67-4c5b-b112-36a304b66dad";

    /// What stands for the tenant in the path of the metadata.
    pub fn name(&self) -> &str {
        match self {
            Self::One(name) | Self::Domain(name) => name,
            Self::Several { directory, .. } => directory.name(),
        }
    }
}

/// Whether `text` is a GUID in its usual form of 36 characters.
pub(crate) fn is_guid(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

/// Whether `text` is a GUID as Entra writes it into `iss`: in lower case.
pub(super) fn is_tenant(text: &str) -> bool {
    is_guid(text) && !text.bytes().any(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_a_guid_of_36_characters_in_lower_case() {
        assert!(is_tenant("11111111-2222-3333-4444-55555555aaaa"));
        assert!(is_guid("11111111-2222-3333-4444-55555555AAAA"));
        for text in [
            "11111111-2222-3333-4444-55555555AAAA",
            "11111111222233334444555555555555",
            "{11111111-2222-3333-4444-555555555555}",
            "urn:uuid:11111111-2222-3333-4444-555555555555",
            "11111111-2222-3333-4444-55555555555g",
            "111111112222-3333-4444-5555-55555555",
            "------------------------------------",
            "{tenantid}",
            "organizations",
            "",
        ] {
            assert!(!is_tenant(text), "{text}");
        }
    }
}
