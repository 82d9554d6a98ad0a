//! What the errors of a token endpoint mean, as data: a class, and one sentence for the operator.
//!
//! Three tables: Entra's `AADSTS` numbers, its suberrors, and the `error` values of RFC 6749
//! §5.2 and its kin. Which of them speaks when an answer holds several is decided in
//! `answer.rs`. In a sentence `{client}`, `{provider}`, `{tenant}` and `{scopes}` are filled in.

use crate::rejection::Code;

#[cfg(test)]
mod page;

/// Who has to act on a refused exchange, and so what the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The user has to interact: sign in again, pass a second factor, enrol.
    Interaction,
    /// Nobody consented to what the upstream needs.
    Consent,
    /// The user may not, whatever they do at a sign-in page.
    NotAllowed,
    /// The inbound token, or the session behind it, is over.
    Expired,
    /// The inbound token is not accepted as an assertion.
    Invalid,
    /// The provider refuses the gateway itself: its operator has to act.
    Gateway,
    /// The provider is down, slow or throttling.
    Unavailable,
}

impl Class {
    /// The code of the rejection.
    pub(super) fn code(self) -> Code {
        match self {
            Self::Interaction => Code::ClaimsChallenge,
            Self::Consent => Code::ConsentRequired,
            Self::NotAllowed => Code::CallerNotAllowed,
            Self::Expired => Code::TokenExpired,
            Self::Invalid => Code::TokenInvalid,
            Self::Gateway => Code::ExchangeFailed,
            Self::Unavailable => Code::ProviderUnavailable,
        }
    }

    /// The sentence for the caller.
    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::Interaction => "The identity provider wants the user to sign in again.",
            Self::Consent => "Neither the user nor an administrator consented to this use.",
            Self::NotAllowed => "The identity provider does not allow this user here.",
            Self::Expired => "The identity provider says that the bearer token has expired.",
            Self::Invalid => "The identity provider does not accept the bearer token.",
            Self::Gateway => "The gateway could not get a token for the service.",
            Self::Unavailable => "The identity provider is not available; try again later.",
        }
    }
}

