//! A federated token in a file, as Azure workload identity projects it into a pod: its content
//! is the client assertion.
//!
//! It is read for each exchange: that takes a fraction of a millisecond beside a call of a
//! hundred, and a token that was rotated is used at once.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::advice::Class;
use super::failure::ExchangeError;
use crate::authn::json::{self, Value};
use crate::clock::UnixTime;
use crate::limits;
use crate::regular_file;
use crate::secret::Secret;

/// `federated_token_file` of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederatedFile(PathBuf);

/// What the token in such a file says, for people: nothing of it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederatedToken {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `aud`, one or several.
    pub audiences: Vec<String>,
    /// `exp`.
    pub expires_at: UnixTime,
}

impl FederatedFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What the token in it says: it must be whole, and name what a federated credential of an
    /// application is compared with. Whether it is genuine is for the provider to say.
    ///
    /// # Errors
    ///
    /// What is wrong with it; goes on after "the file".
    pub async fn look(&self, now: UnixTime) -> Result<FederatedToken, String> {
        let path = self.0.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let text = read(&path).map_err(|error| format!("can't be read: {error}"))?;
            said(judge(&text, now)?)
        });
        looked.await.unwrap_or_else(|_panicked| Err("can't be read".to_owned()))
    }

    /// The token in the file at `path`, which need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The token as it is now. A disk that hangs holds up nobody else.
    ///
    /// # Errors
    ///
    /// There is none, or one that no provider would take: says what to do, and nothing of the
    /// content.
    pub(super) async fn token(&self, now: UnixTime) -> Result<Secret, ExchangeError> {
        let path = self.0.clone();
        let read = tokio::task::spawn_blocking(move || {
            let text = read(&path).map_err(|error| format!("can't be read: {error}"))?;
            judge(&text, now).map(str::to_owned)
        });
        let read = read.await.map_err(|_panicked| {
            ExchangeError::internal("the task that reads a federated token ended early")
        })?;
        read.map(Secret::new).map_err(|why| {
            let what = format!("the federated token file `{}` {why}", self.0.display());
            ExchangeError::new(Class::Gateway, what).with_remedy("see that the pod's service account token is projected there (label `azure.workload.identity/use: \"true\"`), and that this user may read it")
        })
    }
}

fn read(path: &Path) -> io::Result<String> {
    let file = regular_file::open(path)?;
    let mut text = String::new();
    let most = limits::MAX_TOKEN_BYTES as u64;
    file.take(most + 1).read_to_string(&mut text)?;
    if text.len() > limits::MAX_TOKEN_BYTES {
        return Err(io::Error::other(format!("it is larger than {} KiB", most / 1024)));
    }
    Ok(text)
}

/// The token in `text`, or what is wrong with it. Whether it is genuine is for the provider to say.
fn judge(text: &str, now: UnixTime) -> Result<&str, String> {
    let token = text.trim();
    if token.is_empty() {
        return Err("is empty".to_owned());
    }
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("holds no JWT (three parts with dots between)".to_owned());
    };
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("holds no JWT (there is a space or a control character in it)".to_owned());
    }
    let expired = expires_at(claims).filter(|end| end.plus(limits::CLOCK_DIFFERENCE) < now);
    match expired {
        Some(end) => Err(format!(
            "holds a token that expired {} s ago (exp {end}, now {now}): nobody rotates it, or a clock is wrong",
            now.since(end).as_secs(),
        )),
        None => Ok(token),
    }
}

/// The claims of `token`, which was judged.
fn said(token: &str) -> Result<FederatedToken, String> {
    let claims = token.split('.').nth(1).unwrap_or_default();
    let claims = URL_SAFE_NO_PAD.decode(claims).ok();
    let claims = claims.as_deref().and_then(|text| json::object(text).ok());
    let claims = claims.ok_or("holds no JWT (its second part is no JSON object)")?;
    let text = |name: &str| {
        let value = claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        value.map(str::to_owned).ok_or_else(|| format!("holds a token without `{name}`"))
    };
    let audiences = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.to_string()],
        Some(Value::Array(several)) => {
            several.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
            Vec::new()
        }
    };
    if audiences.is_empty() {
        return Err("holds a token without `aud`".to_owned());
    }
    let expires_at = claims.get("exp").and_then(second);
    Ok(FederatedToken {
        issuer: text("iss")?,
        subject: text("sub")?,
        audiences,
        expires_at: expires_at.ok_or("holds a token without `exp`")?,
    })
}

