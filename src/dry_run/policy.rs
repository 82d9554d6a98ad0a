//! The `auth` of a route, rule by rule: each is judged as a policy with nothing else in it, by
//! [`authz::judge`], so that no rule is written down a second time.

use std::collections::BTreeMap;

use crate::authn::refusal::{shown, shown_all};
use crate::authn::supposition::Check;
use crate::authz::{self, Callers, Policy};
use crate::identity::{CallerKind, Identity};

/// A part of `auth` that a token can meet or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// What the file calls it.
    pub(super) key: &'static str,
    /// The rule alone.
    pub(super) policy: Policy,
    /// The values of it, each of which alone is enough, as policies and as they are written.
    pub(super) values: Vec<(String, Policy)>,
}

impl Rule {
    /// Whether a token meets it, or this value of it.
    pub(super) fn is_met(policy: &Policy, identity: &Identity) -> bool {
        authz::judge(policy, Some(identity)).is_ok()
    }
}

/// The rules of `policy`, in the order in which they are judged.
pub(super) fn rules(policy: &Policy) -> Vec<Rule> {
    let Policy { scopes, roles, callers, clients, tenants, claims } = policy;
    let mut rules = Vec::new();
    let alone = |change: &dyn Fn(&mut Policy)| {
        let mut alone = Policy::default();
        change(&mut alone);
        alone
    };
    if !tenants.is_empty() {
        let of = |list: &[String]| alone(&|it| it.tenants = list.to_vec());
        rules.push(Rule { key: "tenants", policy: of(tenants), values: each(tenants, of) });
    }
    if !clients.is_empty() {
        let of = |list: &[String]| alone(&|it| it.clients = list.to_vec());
        rules.push(Rule { key: "clients", policy: of(clients), values: each(clients, of) });
    }
    if *callers != Callers::Any {
        let policy = alone(&|it| it.callers = *callers);
        rules.push(Rule { key: "callers", policy, values: Vec::new() });
    }
    for (claim, wanted) in claims {
        let of = |list: &[String]| {
            alone(&|it| it.claims = BTreeMap::from([(claim.clone(), list.to_vec())]))
        };
        let values = each(wanted, of).into_iter();
        let values = values.map(|(value, policy)| (format!("{claim}: {value}"), policy)).collect();
        rules.push(Rule { key: "claims", policy: of(wanted), values });
    }
    let key = match (scopes.is_empty(), roles.is_empty()) {
        (true, true) => return rules,
        (false, true) => "scopes",
        (true, false) => "roles",
        (false, false) => "scopes or roles",
    };
    let of_scopes = |list: &[String]| alone(&|it| it.scopes = list.to_vec());
    let of_roles = |list: &[String]| alone(&|it| it.roles = list.to_vec());
    let named = |kind: &'static str, values: Vec<(String, Policy)>| {
        let both = key == "scopes or roles";
        let name = move |value: String| if both { format!("{kind} {value}") } else { value };
        values.into_iter().map(move |(value, policy)| (name(value), policy))
    };
    let values = named("scope", each(scopes, of_scopes));
    let values = values.chain(named("role", each(roles, of_roles))).collect();
    let policy = Policy { scopes: scopes.clone(), roles: roles.clone(), ..Policy::default() };
    rules.push(Rule { key, policy, values });
    rules
}

fn each(list: &[String], of: impl Fn(&[String]) -> Policy) -> Vec<(String, Policy)> {
    list.iter().map(|one| (one.clone(), of(std::slice::from_ref(one)))).collect()
}

/// Each rule of `policy` against what is known of a caller, also behind one that is not met.
pub(super) fn checks(policy: &Policy, identity: &Identity) -> Vec<Check> {
    let listed = |list: &[String]| shown_all(list.iter().map(String::as_str));
    let one = |own: Option<&str>| own.map_or_else(|| "none".to_owned(), shown);
    let check = |rule: Rule| {
        let outcome = authz::judge(&rule.policy, Some(identity));
        let Policy { scopes, roles, callers, clients, tenants, claims } = &rule.policy;
        let claim = claims.first_key_value();
        let (wanted, came) = match rule.key {
            "tenants" => (listed(tenants), one(identity.tenant.as_deref())),
            "clients" => (listed(clients), one(identity.client_id.as_deref())),
            "callers" => {
                let wanted = match callers {
                    Callers::Any => "any",
                    Callers::Users => "users",
                    Callers::Apps => "apps",
                };
                let came = match identity.kind {
                    CallerKind::User => "a user",
                    CallerKind::App => "an app",
                };
                (wanted.to_owned(), came.to_owned())
            }
            "scopes" => (listed(scopes), listed(&identity.scopes)),
            "roles" => (listed(roles), listed(&identity.roles)),
            "claims" => {
                let (name, wanted) = claim.map_or(("", &[][..]), |(name, it)| (name, it));
                let found = identity.claim(name).map(|value| value.to_string());
                (format!("{name}: {}", listed(wanted)), one(found.as_deref()))
            }
            _ => (
                format!("scope {} or role {}", listed(scopes), listed(roles)),
                format!("scopes {}, roles {}", listed(&identity.scopes), listed(&identity.roles)),
            ),
        };
        Check::of(rule.key, wanted, came, outcome)
    };
    rules(policy).into_iter().map(check).collect()
}