/// A row of a table. Where there is something to do, it stands behind the one `; ` of the sentence.
pub(super) type Row = (Class, &'static str);

/// The sentence of a row in parts: what it means, and what there is to do. It is to be parted before its places are
/// filled in, as what is filled in is not ours.
pub(super) fn parts(sentence: &'static str) -> (&'static str, Option<&'static str>) {
    match sentence.split_once("; ") {
        Some((cause, remedy)) => (cause, Some(remedy)),
        None => (sentence, None),
    }
}

/// The meaning of an `AADSTS` number.
#[rustfmt::skip] // A table is read by its rows.
pub(super) fn number(number: u64) -> Option<Row> {
    use Class::{Consent, Expired, Gateway, Interaction, Invalid, NotAllowed, Unavailable};
    Some(match number {
        // The assertion, which is the inbound token.
        50_013 => (Invalid, "the inbound token is not accepted as an assertion (signature, issuer or lifetime); the caller needs a fresh token of tenant {tenant}"),
        500_131 => (Gateway, "the inbound token is for another application than {client}; let `audiences` of provider `{provider}` name this application only, or correct its `client_id`"),
        500_133 => (Expired, "the inbound token has expired; the caller needs a fresh one"),
        240_002 => (Invalid, "the inbound token is an ID token; the caller has to send an access token for application {client}"),
        50_057 => (Invalid, "the user's account is disabled; enable it in tenant {tenant} if that is a mistake"),
        50_173 => (Expired, "the user's sign-in was revoked, as by a new password; the user has to sign in again"),
        50_132 | 50_133 => (Expired, "the user's session is over or was revoked; the user has to sign in again"),
        70_008 => (Expired, "the user's sign-in has lapsed; the user has to sign in again"),
        700_082 => (Expired, "the user's sign-in has lapsed by inactivity; the user has to sign in again"),
        70_043 => (Expired, "the user's sign-in is older than Conditional Access allows; the user has to sign in again"),

        // The user has to do something at a sign-in page.
        50_076 => (Interaction, "the user has to pass multi-factor authentication; the client has to sign the user in again"),
        50_079 => (Interaction, "the user has to enrol for multi-factor authentication; the client has to sign the user in again"),
        50_072 => (Interaction, "the user has to enrol for a second factor; the client has to sign the user in again"),
        50_074 => (Interaction, "the user has to pass strong authentication; the client has to sign the user in again"),
        50_078 => (Interaction, "the user's multi-factor authentication has lapsed; the client has to sign the user in again"),
        50_158 => (Interaction, "an external security challenge is open; the client has to sign the user in again"),
        50_097 => (Interaction, "the user's device has to authenticate; the client has to sign the user in again"),
        50_055 | 50_144 => (Interaction, "the user's password has expired; the client has to sign the user in again"),
        50_125 => (Interaction, "the user has to register for password reset or to set a new password; the client has to sign the user in again"),
        16_000 | 50_058 => (Interaction, "the user has to sign in or to choose an account; the client has to sign the user in again"),

        // The user may not.
        50_105 => (NotAllowed, "the user is not assigned to application {client}; assign the user or a group to it in tenant {tenant}"),
        50_131 => (NotAllowed, "Conditional Access blocks this user here; the sign-in log of tenant {tenant} names the policy"),
        53_000 => (NotAllowed, "the user's device is not compliant, which a Conditional Access policy asks for"),
        53_001 => (NotAllowed, "the user's device is not joined to the domain, which a Conditional Access policy asks for"),
        53_002 => (NotAllowed, "the user's app is not an approved one, which a Conditional Access policy asks for"),
        53_003 => (NotAllowed, "a Conditional Access policy blocks the user; the sign-in log of tenant {tenant} names it"),
        530_032 => (NotAllowed, "a security policy of tenant {tenant} blocks the user; its sign-in log names the policy"),
        50_020 | 50_034 => (NotAllowed, "the user's account does not exist in tenant {tenant}; invite the user there, or let the client sign in with an account of it"),
        50_053 => (NotAllowed, "the user's account is locked after too many sign-ins; unlock it in tenant {tenant}, or wait"),
        500_212 => (NotAllowed, "the user's home tenant does not let its users into tenant {tenant}; its outbound cross-tenant access settings decide that"),
        500_213 => (NotAllowed, "tenant {tenant} does not let the user in; its inbound cross-tenant access settings decide that"),

        // Consent.
        65_001 => (Consent, "neither the user nor an administrator consented to {scopes} for application {client}"),
        65_004 => (Consent, "the user declined to consent to {scopes} for application {client}"),
        90_094 | 90_095 => (Consent, "{scopes} need the consent of an administrator for application {client}"),

        // The gateway's secret or certificate.
        7_000_215 => (Gateway, "the client secret is wrong; put the value (not the id) of a secret of application {client} into `credential.client_secret`"),
        7_000_222 => (Gateway, "the client secret expired; make a new one for application {client} and update `credential.client_secret`"),
        7_000_216 | 7_000_218 => (Gateway, "no client credential arrived; set `credential` of provider `{provider}` for application {client}"),
        700_024 => (Gateway, "the client assertion is outside its time window; set the clock of this machine"),
        700_025 => (Gateway, "application {client} is a public client and takes no credential; register it as a web application"),
        700_027 => (Gateway, "the client assertion is signed with a key that application {client} does not have; upload the certificate of `credential` to it"),
        7_000_214 => (Gateway, "the certificate of application {client} is revoked; make a new one and update `credential`"),
        1_000_502 => (Gateway, "the certificate of application {client} has expired; make a new one and update `credential`"),
        50_012 | 7_000_274 | 7_000_277 => (Gateway, "the credential of application {client} is not accepted; compare its secrets and certificates with `credential`"),
        700_021 => (Gateway, "the client assertion is of another application than {client}; correct `client_id` of provider `{provider}`, or its `credential`"),
        700_023 => (Gateway, "the client assertion is for another audience than tenant {tenant}; correct `tenant` of provider `{provider}`, and its `cloud`"),
        70_021 | 700_211 | 700_212 | 700_213 => (Gateway, "no federated identity credential of application {client} has the issuer, subject and audience of the token that `credential` shows; add one with exactly these"),
        700_229 => (Gateway, "the federated credential is not an application's token; use a user-assigned managed identity"),

        // The registration of the gateway.
        650_056 => (Gateway, "application {client} is misconfigured; give it the API permissions of {scopes} and consent to them"),
        65_005 | 650_057 => (Gateway, "the resource of {scopes} is not among the API permissions of application {client}; add it"),
        700_016 => (Gateway, "application {client} is unknown in tenant {tenant}; correct `client_id`, or consent to the application there"),
        700_011 => (Gateway, "application {client} has no matching reply address or is unknown in tenant {tenant}; correct its registration or `client_id`"),
        90_002 => (Gateway, "tenant {tenant} is unknown; correct `tenant` of provider `{provider}`, and its `cloud`"),
        500_011 => (Gateway, "the resource of {scopes} is unknown in tenant {tenant}; correct `scopes`, or add the resource's service principal"),
        50_001 | 500_014 => (Gateway, "the resource of {scopes} is disabled or unknown in tenant {tenant}; correct `scopes`, or enable the resource's service principal"),
        50_194 => (Gateway, "application {client} is registered for one tenant only, and tenant {tenant} is another; make it multi-tenant, or let `allowed_tenants` name its own"),
        50_146 => (Gateway, "application {client} has a signing key of its own, with which it can't act on behalf of users; use an application without claims mapping for the gateway"),
        7_000_112 => (Gateway, "application {client} is disabled; enable it in tenant {tenant}"),
        7_000_114 => (Gateway, "application {client} may not make on-behalf-of requests; use an application of its own for the gateway"),
        70_011 => (Gateway, "{scopes} are not valid as scopes; write one resource's `…/.default` or its scopes"),
        700_022 => (Gateway, "{scopes} are of several resources; keep one resource for each upstream"),
        9_001_023 => (Gateway, "the grant is not supported at this authority; set `tenant` of provider `{provider}` to one tenant"),
        900_382 | 900_432 => (Gateway, "application, tenant and resource are of different clouds; correct `cloud` of provider `{provider}`"),
        90_013 => (Gateway, "the request is not valid for application {client}; compare `scopes` and `client_id` with its registration"),

        // Passing troubles; 50196 comes as `invalid_grant` all the same.
        50_196 => (Unavailable, "a loop was detected: this client asks for the same token again and again; look for a client that repeats a refused request"),
        90_055 => (Unavailable, "tenant {tenant} is throttled; lower the number of exchanges"),
        50_033 | 50_087 | 90_006 | 90_012 | 90_024 | 90_033 | 90_090 => (Unavailable, "a passing error at the provider; nothing to do unless it stays"),
        _ => return None,
    })
}

/// The meaning of a `suberror`.
#[rustfmt::skip] // A table is read by its rows.
pub(super) fn suberror(suberror: &str) -> Option<Row> {
    use Class::{Consent, Expired, Gateway, Interaction, Invalid, NotAllowed};
    Some(match suberror {
        "basic_action" | "additional_action" => (Interaction, "the user has to act at a sign-in page; the client has to sign the user in again"),
        "user_password_expired" => (Interaction, "the user's password has expired; the client has to sign the user in again"),
        "consent_required" => (Consent, "consent to {scopes} is missing for application {client}"),
        // A page would only show a message: signing in does not help.
        "message_only" => (NotAllowed, "a policy of tenant {tenant} blocks the user; its sign-in log names it"),
        "protection_policy_required" => (NotAllowed, "an app protection policy of tenant {tenant} does not admit the user's client"),
        "bad_token" => (Invalid, "the inbound token is not accepted; the caller needs a fresh one"),
        "token_expired" => (Expired, "the inbound token has expired; the caller needs a fresh one"),
        "client_mismatch" => (Gateway, "the inbound token belongs to another application family than {client}; check the registration of application {client}"),
        _ => return None,
    })
}

/// The meaning of a bare `error`.
#[rustfmt::skip] // A table is read by its rows.
pub(super) fn error(error: &str) -> Option<Row> {
    use Class::{Consent, Expired, Gateway, Interaction, Invalid, NotAllowed, Unavailable};
    Some(match error {
        "interaction_required" | "login_required" | "account_selection_required" | "insufficient_claims" | "insufficient_user_authentication" | "unmet_authentication_requirements" | "mfa_required"
            => (Interaction, "the user has to act at a sign-in page; the client has to sign the user in again"),
        "consent_required" => (Consent, "consent to {scopes} is missing for application {client}"),
        "access_denied" => (NotAllowed, "the provider denies this user access through application {client}; its log and its policies for the two say why"),
        "invalid_grant" | "invalid_token" => (Invalid, "the inbound token is not accepted as an assertion; the caller needs a fresh one"),
        "expired_token" => (Expired, "the inbound token has expired; the caller needs a fresh one"),
        "invalid_client" => (Gateway, "the provider does not accept `client_id` {client} with its `credential`; compare both with the registration"),
        "unauthorized_client" => (Gateway, "application {client} may not make this kind of exchange, or its `credential` is wrong; allow the exchange in its registration, and compare the credential with it"),
        "invalid_scope" => (Gateway, "{scopes} are not accepted; correct `scopes` of the upstream"),
        "invalid_resource" | "invalid_target" => (Gateway, "what {scopes} are for is unknown to the provider, or not open to application {client}; correct `scopes` of the upstream, and `audience` and `resource` where they are set"),
        "invalid_request" => (Gateway, "the request is not valid for application {client}, or the inbound token is not accepted in it; compare what the upstream's `token` asks for with the registration"),
        "unsupported_grant_type" | "unsupported_response_type" => (Gateway, "the provider does not know this kind of exchange; correct `exchange` or `type` of provider `{provider}`, or its token endpoint, and see that application {client} may make such requests"),
        "unsupported_token_type" => (Gateway, "the provider exchanges no token of this type; correct `exchange` of provider `{provider}`"),
        "invalid_dpop_proof" | "use_dpop_nonce" => (Gateway, "the provider wants DPoP of application {client}, which gives tokens that no upstream takes from here; turn that off in its registration"),
        "temporarily_unavailable" | "server_error" | "slow_down" => (Unavailable, "the provider has a passing error; nothing to do unless it stays"),
        "too_many_requests" => (Unavailable, "the provider throttles us; lower the number of exchanges"),
        _ => return None,
    })
}

/// What Keycloak and Auth0 say in words only: it is the gateway's own client that they refuse, or
/// what it asks for, while the `error` would put it down to the user. The words are compared and
/// never shown.
#[rustfmt::skip] // A table is read by its rows.
pub(super) fn described(error: &str, description: &str) -> Option<Row> {
    const EXCHANGE: &str = "application {client} may not exchange this token; allow token exchange in its registration, and let the tokens of callers name it in `aud`";
    const AUDIENCE: &str = "the audience asked for is unknown to the provider, or not open to application {client}; correct `audience` of the upstream's `token`, or open it to the application";
    let rows = [
        ("access_denied", "Client ", EXCHANGE),
        ("access_denied", "Public client ", EXCHANGE),
        ("invalid_request", "Standard token exchange is not enabled", EXCHANGE),
        ("access_denied", "Service not found", AUDIENCE),
        ("invalid_client", "Audience not found", AUDIENCE),
        ("invalid_request", "Requested audience not available", AUDIENCE),
        // Of a wrong secret; a user who is denied has a reason.
        ("access_denied", "Unauthorized", "the provider does not accept `client_id` {client} with its `credential`; compare both with the registration"),
    ];
    let row = rows.iter().find(|(own, words, _)| *own == error && description.starts_with(words));
    row.map(|(_, _, advice)| (Class::Gateway, *advice))
}

/// Whether the answer of a provider of OpenID Connect to a request, with this `error`, shows that it knows the
/// client and took its credential, or that it did not; `None` where it shows neither.
///
/// Clients are authenticated before anything else is judged (RFC 6749 §3.2.1), and `invalid_client` says
/// that this failed (§5.2). Keycloak and Auth0 say other things, too.
pub(super) fn took_credential(error: &str, description: Option<&str>) -> Option<bool> {
    let begins = |words: &str| description.is_some_and(|text| text.starts_with(words));
    match error {
        // Keycloak, of an audience that is unknown.
        "invalid_client" => Some(begins("Audience not found")),
        // Auth0, of a wrong secret.
        "access_denied" => Some(!begins("Unauthorized")),
        // Keycloak says it of wrong secrets, too.
        "unauthorized_client" if begins("Client not enabled to retrieve service account") => {
            Some(true)
        }
        "invalid_grant"
        | "invalid_token"
        | "expired_token"
        | "invalid_request"
        | "invalid_scope"
        | "invalid_target"
        | "invalid_resource"
        | "unsupported_token_type" => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_the_reference_is_known_and_others_are_not() {
        let reference = [
            50_013, 500_131, 500_133, 240_002, 50_076, 50_079, 50_072, 50_074, 50_078, 50_158,
            50_097, 50_105, 50_131, 53_000, 53_001, 53_003, 530_032, 50_057, 50_173, 70_008,
            700_082, 70_043, 50_196, 65_001, 90_094, 65_004, 650_056, 650_057, 700_016, 700_011,
            90_002, 500_011, 7_000_215, 7_000_222, 7_000_218, 7_000_112, 7_000_114, 700_024,
            700_025, 700_027, 70_011, 700_022, 9_001_023, 700_229, 900_382, 900_432, 90_055,
            50_033, 50_087, 90_006, 90_012, 90_024, 90_033, 90_090, 90_013,
        ];
        for known in reference {
            assert!(number(known).is_some(), "AADSTS{known}");
        }
        assert_eq!(number(50_014), None);
        assert_eq!(number(0), None);
    }

    #[test]
    fn a_refused_client_is_told_from_a_refused_request() {
        for (error, description, expected) in [
            ("invalid_client", Some("Invalid client credentials"), Some(false)),
            ("invalid_client", None, Some(false)),
            ("invalid_client", Some("Audience not found"), Some(true)),
            ("access_denied", Some("Unauthorized"), Some(false)),
            ("access_denied", Some("Client not allowed to exchange"), Some(true)),
            ("unauthorized_client", Some("Invalid client or Invalid client credentials"), None),
            (
                "unauthorized_client",
                Some("Client not enabled to retrieve service account"),
                Some(true),
            ),
            ("unauthorized_client", None, None),
            ("invalid_grant", None, Some(true)),
            ("invalid_token", Some("Invalid token"), Some(true)),
            ("unsupported_grant_type", None, None),
            ("server_error", None, None),
        ] {
            assert_eq!(took_credential(error, description), expected, "{error} {description:?}");
        }
    }

    #[test]
    fn signs_are_compared_exactly() {
        assert!(suberror("bad_token").is_some());
        assert_eq!(suberror("bad_token "), None);
        assert!(error("invalid_grant").is_some());
        assert_eq!(error("Invalid_Grant"), None);
    }
}