/// `exp`, where it can be read.
fn expires_at(claims: &str) -> Option<UnixTime> {
    let text = URL_SAFE_NO_PAD.decode(claims).ok()?;
    json::object(&text).ok()?.get("exp").and_then(second)
}

fn second(time: &Value<'_>) -> Option<UnixTime> {
    time.as_number()?.as_u64().map(UnixTime)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NOW: UnixTime = UnixTime(1_767_225_600);

    fn jwt(exp: u64) -> String {
        let claims = URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{exp}}}"));
        format!("hunter2-header.{claims}.hunter2-signature")
    }

    #[test]
    fn a_token_is_taken_as_it_is_less_the_space_around() {
        let good = jwt(NOW.0 + 10);
        assert_eq!(judge(&format!(" {good}\r\n"), NOW), Ok(good.as_str()));
        // Clocks differ; the provider has the last word.
        assert!(judge(&jwt(NOW.0 - 300), NOW).is_ok());
        assert!(judge(&jwt(NOW.0 - 301), NOW).unwrap_err().contains("expired 301 s ago"));
        assert_eq!(judge("a.b.c", NOW), Ok("a.b.c"));
        for (text, sign) in [
            ("", "is empty"),
            (" \n", "is empty"),
            ("a.b", "holds no JWT"),
            ("a.b.c.d", "holds no JWT"),
            ("a.b c.d", "holds no JWT"),
        ] {
            assert!(judge(text, NOW).unwrap_err().contains(sign), "{text}");
        }
    }

    #[test]
    fn what_a_federated_credential_is_compared_with_must_be_there() {
        let token = |claims: &str| format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims));
        let good =
            r#"{"iss":"https://i","sub":"system:serviceaccount:a:b","aud":["api://x"],"exp":9}"#;
        let read = said(&token(good)).unwrap();
        assert_eq!((read.issuer.as_str(), read.expires_at), ("https://i", UnixTime(9)));
        assert_eq!(read.audiences, ["api://x"]);
        for (without, sign) in [
            (r#""iss":"https://i","#, "`iss`"),
            (r#""sub":"system:serviceaccount:a:b","#, "`sub`"),
            (r#""aud":["api://x"],"#, "`aud`"),
            (r#","exp":9"#, "`exp`"),
        ] {
            let said = said(&token(&good.replace(without, ""))).unwrap_err();
            assert!(said.contains(sign), "{said}");
        }
        assert!(said(&token("[]")).is_err() && said("a.b.c").is_err());
    }

    #[tokio::test]
    async fn each_use_reads_the_file_and_each_failure_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let file = FederatedFile::new(path.clone());
        let missing = file.token(NOW).await.unwrap_err().rejection();
        assert!(missing.reason().contains(&*path.to_string_lossy()), "{}", missing.reason());
        assert_eq!(missing.code(), crate::rejection::Code::ExchangeFailed);
        for text in [jwt(NOW.0 + 1), jwt(NOW.0 + 2)] {
            fs::write(&path, &text).unwrap();
            assert_eq!(file.token(NOW).await.unwrap().expose(), text);
        }
        for bad in [String::new(), "hunter2".repeat(10), "hunter2.".repeat(10_000)] {
            fs::write(&path, bad).unwrap();
            let refused = file.token(NOW).await.unwrap_err().rejection();
            let reason = refused.reason();
            assert!(!reason.contains("hunter2"), "{reason}");
        }
        let device = FederatedFile::new("/dev/zero".into());
        assert!(device.token(NOW).await.is_err());
        // Nobody will ever write to it.
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert!(FederatedFile::new(pipe).token(NOW).await.is_err());
    }
}
