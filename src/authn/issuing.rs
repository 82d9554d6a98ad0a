//! What kind of provider issues the tokens: which `iss` it uses and where its metadata is.
//!
//! Names and URLs only, no IO. What the claims of each kind must look like is in `dialect.rs`.

/// The clouds of Entra, each with its own hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cloud {
    /// The worldwide cloud.
    #[default]
    Public,
    /// Azure Government of the United States.
    UsGov,
    /// Azure operated by 21Vianet in China.
    China,
}

impl Cloud {
    /// The authority host that signs users in.
    pub fn authority(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com",
            Self::UsGov => "https://login.microsoftonline.us",
            Self::China => "https://login.partner.microsoftonline.cn",
        }
    }

    /// The issuer of v1 tokens for `tenant`; it ends in a slash, which counts.
    pub fn v1_issuer(self, tenant: &str) -> String {
        match self {
            Self::Public | Self::UsGov => format!("https://sts.windows.net/{tenant}/"),
            Self::China => format!("https://sts.chinacloudapi.cn/{tenant}/"),
        }
    }
}

/// Who issues the tokens of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issuing {
    /// One tenant of Microsoft Entra ID.
    Entra {
        /// The tenant's GUID, in lower case.
        tenant: String,
        /// The base URL of the authority, without a path: of the cloud, or what replaces it.
        authority: String,
        /// `iss` of v1 tokens: of the cloud, whatever the authority is.
        v1_issuer: String,
    },
    /// Any OpenID Connect provider.
    Oidc {
        /// Its issuer identifier, compared byte for byte.
        issuer: String,
    },
}

impl Issuing {
    /// One Entra tenant in `cloud`; `authority` overrides the cloud's.
    pub fn entra(tenant: &str, cloud: Cloud, authority: Option<&str>) -> Self {
        let tenant = tenant.to_ascii_lowercase();
        let authority = authority.unwrap_or(cloud.authority()).trim_end_matches('/').to_owned();
        let v1_issuer = cloud.v1_issuer(&tenant);
        Self::Entra { tenant, authority, v1_issuer }
    }

    /// The issuer that the metadata must name: Entra's of v2 tokens, or the configured one.
    pub fn issuer(&self) -> String {
        match self {
            Self::Entra { tenant, authority, .. } => v2_issuer(authority, tenant),
            Self::Oidc { issuer } => issuer.clone(),
        }
    }

    /// Whether tokens with this `iss` are its own.
    pub fn issues(&self, iss: &str) -> bool {
        match self {
            // In pieces and not against `issuer()`: this is asked for each request.
            Self::Entra { tenant, authority, v1_issuer } => {
                let path = iss.strip_prefix(authority.trim_end_matches('/'));
                let rest = path.and_then(|path| path.strip_prefix('/')?.strip_prefix(&**tenant));
                iss == v1_issuer || rest == Some("/v2.0")
            }
            Self::Oidc { issuer } => iss == issuer,
        }
    }

    /// Every `iss` of its tokens, for the log.
    pub fn issuers(&self) -> Vec<String> {
        match self {
            Self::Entra { v1_issuer, .. } => vec![self.issuer(), v1_issuer.clone()],
            Self::Oidc { issuer } => vec![issuer.clone()],
        }
    }

    /// Where the metadata is (OpenID Connect Discovery 1.0 §4).
    pub fn metadata_url(&self) -> String {
        let issuer = self.issuer();
        format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
    }

    /// Where Entra answers, by its documented layout: an endpoint is known without discovery.
    pub fn entra_endpoint(&self, name: &str) -> Option<String> {
        match self {
            Self::Entra { tenant, authority, .. } => {
                Some(format!("{}/{tenant}/oauth2/v2.0/{name}", authority.trim_end_matches('/')))
            }
            Self::Oidc { .. } => None,
        }
    }
}

fn v2_issuer(authority: &str, tenant: &str) -> String {
    format!("{}/{tenant}/v2.0", authority.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "11111111-2222-3333-4444-55555555aaaa";

    #[test]
    fn an_entra_tenant_issues_two_kinds_of_token() {
        let entra = Issuing::entra(&TENANT.to_uppercase(), Cloud::Public, None);
        let v2 = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
        let v1 = format!("https://sts.windows.net/{TENANT}/");
        assert_eq!(entra.issuers(), [v2.clone(), v1.clone()]);
        assert!(entra.issues(&v1) && entra.issues(&v2));
        for other in [
            v1.trim_end_matches('/'),
            &format!("{v2}/"),
            &v2.to_uppercase(),
            "https://login.microsoftonline.com/{tenantid}/v2.0",
            &format!("https://login.microsoftonline.us/{TENANT}/v2.0"),
            &format!("https://sts.chinacloudapi.cn/{TENANT}/"),
            "",
        ] {
            assert!(!entra.issues(other), "{other}");
        }
        assert_eq!(entra.metadata_url(), format!("{v2}/.well-known/openid-configuration"));
        let token = format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token");
        assert_eq!(entra.entra_endpoint("token"), Some(token));
    }

    #[test]
    fn an_authority_does_not_change_the_v1_issuer() {
        let entra = Issuing::entra(TENANT, Cloud::China, Some("http://127.0.0.1:9010/"));
        let v2 = format!("http://127.0.0.1:9010/{TENANT}/v2.0");
        assert_eq!(entra.issuers(), [v2, format!("https://sts.chinacloudapi.cn/{TENANT}/")]);
    }

    #[test]
    fn an_oidc_issuer_is_compared_byte_for_byte() {
        let oidc = Issuing::Oidc { issuer: "https://sso.example.com/realms/main/".to_owned() };
        assert!(oidc.issues("https://sso.example.com/realms/main/"));
        assert!(!oidc.issues("https://sso.example.com/realms/main"));
        assert_eq!(
            oidc.metadata_url(),
            "https://sso.example.com/realms/main/.well-known/openid-configuration"
        );
        assert_eq!(oidc.entra_endpoint("token"), None);
    }
}
