//! A provider: its metadata, its keys, its clock, and whether it takes the gateway's credential.

use std::sync::Arc;
use std::time::Duration;

use super::found::Found;
use crate::authn::refusal::shown;
use crate::authn::{self, Cloud, Issuing, KeysFound, Provider, Tenants};
use crate::clock::Clock;
use crate::exchange::{
    Came, ClientCredential, FederatedToken, OAuthClient, Standing, Told, Trial, Tried,
};
use crate::limits;

/// Clocks that differ by more are worth a warning, whatever is allowed: they drift on.
const CLOCK_NOTICE: Duration = Duration::from_secs(30);

/// `Date` has whole seconds.
const CLOCK_ROUNDING: u64 = 1;

/// Most keys that are named one by one.
const KEYS_NAMED: usize = 5;

/// The tenant of personal accounts, where no application is at home.
const PERSONAL_ACCOUNTS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// Tries `provider`, and with `client` its credential; gives what came of `trials`, those that were
/// made: the tokens that upstreams get there.
pub(super) async fn check(
    provider: &Provider,
    client: Option<&Arc<OAuthClient>>,
    trials: &[Trial],
    clock: &dyn Clock,
    found: &mut Found,
) -> Vec<(Trial, Tried)> {
    let authn::Trial { metadata, keys, ahead } = provider.try_out().await;
    let mut answered = false;
    match &metadata {
        None => found.ok("discovery", "not needed: what it would tell is configured"),
        Some(Ok(place)) => {
            answered = true;
            found.ok("discovery", format!("{place} is there and names the configured issuer"));
        }
        Some(Err(failure)) => {
            found.fail("discovery", &*failure.what, failure.hint);
        }
    }
    match &keys {
        None => {}
        Some(Ok(keys)) => {
            answered |= keys.at.is_some();
            say_keys(keys, found);
        }
        Some(Err(failure)) => found.fail("keys", &*failure.what, failure.hint),
    }
    match ahead {
        Some(ahead) => say_clock(ahead, provider.settings().clock_skew, found),
        None if answered => {
            let hint = "see that this machine's clock is synchronised (NTP)";
            found.warn("clock", "can't be compared: its answers do not tell the time", hint);
        }
        None => {}
    }
    match client {
        Some(client) => {
            if let ClientCredential::FederatedFile(file) = &client.credential {
                let looked = file.look(clock.now()).await;
                let path = file.path().display().to_string();
                say_federated(&path, looked, provider, clock, found);
            }
            // Nobody knows where to go with it then.
            let nowhere = matches!(metadata, Some(Err(_)))
                && !provider.has_several_tenants()
                && provider.endpoints().is_none();
            if nowhere { Vec::new() } else { try_credential(client, trials, clock, found).await }
        }
        None => Vec::new(),
    }
}

fn say_keys(keys: &KeysFound, found: &mut Found) {
    let KeysFound { usable, at, refused } = keys;
    let s = if *usable == 1 { "" } else { "s" };
    let place = at.as_ref().map_or("in `jwks_file`".to_owned(), |at| format!("at {at}"));
    let detail = format!("{usable} usable key{s} {place}");
    if refused.is_empty() {
        return found.ok("keys", detail);
    }
    let some = refused.iter().take(KEYS_NAMED).cloned().collect::<Vec<_>>().join("; ");
    let more = refused.len().saturating_sub(KEYS_NAMED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let hint = "tokens signed with these are refused: only the provider can mend its keys";
    found.warn("keys", format!("{detail}; {some}{more}"), hint);
}

fn say_clock(ahead: i64, allowed: Duration, found: &mut Found) {
    let (seconds, allowed) = (ahead.unsigned_abs(), allowed.as_secs());
    let way = if ahead < 0 { "behind" } else { "ahead of" };
    let detail = if seconds == 0 {
        "the provider's clock agrees with this machine's".to_owned()
    } else {
        format!(
            "the provider's clock is {seconds} s {way} this machine's (`clock_skew` is {allowed} s)"
        )
    };
    let hint = "synchronise this machine's clock (NTP): tokens are judged by it";
    if seconds > allowed.saturating_add(CLOCK_ROUNDING) {
        found.fail("clock", detail, hint);
    } else if seconds > CLOCK_NOTICE.as_secs() {
        found.warn("clock", detail, hint);
    } else {
        found.ok("clock", detail);
    }
}

/// Says of a federated token file whether what a federated credential is compared with is there.
fn say_federated(
    path: &str,
    looked: Result<FederatedToken, String>,
    provider: &Provider,
    clock: &dyn Clock,
    found: &mut Found,
) {
    const CHECK: &str = "federated_token";
    let projected = "see that the pod's service account token is projected there (label `azure.workload.identity/use: \"true\"`), and that this user may read it";
    let FederatedToken { issuer, subject, audiences, expires_at } = match looked {
        Ok(token) => token,
        Err(why) => {
            return found.fail(CHECK, format!("`{path}` {why}"), projected);
        }
    };
    let now = clock.now();
    let (iss, sub) = (shown(&issuer), shown(&subject));
    let said = format!("`{path}`: iss {iss}, sub {sub}, aud {}", shown(&audiences.join(" ")));
    if expires_at < now {
        let ago = now.since(expires_at).as_secs();
        return found.fail(CHECK, format!("{said}; expired {ago} s ago"), projected);
    }
    let left = expires_at.since(now).as_secs() / 60;
    let said = format!("{said}; expires in {left} min");
    let wanted = exchange_audience(&provider.settings().kind);
    if !issuer.starts_with("https://") {
        let hint = "Entra fetches the issuer's keys over https: see who issues the token";
        return found.fail(CHECK, said, hint);
    }
    match wanted {
        Some(wanted) if !audiences.iter().any(|audience| audience == wanted) => {
            let hint = format!(
                "Entra's federated credentials have the audience `{wanted}` unless yours says otherwise: compare the three with the federated credential of the application"
            );
            found.warn(CHECK, said, hint);
        }
        Some(_) | None => found.ok(CHECK, said),
    }
}

/// What federated credentials of applications have as their audience, by cloud.
fn exchange_audience(kind: &Issuing) -> Option<&'static str> {
    match kind {
        Issuing::Entra { cloud, .. } => Some(match cloud {
            Cloud::Public => "api://AzureADTokenExchange",
            Cloud::UsGov => "api://AzureADTokenExchangeUSGov",
            Cloud::China => "api://AzureADTokenExchangeChina",
        }),
        Issuing::Oidc { .. } => None,
    }
}

