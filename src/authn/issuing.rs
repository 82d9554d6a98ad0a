//! What kind of provider issues the tokens: which `iss` it uses and where its metadata is.
//!
//! Names and URLs only, no IO. What the claims of each kind must look like is in `dialect.rs`.

use super::tenants::{Tenants, is_tenant};

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
        let (before, after) = self.v1_form();
        format!("{before}{tenant}{after}")
    }

    /// What stands before and after the tenant in the issuer of v1 tokens.
    fn v1_form(self) -> (&'static str, &'static str) {
        match self {
            Self::Public | Self::UsGov => ("https://sts.windows.net/", "/"),
            Self::China => ("https://sts.chinacloudapi.cn/", "/"),
        }
    }
}

/// What stands for the tenant in the issuers that Entra publishes for several.
pub const TENANT_PLACEHOLDER: &str = "{tenantid}";

/// Who issues the tokens of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issuing {
    /// Microsoft Entra ID.
    Entra {
        /// Whose tokens are accepted.
        tenants: Tenants,
        /// The base URL of the authority, without a path: of the cloud, or what replaces it.
        authority: String,
        /// Names the issuer of v1 tokens, whatever the authority is.
        cloud: Cloud,
    },
    /// Any OpenID Connect provider.
    Oidc {
        /// Its issuer identifier, compared byte for byte.
        issuer: String,
    },
}

impl Issuing {
    /// One Entra tenant in `cloud`, by its id; `authority` overrides the cloud's.
    pub fn entra(tenant: &str, cloud: Cloud, authority: Option<&str>) -> Self {
        Self::entra_of(Tenants::One(tenant.to_ascii_lowercase()), cloud, authority)
    }

    /// Tenants of Entra in `cloud`; `authority` overrides the cloud's.
    pub fn entra_of(tenants: Tenants, cloud: Cloud, authority: Option<&str>) -> Self {
        let authority = authority.unwrap_or(cloud.authority()).trim_end_matches('/').to_owned();
        Self::Entra { tenants, authority, cloud }
    }

    /// The issuer under whose URL the metadata is: that of v2 tokens with the tenant as the file
    /// names it (also by a domain, or as `organizations`), or the configured one.
    pub fn issuer(&self) -> String {
        match self {
            Self::Entra { tenants, authority, .. } => v2_issuer(authority, tenants.name()),
            Self::Oidc { issuer } => issuer.clone(),
        }
    }

    /// The tenant, in lower case, that `iss` names in one of the two forms of this cloud and
    /// authority, and whether that is the form of v1 tokens. It may be a foreign tenant.
    pub(super) fn tenant_in<'i>(&self, iss: &'i str) -> Option<(&'i str, Version)> {
        let Self::Entra { authority, cloud, .. } = self else { return None };
        // In pieces and not against whole issuers: this is asked for each request.
        let path = iss.strip_prefix(&**authority).and_then(|path| path.strip_prefix('/'));
        let v2 = path.and_then(|path| path.strip_suffix("/v2.0")).map(|tid| (tid, Version::V2));
        let (before, after) = cloud.v1_form();
        let v1 = || Some((iss.strip_prefix(before)?.strip_suffix(after)?, Version::V1));
        v2.or_else(v1).filter(|(tenant, _)| is_tenant(tenant))
    }

    /// The two issuers of one tenant's tokens, v2 first.
    pub(super) fn issuers_of(&self, tenant: &str) -> Vec<String> {
        match self {
            Self::Entra { authority, cloud, .. } => {
                vec![v2_issuer(authority, tenant), cloud.v1_issuer(tenant)]
            }
            Self::Oidc { issuer } => vec![issuer.clone()],
        }
    }

    /// Every `iss` of its tokens, for the log; those of several tenants as templates.
    pub fn issuers(&self) -> Vec<String> {
        match self {
            Self::Entra { tenants: Tenants::One(tenant), .. } => self.issuers_of(tenant),
            Self::Entra { tenants: Tenants::Domain(_) | Tenants::Several { .. }, .. } => {
                self.issuers_of(TENANT_PLACEHOLDER)
            }
            Self::Oidc { issuer } => vec![issuer.clone()],
        }
    }

    /// Where the metadata is (OpenID Connect Discovery 1.0 §4).
    pub fn metadata_url(&self) -> String {
        let issuer = self.issuer();
        format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
    }

    /// Whether the metadata of `other` is its own, too: which of several tenants are allowed makes
    /// no difference.
    pub(super) fn has_the_metadata_of(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Entra { tenants, authority, cloud },
                Self::Entra { tenants: theirs, authority: their_authority, cloud: their_cloud },
            ) => {
                let is_same = match (tenants, theirs) {
                    (
                        Tenants::Several { directory, .. },
                        Tenants::Several { directory: their_directory, .. },
                    ) => directory == their_directory,
                    (
                        Tenants::One(_) | Tenants::Domain(_) | Tenants::Several { .. },
                        Tenants::One(_) | Tenants::Domain(_) | Tenants::Several { .. },
                    ) => tenants == theirs,
                };
                is_same && (authority, cloud) == (their_authority, their_cloud)
            }
            (Self::Oidc { issuer }, Self::Oidc { issuer: theirs }) => issuer == theirs,
            (Self::Entra { .. }, Self::Oidc { .. }) | (Self::Oidc { .. }, Self::Entra { .. }) => {
                false
            }
        }
    }

    /// Where Entra answers for `tenant`, by its documented layout: an endpoint is known without
    /// discovery. `None` for other providers.
    pub fn entra_endpoint(&self, tenant: &str, name: &str) -> Option<String> {
        match self {
            Self::Entra { authority, .. } => {
                Some(format!("{authority}/{tenant}/oauth2/v2.0/{name}"))
            }
            Self::Oidc { .. } => None,
        }
    }
}

