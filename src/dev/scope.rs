//! The `scope` parameter: which one resource it names, and what is asked for there.
//!
//! Knows the directory's resources. Whether the client may have them is the grant's affair.

use crate::dev::directory::Resource;
use crate::dev::token_error::Refusal;

/// What a `scope` parameter asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) resource: Resource,
    /// What it was called; one last slash is kept, as in `https://management.azure.com//.default`.
    pub(super) identifier: String,
    pub(super) wanted: Wanted,
    pub(super) openid: bool,
    pub(super) offline_access: bool,
    /// The OpenID scopes in the order they came.
    pub(super) openid_scopes: Vec<String>,
}

/// What is asked for at the resource.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// `/.default`: all that was granted.
    Default,
    /// These scopes, by their own names.
    Named(Vec<String>),
}

const OPENID_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

impl Asked {
    /// Reads a `scope` parameter: names separated by spaces.
    ///
    /// A name without a resource is Graph's, and so is a request with no name at all.
    pub(super) fn parse(scope: &str) -> Result<Self, Refusal> {
        let (openid_scopes, names): (Vec<&str>, Vec<&str>) =
            scope.split(' ').filter(|name| !name.is_empty()).partition(|name| is_openid(name));
        if names.is_empty() && openid_scopes.is_empty() {
            return Err(Refusal::InvalidScope(String::new()));
        }
        let found = names.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
        let (resource, identifier) = found.first().map_or_else(
            || (Resource::Graph, "https://graph.microsoft.com".to_owned()),
            |first| (first.resource, first.identifier.to_owned()),
        );
        let defaults = found.iter().filter(|name| name.scope == ".default").count();
        // Entra compares what the resource was called, not what it is.
        if found.iter().any(|name| name.identifier != identifier) {
            return Err(if defaults > 0 {
                Refusal::InvalidScope(scope.to_owned())
            } else {
                Refusal::SeveralResources(scope.to_owned())
            });
        }
        if defaults > 0 && defaults < found.len() {
            return Err(Refusal::InvalidScope(scope.to_owned()));
        }
        let wanted = if defaults > 0 {
            Wanted::Default
        } else {
            Wanted::Named(found.iter().map(|name| name.scope.to_owned()).collect())
        };
        Ok(Self {
            resource,
            identifier,
            wanted,
            openid: openid_scopes.contains(&"openid"),
            offline_access: openid_scopes.contains(&"offline_access"),
            openid_scopes: openid_scopes.into_iter().map(str::to_owned).collect(),
        })
    }

    /// The delegated scopes, by their own names.
    pub(super) fn delegated(&self) -> Vec<String> {
        match &self.wanted {
            Wanted::Default => self.resource.scopes().iter().map(|&scope| scope.into()).collect(),
            Wanted::Named(names) if names.is_empty() => self.openid_scopes.clone(),
            Wanted::Named(names) => names.clone(),
        }
    }

    /// `scope` of the answer: what was granted, in full, and what was asked for.
    pub(super) fn granted(&self) -> String {
        let full = |scope: &str| format!("{}/{scope}", self.identifier);
        let mut granted = self.openid_scopes.clone();
        match &self.wanted {
            Wanted::Default => {
                granted.extend(self.resource.scopes().iter().map(|scope| full(scope)));
                granted.push(full(".default"));
            }
            Wanted::Named(names) => granted.extend(names.iter().map(|scope| full(scope))),
        }
        granted.join(" ")
    }
}

struct Found<'a> {
    resource: Resource,
    identifier: &'a str,
    scope: &'a str,
}

fn find(name: &str) -> Result<Found<'_>, Refusal> {
    let Some((identifier, scope)) = name.rsplit_once('/') else {
        return known(Resource::Graph, "https://graph.microsoft.com", name);
    };
    let plain = identifier.strip_suffix('/').unwrap_or(identifier);
    let named = |resource: &Resource| resource.identifiers().contains(&plain);
    match Resource::ALL.into_iter().find(named) {
        Some(resource) => known(resource, identifier, scope),
        None => Err(Refusal::UnknownResource(identifier.to_owned())),
    }
}

fn known<'a>(
    resource: Resource,
    identifier: &'a str,
    scope: &'a str,
) -> Result<Found<'a>, Refusal> {
    if scope == ".default" || resource.scopes().contains(&scope) {
        Ok(Found { resource, identifier, scope })
    } else {
        Err(Refusal::InvalidScope(scope.to_owned()))
    }
}

fn is_openid(name: &str) -> bool {
    OPENID_SCOPES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(scope: &str) -> (Resource, Vec<String>) {
        let asked = Asked::parse(scope).unwrap();
        (asked.resource, asked.delegated())
    }

    #[test]
    fn a_scope_names_one_resource() {
        let all = vec!["User.Read".to_owned(), "Mail.Read".to_owned()];
        assert_eq!(asked("https://graph.microsoft.com/.default"), (Resource::Graph, all));
        let one = vec!["User.Read".to_owned()];
        assert_eq!(asked("https://graph.microsoft.com/User.Read"), (Resource::Graph, one.clone()));
        assert_eq!(asked("User.Read"), (Resource::Graph, one));
        let arm = vec!["user_impersonation".to_owned()];
        assert_eq!(asked("https://management.azure.com/.default openid"), (Resource::Arm, arm));
        let own = vec!["access_as_user".to_owned()];
        assert_eq!(asked("api://obo-gateway-demo/access_as_user"), (Resource::Gateway, own));
    }

    #[test]
    fn a_resource_with_a_slash_keeps_it_in_the_audience() {
        let asked = Asked::parse("https://management.core.windows.net//.default").unwrap();
        assert_eq!(
            asked.resource.audience(&asked.identifier),
            "https://management.core.windows.net/"
        );
    }

    #[test]
    fn what_msal_adds_is_told_apart() {
        let asked =
            Asked::parse("openid profile offline_access https://graph.microsoft.com/.default");
        let asked = asked.unwrap();
        assert!(asked.openid && asked.offline_access);
        assert_eq!(asked.wanted, Wanted::Default);
        assert_eq!(
            asked.granted(),
            "openid profile offline_access https://graph.microsoft.com/User.Read \
             https://graph.microsoft.com/Mail.Read https://graph.microsoft.com/.default"
        );
    }

    #[test]
    fn more_than_one_resource_and_unknown_names_are_refused() {
        for (scope, code) in [
            ("", 70011),
            (" ", 70011),
            (
                "https://graph.microsoft.com/User.Read https://management.azure.com/user_impersonation",
                28000,
            ),
            ("https://graph.microsoft.com/.default https://management.azure.com/.default", 70011),
            ("https://graph.microsoft.com/.default https://graph.microsoft.com/User.Read", 70011),
            ("https://graph.microsoft.com/Nope", 70011),
            ("Nope", 70011),
            ("https://graph.microsoft.com/", 70011),
            ("https://example.com/.default", 500_011),
            ("https://graph.microsoft.com///.default", 500_011),
            ("/.default", 500_011),
        ] {
            assert_eq!(Asked::parse(scope).unwrap_err().code(), code, "{scope}");
        }
    }
}
