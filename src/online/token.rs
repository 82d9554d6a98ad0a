//! What an upstream's token is had by: what its provider said, or the machine says.

use super::found::Found;
use super::provider::hint;
use crate::exchange::{Came, ManagedIdentityPlan, Purpose, Requested, Trial, Tried};

/// Says what came of a token for an upstream, tried at its provider.
pub(super) fn of_provider(trial: &Trial, tried: &Tried, found: &mut Found) {
    const CHECK: &str = "token";
    let (name, wanted) = (trial.provider().name(), wanted(trial.requested()));
    match (&tried.came, trial.purpose()) {
        (Came::Token, Purpose::Own | Purpose::Credential) => {
            found.ok(CHECK, format!("provider `{name}` gives the gateway a token for {wanted}"));
        }
        (Came::Token, Purpose::ForUsers) => found.ok(
            CHECK,
            format!("provider `{name}` knows {wanted}; what users consented to shows with a user only"),
        ),
        (Came::TokenForNothing, _) => found.warn(
            CHECK,
            format!("provider `{name}` gave a token for {wanted} in exchange for what is no token"),
            "it does not look at the tokens that it exchanges: see that it is not a test server",
        ),
        (Came::NotAssigned, _) => found.ok(
            CHECK,
            format!("provider `{name}` knows {wanted} (the gateway is not assigned to it by itself, which users do not need); what users consented to shows with a user only"),
        ),
        (Came::OnlySubjectRefused, _) => found.ok(
            CHECK,
            format!("provider `{name}` exchanges tokens for {wanted}: it refused nothing but what was shown in place of a user's"),
        ),
        (Came::Doubtful(told), _) => found.warn(
            CHECK,
            format!("provider `{name}` gives the gateway itself no token for {wanted}: {}", told.what),
            "users' tokens need not share that: try with a user",
        ),
        (Came::Nothing(told), _) => {
            let detail = format!("provider `{name}` gives no token for {wanted}: {}", told.what);
            found.fail(CHECK, detail, hint(told));
        }
    }
}

/// Has the machine give the token of an upstream.
pub(super) async fn of_machine(plan: &ManagedIdentityPlan, found: &mut Found) {
    const CHECK: &str = "managed_identity";
    const MACHINE: &str =
        "see that the machine has a managed identity, and that this user may ask for its tokens";
    match plan.try_out().await {
        Ok(()) => {
            found.ok(CHECK, format!("the machine gives a token for `{}`", plan.resource()));
        }
        Err(told) => {
            found.fail(CHECK, told.what, told.hint.unwrap_or_else(|| MACHINE.to_owned()));
        }
    }
}

fn wanted(requested: &Requested) -> String {
    let Requested { scopes, audiences, resources, extra_parameters: _ } = requested;
    let all: Vec<_> = [scopes, audiences, resources].into_iter().flatten().collect();
    match all.as_slice() {
        [] => "what it gives by itself".to_owned(),
        some => {
            let some: Vec<_> = some.iter().map(|one| format!("`{one}`")).collect();
            some.join(" ")
        }
    }
}