/// The two kinds of access token that Entra has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

impl Version {
    /// What such tokens have in `ver`.
    pub(super) fn ver(self) -> &'static str {
        match self {
            Self::V1 => "1.0",
            Self::V2 => "2.0",
        }
    }
}

fn v2_issuer(authority: &str, tenant: &str) -> String {
    format!("{authority}/{tenant}/v2.0")
}

#[cfg(test)]
mod tests {
    use super::super::tenants::Directory;
    use super::*;

    const TENANT: &str = "11111111-2222-3333-4444-55555555aaaa";

    fn tenant<'i>(kind: &Issuing, iss: &'i str) -> Option<&'i str> {
        kind.tenant_in(iss).map(|(tenant, _)| tenant)
    }

    #[test]
    fn an_entra_tenant_issues_two_kinds_of_token() {
        let entra = Issuing::entra(&TENANT.to_uppercase(), Cloud::Public, None);
        let v2 = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
        let v1 = format!("https://sts.windows.net/{TENANT}/");
        assert_eq!(entra.issuers(), [v2.clone(), v1.clone()]);
        assert_eq!(entra.tenant_in(&v1), Some((TENANT, Version::V1)));
        assert_eq!(entra.tenant_in(&v2), Some((TENANT, Version::V2)));
        for other in [
            v1.trim_end_matches('/'),
            &format!("{v1}/"),
            &format!("{v2}/"),
            &v2.to_uppercase(),
            &v2.replace(TENANT, &TENANT.to_uppercase()),
            &v2.replace(TENANT, &format!("{TENANT}/x")),
            &v2.replace(TENANT, &format!("x/{TENANT}")),
            &v2.replace("https", "http"),
            &v2.replace(".com/", ".com.evil.example/"),
            &v2.replace(".com/", ".com//"),
            "https://login.microsoftonline.com/{tenantid}/v2.0",
            "https://login.microsoftonline.com/organizations/v2.0",
            "https://login.microsoftonline.com//v2.0",
            "https://sts.windows.net/{tenantid}/",
            "https://sts.windows.net//",
            &format!("https://login.microsoftonline.us/{TENANT}/v2.0"),
            &format!("https://sts.chinacloudapi.cn/{TENANT}/"),
            "",
        ] {
            assert_eq!(tenant(&entra, other), None, "{other}");
        }
        assert_eq!(entra.metadata_url(), format!("{v2}/.well-known/openid-configuration"));
        let token = format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token");
        assert_eq!(entra.entra_endpoint(TENANT, "token"), Some(token));
    }

    #[test]
    fn each_cloud_has_issuers_of_its_own() {
        let clouds = [
            (Cloud::Public, "https://login.microsoftonline.com", "https://sts.windows.net"),
            (Cloud::UsGov, "https://login.microsoftonline.us", "https://sts.windows.net"),
            (
                Cloud::China,
                "https://login.partner.microsoftonline.cn",
                "https://sts.chinacloudapi.cn",
            ),
        ];
        for (cloud, v2, v1) in clouds {
            for authority in [None, Some("http://127.0.0.1:9010/")] {
                let entra = Issuing::entra(TENANT, cloud, authority);
                let v2 = authority.map_or(v2, |it| it.trim_end_matches('/'));
                let own = [format!("{v2}/{TENANT}/v2.0"), format!("{v1}/{TENANT}/")];
                assert_eq!(entra.issuers(), own);
                assert!(own.iter().all(|iss| tenant(&entra, iss) == Some(TENANT)), "{own:?}");
                for (other, foreign, _) in clouds {
                    let iss = format!("{foreign}/{TENANT}/v2.0");
                    let is_own = authority.is_none() && other == cloud;
                    assert_eq!(tenant(&entra, &iss).is_some(), is_own, "{cloud:?} {iss}");
                }
            }
        }
    }

    #[test]
    fn several_tenants_and_domains_are_asked_under_their_names() {
        let several = Tenants::Several {
            directory: Directory::Organizations,
            allowed: [TENANT.to_owned()].into(),
        };
        let entra = Issuing::entra_of(several, Cloud::UsGov, None);
        assert_eq!(
            entra.metadata_url(),
            "https://login.microsoftonline.us/organizations/v2.0/.well-known/openid-configuration"
        );
        assert_eq!(
            entra.issuers(),
            [
                "https://login.microsoftonline.us/{tenantid}/v2.0",
                "https://sts.windows.net/{tenantid}/"
            ]
        );
        let domain = Tenants::Domain("contoso.onmicrosoft.com".to_owned());
        let entra = Issuing::entra_of(domain, Cloud::Public, Some("http://127.0.0.1:9010/"));
        assert_eq!(entra.issuer(), "http://127.0.0.1:9010/contoso.onmicrosoft.com/v2.0");
    }

    #[test]
    fn metadata_is_the_same_whichever_tenants_are_allowed() {
        let several = |directory, tenant: &str| Tenants::Several {
            directory,
            allowed: [tenant.to_owned()].into(),
        };
        let entra = |tenants| Issuing::entra_of(tenants, Cloud::Public, None);
        let own = entra(several(Directory::Common, TENANT));
        assert!(own.has_the_metadata_of(&entra(several(Directory::Common, "x"))));
        for other in [
            entra(several(Directory::Organizations, TENANT)),
            entra(Tenants::One(TENANT.to_owned())),
            Issuing::entra_of(several(Directory::Common, TENANT), Cloud::China, None),
            Issuing::entra_of(several(Directory::Common, TENANT), Cloud::Public, Some("https://a")),
            Issuing::Oidc { issuer: "https://a".to_owned() },
        ] {
            assert!(!own.has_the_metadata_of(&other) && !other.has_the_metadata_of(&own));
        }
        let one = |tenant: &str| entra(Tenants::One(tenant.to_owned()));
        assert!(one(TENANT).has_the_metadata_of(&one(TENANT)));
        assert!(!one(TENANT).has_the_metadata_of(&one("x")));
    }

    #[test]
    fn an_oidc_issuer_is_compared_byte_for_byte() {
        let issuer = "https://sso.example.com/realms/main/";
        let oidc = Issuing::Oidc { issuer: issuer.to_owned() };
        assert_eq!(
            oidc.metadata_url(),
            "https://sso.example.com/realms/main/.well-known/openid-configuration"
        );
        assert_eq!(oidc.entra_endpoint(TENANT, "token"), None);
        assert_eq!(tenant(&oidc, &format!("https://sts.windows.net/{TENANT}/")), None);
    }
}