/// Tries the credential, then what it is to get. One that is refused is not shown again: each time
/// leaves a line in the provider's log, and some count them.
async fn try_credential(
    client: &Arc<OAuthClient>,
    trials: &[Trial],
    clock: &dyn Clock,
    found: &mut Found,
) -> Vec<(Trial, Tried)> {
    let is_entra = matches!(client.provider.settings().kind, Issuing::Entra { .. });
    let tenants = tenants(&client.provider);
    let mut first_accepted = None;
    if is_entra || trials.is_empty() {
        let trial = Trial::of_credential(client);
        for tenant in tenants.iter().take(limits::MAX_TENANTS_TRIED) {
            let tried = trial.make(tenant.as_deref(), clock).await;
            let several = tenants.len() > 1;
            say_credential(client, tenant.as_deref().filter(|_| several), &tried, found);
            if tried.standing == Standing::Accepted {
                first_accepted = first_accepted.or_else(|| Some(tenant.clone()));
            }
        }
        let left = tenants.len().saturating_sub(limits::MAX_TENANTS_TRIED);
        if left > 0 {
            let detail = format!("{left} more of `allowed_tenants` were not tried");
            found.warn("credential", detail, "split the provider to have all of them tried");
        }
        let Some(tenant) = first_accepted else { return Vec::new() };
        return make_all(trials, tenant.as_deref(), clock).await;
    }
    let tried = make_all(trials, None, clock).await;
    // Whichever shows something speaks for the credential.
    let telling = tried.iter().find(|(_, tried)| tried.standing != Standing::Unknown);
    if let Some((_, tried)) = telling.or(tried.first()) {
        say_credential(client, None, tried, found);
    }
    tried
}

async fn make_all(
    trials: &[Trial],
    tenant: Option<&str>,
    clock: &dyn Clock,
) -> Vec<(Trial, Tried)> {
    let mut made = Vec::new();
    for trial in trials {
        let tried = trial.make(tenant, clock).await;
        let refused = tried.standing == Standing::Refused;
        made.push((trial.clone(), tried));
        if refused {
            break;
        }
    }
    made
}

/// The tenants that a credential is tried in; one that is nobody's where there are none.
fn tenants(provider: &Provider) -> Vec<Option<String>> {
    let Issuing::Entra { tenants, .. } = &provider.settings().kind else { return vec![None] };
    match tenants {
        Tenants::One(tenant) => vec![Some(tenant.clone())],
        Tenants::Domain(_) => vec![None],
        Tenants::Several { allowed, .. } => {
            let at_home = allowed.iter().filter(|tenant| *tenant != PERSONAL_ACCOUNTS);
            at_home.cloned().map(Some).collect()
        }
    }
}

fn say_credential(client: &OAuthClient, tenant: Option<&str>, tried: &Tried, found: &mut Found) {
    const CHECK: &str = "credential";
    let place = tenant.map(|tenant| format!(" in tenant {tenant}")).unwrap_or_default();
    let whose = format!("{} of client `{}`{place}", client.credential.kind(), client.client_id);
    let Tried { standing, came } = tried;
    match (standing, came) {
        (Standing::Accepted, Came::Token) => {
            found.ok(CHECK, format!("{whose}: accepted, and a token was given"));
        }
        (Standing::Accepted, Came::OnlySubjectRefused) => found.ok(
            CHECK,
            format!("{whose}: accepted; what was shown in place of a user's token was refused, as it must be"),
        ),
        (Standing::Accepted, Came::NotAssigned) => found.ok(
            CHECK,
            format!("{whose}: accepted; a token for itself was refused, as it is not assigned to itself"),
        ),
        (Standing::Accepted, Came::Doubtful(told) | Came::Nothing(told)) => {
            found.ok(CHECK, format!("{whose}: accepted, though the request was refused: {}", told.what));
        }
        (Standing::Refused, Came::Doubtful(told) | Came::Nothing(told)) => {
            found.fail(CHECK, format!("{whose}: refused: {}", told.what), hint(told));
        }
        (Standing::Unknown, Came::Doubtful(told) | Came::Nothing(told)) => {
            found.fail(CHECK, format!("{whose}: {}", told.what), hint(told));
        }
        (_, Came::TokenForNothing) => found.warn(
            CHECK,
            format!("{whose}: a token was given in exchange for what is no token, which shows nothing of it"),
            "the provider does not look at what it exchanges: see that it is not a test server",
        ),
        (
            Standing::Refused | Standing::Unknown,
            Came::Token | Came::OnlySubjectRefused | Came::NotAssigned,
        ) => found.warn(
            CHECK,
            format!("{whose}: what was answered does not show whether it is accepted"),
            "see the provider's log of this moment",
        ),
    }
}

/// What to do about a token that was not given; what came may say nothing of that.
pub(super) fn hint(told: &Told) -> String {
    told.hint.clone().unwrap_or_else(|| {
        "see that this machine may call its token endpoint, and what its log says of this moment"
            .to_owned()
    })
}
