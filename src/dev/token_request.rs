//! The form of a token request and the client that sent it (RFC 6749 §2.3, §3.2).
//!
//! Decides whether the client is who it says. What it wants is the grants' affair.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::Value;

use crate::dev::answer::{Asked, parameter};
use crate::dev::directory::{App, app};
use crate::dev::token_error::{FACTOR_POLICY, Refusal};
use crate::secret::Secret;

/// The parameters of a token request. No `Debug`: there are secrets in it.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads the body. One that is not a form is an empty form, as at Entra.
    pub(super) fn parse(asked: &Asked) -> Result<Self, Refusal> {
        let content_type = asked.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.and_then(|value| value.split(';').next()).unwrap_or("");
        if !content_type.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Ok(Self(Vec::new()));
        }
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(asked.body()).into_owned().collect();
        let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if let Some([twice, _]) = names.array_windows().find(|[name, next]| name == next) {
            return Err(Refusal::DuplicateParameter((*twice).to_owned()));
        }
        Ok(Self(pairs))
    }

    /// A parameter that may be missing; an empty one counts as missing.
    pub(super) fn optional(&self, name: &str) -> Option<&str> {
        parameter(&self.0, name).filter(|value| !value.is_empty())
    }

    /// A parameter that must be there.
    pub(super) fn required(&self, name: &'static str) -> Result<&str, Refusal> {
        self.optional(name).ok_or(Refusal::MissingParameter(name))
    }

    /// Whether `claims` declares the client capability `cp1`.
    pub(super) fn declares_cp1(&self) -> Result<bool, Refusal> {
        self.claims_ask("/access_token/xms_cc/values", "cp1")
    }

    /// Whether `claims` asks that the user meets the policy for which exchanges of some users are
    /// refused: what a client repeats from a claims challenge.
    pub(super) fn asks_for_factor(&self) -> Result<bool, Refusal> {
        self.claims_ask("/access_token/polids/values", FACTOR_POLICY)
    }

    /// Whether `claims` has `wanted` in the list at `place` (OpenID Connect Core §5.5.1).
    fn claims_ask(&self, place: &str, wanted: &str) -> Result<bool, Refusal> {
        let Some(claims) = self.optional("claims") else { return Ok(false) };
        let claims: Option<Value> = serde_json::from_str(claims).ok();
        let claims = claims.filter(Value::is_object).ok_or(Refusal::InvalidParameter("claims"))?;
        let values = claims.pointer(place).and_then(Value::as_array);
        Ok(values.is_some_and(|values| values.iter().any(|value| value == wanted)))
    }
}

/// The client, once it has shown its secret if it has one.
pub(super) fn client(form: &Form, headers: &HeaderMap) -> Result<&'static App, Refusal> {
    let basic = basic(headers)?;
    let basic = basic.as_ref().map(|(id, secret)| (id.as_str(), secret.as_str()));
    let client_id = match (form.optional("client_id"), basic) {
        (Some(id), Some((other, _))) if id != other => {
            return Err(Refusal::InvalidParameter("client_id"));
        }
        (Some(id), _) | (None, Some((id, _))) => id,
        (None, None) => return Err(Refusal::MissingParameter("client_id")),
    };
    let app = app(client_id).ok_or_else(|| Refusal::UnknownApplication(client_id.to_owned()))?;
    let secret = form.optional("client_secret").or(basic.map(|(_, secret)| secret));
    let assertion = form.optional("client_assertion");
    match (app.secret, secret, assertion) {
        (None, None, None) => Ok(app),
        (None, _, _) => Err(Refusal::PublicClientWithCredential),
        (Some(_), None, None) => Err(Refusal::NoClientCredential),
        // No application of the tenant has a certificate or a federated credential.
        (Some(_), _, Some(_)) => Err(Refusal::UnregisteredKey),
        (Some(own), Some(secret), None) => {
            if Secret::new(own.to_owned()).matches(secret.as_bytes()) {
                Ok(app)
            } else {
                Err(Refusal::WrongSecret)
            }
        }
    }
}

/// Id and secret of HTTP Basic, each form-encoded (RFC 6749 §2.3.1).
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, Refusal> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let decoded = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, credentials)| STANDARD.decode(credentials.trim()).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (id, secret) = pair.ok_or(Refusal::InvalidParameter("Authorization"))?;
    Ok(Some((form_decoded(id), form_decoded(secret))))
}

