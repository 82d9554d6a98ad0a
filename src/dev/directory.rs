//! The tenant as data: applications, users, and the resources one can get tokens for.
//!
//! The names are fixed by section 6 of the interface, so that tests and documents can rely
//! on them. It knows nothing of tokens or HTTP.

/// The tenant's id.
pub const TENANT: &str = "10000000-0000-4000-8000-000000000001";
/// The tenant's domain; users are `name@dev.local`.
pub const DOMAIN: &str = "dev.local";
/// The gateway's application.
pub const GATEWAY_CLIENT_ID: &str = "20000000-0000-4000-8000-000000000001";
/// The client secret of the gateway's application. Public, and worth nothing.
pub const GATEWAY_SECRET: &str = "dev-gateway-secret";
/// The App ID URI of the gateway's application.
pub const GATEWAY_URI: &str = "api://obo-gateway-demo";
/// The delegated scope that the gateway's application offers.
pub const GATEWAY_SCOPE: &str = "access_as_user";
/// The application role that the gateway's application offers.
pub const GATEWAY_ROLE: &str = "Demo.Read.All";
/// A public client, for the password grant.
pub const PUBLIC_CLIENT_ID: &str = "20000000-0000-4000-8000-000000000002";
/// A daemon, which has [`GATEWAY_ROLE`].
pub const DAEMON_CLIENT_ID: &str = "20000000-0000-4000-8000-000000000003";
/// The client secret of the daemon. Public, and worth nothing.
pub const DAEMON_SECRET: &str = "dev-daemon-secret";
/// The password of every user.
pub const USER_PASSWORD: &str = "dev";

/// An application registered in the tenant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct App {
    pub(super) client_id: &'static str,
    pub(super) name: &'static str,
    /// The object id of its service principal: `oid` and `sub` of its own tokens.
    pub(super) object_id: &'static str,
    /// `None` for a public client.
    pub(super) secret: Option<&'static str>,
    /// Its roles at the gateway's application, the only resource here that has roles.
    pub(super) roles: &'static [&'static str],
}

impl App {
    /// `azpacr`: how it authenticates. 0: not at all; 1: with a secret.
    pub(super) fn acr(&self) -> &'static str {
        if self.secret.is_some() { "1" } else { "0" }
    }
}

/// The gateway's application.
pub(super) static GATEWAY: App = App {
    client_id: GATEWAY_CLIENT_ID,
    name: "obo-gateway demo",
    object_id: "40000000-0000-4000-8000-000000000001",
    secret: Some(GATEWAY_SECRET),
    roles: &[],
};

/// The public client.
pub(super) static PUBLIC_CLIENT: App = App {
    client_id: PUBLIC_CLIENT_ID,
    name: "demo public client",
    object_id: "40000000-0000-4000-8000-000000000002",
    secret: None,
    roles: &[],
};

/// The daemon.
pub(super) static DAEMON: App = App {
    client_id: DAEMON_CLIENT_ID,
    name: "demo daemon",
    object_id: "40000000-0000-4000-8000-000000000003",
    secret: Some(DAEMON_SECRET),
    roles: &[GATEWAY_ROLE],
};

/// The application with this client id, compared as Entra does: without case.
pub(super) fn app(client_id: &str) -> Option<&'static App> {
    [&GATEWAY, &PUBLIC_CLIENT, &DAEMON]
        .into_iter()
        .find(|app| app.client_id.eq_ignore_ascii_case(client_id))
}

/// What happens when a token of a user is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnExchange {
    /// It succeeds.
    Granted,
    /// Conditional Access wants another factor, and names the claims; a token that was asked for
    /// with these claims is exchanged.
    WantsClaims,
    /// Nobody has consented.
    NeedsConsent,
    /// A policy forbids it, and nothing the user could do helps.
    Blocked,
}

/// A user of the tenant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    /// The part before `@dev.local`.
    pub(super) alias: &'static str,
    pub(super) name: &'static str,
    pub(super) oid: &'static str,
    pub(super) on_exchange: OnExchange,
}

impl User {
    /// `preferred_username` and `upn`.
    pub(super) fn upn(&self) -> String {
        format!("{}@{DOMAIN}", self.alias)
    }
}

/// All users.
pub(super) static USERS: [User; 5] = [
    User {
        alias: "alice",
        name: "Alice Dev",
        oid: "30000000-0000-4000-8000-000000000001",
        on_exchange: OnExchange::Granted,
    },
    User {
        alias: "bob",
        name: "Bob Dev",
        oid: "30000000-0000-4000-8000-000000000002",
        on_exchange: OnExchange::Granted,
    },
    User {
        alias: "mfa",
        name: "Mona Factor",
        oid: "30000000-0000-4000-8000-000000000003",
        on_exchange: OnExchange::WantsClaims,
    },
    User {
        alias: "noconsent",
        name: "Nora Consent",
        oid: "30000000-0000-4000-8000-000000000004",
        on_exchange: OnExchange::NeedsConsent,
    },
    User {
        alias: "blocked",
        name: "Bert Blocked",
        oid: "30000000-0000-4000-8000-000000000005",
        on_exchange: OnExchange::Blocked,
    },
];

/// The user with this sign-in name: `alice@dev.local`, or `alice` for short; case does not matter.
pub(super) fn user(name: &str) -> Option<&'static User> {
    USERS
        .iter()
        .find(|user| user.alias.eq_ignore_ascii_case(name) || user.upn().eq_ignore_ascii_case(name))
}

/// The user with this object id.
pub(super) fn user_by_oid(oid: &str) -> Option<&'static User> {
    USERS.iter().find(|user| user.oid == oid)
}

/// Something one can get an access token for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// The gateway's own application.
    Gateway,
    /// Microsoft Graph.
    Graph,
    /// Azure Resource Manager.
    Arm,
}

impl Resource {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Gateway, Self::Graph, Self::Arm];

    /// What a scope may call it, without the slash before the scope's own name.
    pub(super) fn identifiers(self) -> &'static [&'static str] {
        match self {
            Self::Gateway => &[GATEWAY_URI, GATEWAY_CLIENT_ID],
            Self::Graph => &["https://graph.microsoft.com", "00000003-0000-0000-c000-000000000000"],
            Self::Arm => &["https://management.azure.com", "https://management.core.windows.net"],
        }
    }

    /// The delegated scopes it offers, all of them granted to every client: what `/.default` means.
    pub(super) fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::Gateway => &[GATEWAY_SCOPE],
            Self::Graph => &["User.Read", "Mail.Read"],
            Self::Arm => &["user_impersonation"],
        }
    }

    /// The roles that `app` has there.
    pub(super) fn roles_of(self, app: &App) -> &'static [&'static str] {
        match self {
            Self::Gateway => app.roles,
            Self::Graph | Self::Arm => &[],
        }
    }

    /// `aud` of a token that was asked for under `identifier`: the client id for our own
    /// application (a v2 resource), and what the client called it for Microsoft's (v1 resources).
    pub(super) fn audience(self, identifier: &str) -> String {
        match self {
            Self::Gateway => GATEWAY_CLIENT_ID.to_owned(),
            Self::Graph | Self::Arm => identifier.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_alias_in_any_case() {
        assert_eq!(user("alice@dev.local").unwrap().alias, "alice");
        assert_eq!(user("Alice@DEV.local").unwrap().alias, "alice");
        assert_eq!(user("bob").unwrap().alias, "bob");
        assert!(user("alice@example.com").is_none());
        assert!(user("").is_none());
    }

    #[test]
    fn object_ids_are_unique() {
        for user in &USERS {
            assert_eq!(user_by_oid(user.oid), Some(user));
        }
    }
}