fn form_decoded(text: &str) -> String {
    // As the name of a pair without a value, except that `&` and `=` are not in an encoded text.
    url::form_urlencoded::parse(text.as_bytes())
        .next()
        .map(|(name, _)| name.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::directory::{
        DAEMON_CLIENT_ID, GATEWAY_CLIENT_ID, GATEWAY_SECRET, PUBLIC_CLIENT_ID,
    };
    use bytes::Bytes;
    use http::{HeaderValue, Request};

    fn form(body: &str) -> Result<Form, Refusal> {
        let request = Request::post("/").header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        Form::parse(&request.body(Bytes::from(body.to_owned())).unwrap())
    }

    fn judged(body: &str, authorization: Option<&str>) -> Result<&'static str, Refusal> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        client(&form(body)?, &headers).map(|app| app.client_id)
    }

    #[test]
    fn a_confidential_client_shows_its_secret_and_a_public_one_has_none() {
        let id = format!("client_id={GATEWAY_CLIENT_ID}");
        let good = format!("{id}&client_secret={GATEWAY_SECRET}");
        assert_eq!(judged(&good, None), Ok(GATEWAY_CLIENT_ID));
        let wrong = format!("{id}&client_secret=dev-daemon-secret");
        assert_eq!(judged(&wrong, None), Err(Refusal::WrongSecret));
        assert_eq!(judged(&id, None), Err(Refusal::NoClientCredential));
        assert_eq!(judged(&format!("{id}&client_secret="), None), Err(Refusal::NoClientCredential));
        let assertion = format!("{id}&client_assertion=a.b.c");
        assert_eq!(judged(&assertion, None), Err(Refusal::UnregisteredKey));

        let public = format!("client_id={PUBLIC_CLIENT_ID}");
        assert_eq!(judged(&public, None), Ok(PUBLIC_CLIENT_ID));
        let with_secret = format!("{public}&client_secret=x");
        assert_eq!(judged(&with_secret, None), Err(Refusal::PublicClientWithCredential));

        assert_eq!(judged("client_id=x", None), Err(Refusal::UnknownApplication("x".into())));
        assert_eq!(judged("", None), Err(Refusal::MissingParameter("client_id")));
    }

    #[test]
    fn http_basic_is_taken_too() {
        let basic = |text: &str| Some(format!("Basic {}", STANDARD.encode(text)));
        let good = basic(&format!("{DAEMON_CLIENT_ID}:dev%2Ddaemon-secret"));
        assert_eq!(judged("", good.as_deref()), Ok(DAEMON_CLIENT_ID));
        let wrong = basic(&format!("{DAEMON_CLIENT_ID}:x"));
        assert_eq!(judged("", wrong.as_deref()), Err(Refusal::WrongSecret));
        let other = format!("client_id={GATEWAY_CLIENT_ID}");
        assert_eq!(judged(&other, good.as_deref()), Err(Refusal::InvalidParameter("client_id")));
        for broken in ["Basic", "Basic *", "Bearer x", &basic("no colon").unwrap()] {
            let refused = Err(Refusal::InvalidParameter("Authorization"));
            assert_eq!(judged("", Some(broken)), refused, "{broken}");
        }
    }

    #[test]
    fn a_parameter_comes_once() {
        assert!(form("a=1&b=2").is_ok());
        assert_eq!(form("a=1&b=2&a=3").err(), Some(Refusal::DuplicateParameter("a".into())));
    }

    #[test]
    fn what_is_not_a_form_is_an_empty_one() {
        let request = Request::post("/").header(CONTENT_TYPE, "application/json");
        let form = Form::parse(&request.body(Bytes::from("a=1")).unwrap()).unwrap();
        assert_eq!(form.optional("a"), None);
    }

    #[test]
    fn claims_are_a_json_object() {
        let cp1 = "claims=%7B%22access_token%22%3A%7B%22xms_cc%22%3A%7B%22values%22%3A%5B%22cp1%22%5D%7D%7D%7D";
        assert_eq!(form(cp1).unwrap().declares_cp1(), Ok(true));
        assert_eq!(form("claims=%7B%7D").unwrap().declares_cp1(), Ok(false));
        assert_eq!(form("").unwrap().declares_cp1(), Ok(false));
        let refused = Err(Refusal::InvalidParameter("claims"));
        assert_eq!(form("claims=%5B%5D").unwrap().declares_cp1(), refused);
        assert_eq!(form("claims=nope").unwrap().declares_cp1(), refused);
    }
}
