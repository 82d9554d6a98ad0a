//! Azure Arc's proof that who asks is on the machine: the agent names a file that only its
//! group may read, and wants to see what is in it.
//!
//! The port of the agent is one that any process may take, so the file is chosen by whoever
//! sits there. It is read only if it is one of the agent's: directly in its folder, by its real
//! name, small, and a file.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::AskError;
use crate::authn::fetch::{Fetched, Fetcher};
use crate::limits;
use crate::regular_file;
use crate::secret::SecretHeader;

/// Where the agent puts its keys on Linux.
pub const KEY_DIRECTORY: &str = "/var/opt/azcmagent/tokens";

/// Why the agent could not be shown a key. What the agent wrote is in no text.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChallengeError {
    #[error(
        "it gave a token without asking for the key that only this machine can read, as the Azure Arc agent always does"
    )]
    NotAsked,
    #[error("its 401 has not exactly one `WWW-Authenticate: Basic realm=FILE`")]
    NoFile,
    #[error("it asks for a file that is not a `.key` directly in `{0}`, which is not read")]
    Outside(PathBuf),
    #[error("the key that it asks for, in `{0}`, can't be read")]
    Read(PathBuf, #[source] io::Error),
    #[error("the key that it asks for, in `{0}`, is empty, longer than {max} bytes or no text", max = limits::MAX_ARC_KEY_BYTES)]
    Form(PathBuf),
}

impl ChallengeError {
    /// What there is to do about it.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::NotAsked => "is it another program that listens there?",
            Self::NoFile | Self::Outside(_) => "is it the Azure Arc agent that listens there?",
            Self::Read(..) => "let the gateway's user be in the group `himds`",
            Self::Form(_) => "restart the Azure Arc agent",
        }
    }
}

/// Asks the agent at `url`: once to be named a file, and once more with what is in it.
pub(super) async fn ask(
    fetcher: &Fetcher,
    url: &str,
    headers: &HeaderMap,
    key_directory: &Path,
) -> Result<Fetched, AskError> {
    let challenge = fetcher.get(url, headers.clone()).await?;
    match challenge.status {
        StatusCode::UNAUTHORIZED => {}
        StatusCode::OK => return Err(ChallengeError::NotAsked.into()),
        _ => return Ok(challenge),
    }
    let file = file_of(&challenge.headers).ok_or(ChallengeError::NoFile)?;
    let directory = key_directory.to_owned();
    let read = tokio::task::spawn_blocking(move || key(&file, &directory));
    let key = match read.await {
        Ok(key) => key?,
        // It panicked, or the runtime ends.
        Err(error) => {
            let error = io::Error::other(error);
            return Err(ChallengeError::Read(key_directory.to_owned(), error).into());
        }
    };
    let mut headers = headers.clone();
    headers.insert(AUTHORIZATION, key.expose().clone());
    Ok(fetcher.get(url, headers).await?)
}

/// The file that a challenge names: the whole rest behind `Basic realm=`, in quotes or not.
fn file_of(headers: &HeaderMap) -> Option<PathBuf> {
    let mut fields = headers.get_all(WWW_AUTHENTICATE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let (scheme, parameter) = field.to_str().ok()?.trim().split_once(' ')?;
    let (name, value) = parameter.trim_start().split_once('=')?;
    let named = scheme.eq_ignore_ascii_case("basic") && name.trim().eq_ignore_ascii_case("realm");
    let value = value.trim();
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    named.then(|| PathBuf::from(quoted.unwrap_or(value)))
}

/// What is in `file`, as the value of `Authorization`.
fn key(file: &Path, directory: &Path) -> Result<SecretHeader, ChallengeError> {
    let outside = || ChallengeError::Outside(directory.to_owned());
    let unreadable = |error| ChallengeError::Read(directory.to_owned(), error);

    // As it is written: what a path resolves to is looked at only within the folder.
    let is_plain = file.components().all(|part| match part {
        Component::RootDir | Component::Normal(_) => true,
        Component::Prefix(_) | Component::CurDir | Component::ParentDir => false,
    });
    let is_key = file.extension().is_some_and(|extension| extension == "key");
    if !is_plain || !is_key || file.parent() != Some(directory) {
        return Err(outside());
    }
    // As it is: no link to elsewhere, and nothing that never ends.
    let found = fs::symlink_metadata(file).map_err(unreadable)?;
    if !found.is_file() {
        return Err(outside());
    }
    let mut text = String::new();
    let most = limits::MAX_ARC_KEY_BYTES;
    let opened = regular_file::open_itself(file);
    let read = opened.and_then(|file| file.take(most + 1).read_to_string(&mut text));
    let form = || ChallengeError::Form(directory.to_owned());
    let length = match read {
        Ok(length) => length as u64,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(form()),
        Err(error) => return Err(unreadable(error)),
    };
    let text = text.trim_ascii();
    if length > most || text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(form());
    }
    let value = HeaderValue::try_from(format!("Basic {text}"));
    value.map(SecretHeader::new).ok().ok_or_else(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(fields: &[&str]) -> Option<PathBuf> {
        let fields = fields.iter().map(|field| (WWW_AUTHENTICATE, field.parse().unwrap()));
        file_of(&fields.collect())
    }

    #[test]
    fn a_challenge_names_one_file() {
        let file = Some(PathBuf::from("/a b/c.key"));
        assert_eq!(named(&["Basic realm=/a b/c.key"]), file);
        assert_eq!(named(&["basic  Realm = \"/a b/c.key\" "]), file);
        assert_eq!(named(&[]), None);
        assert_eq!(named(&["Bearer realm=/a b/c.key"]), None);
        assert_eq!(named(&["Basic"]), None);
        assert_eq!(named(&["Basic nonce=/a b/c.key"]), None);
        assert_eq!(named(&["Basic realm=/a.key", "Basic realm=/b.key"]), None);
    }

    #[test]
    fn only_the_agents_own_keys_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (tokens, beside) = (folder.path().join("tokens"), folder.path().join("beside"));
        fs::create_dir(&tokens).unwrap();
        fs::create_dir(&beside).unwrap();
        fs::create_dir(tokens.join("deeper")).unwrap();
        fs::create_dir(tokens.join("folder.key")).unwrap();
        for file in ["tokens/a.key", "tokens/a.txt", "tokens/deeper/a.key", "beside/a.key"] {
            fs::write(folder.path().join(file), "c2VjcmV0\n").unwrap();
        }
        std::os::unix::fs::symlink(beside.join("a.key"), tokens.join("link.key")).unwrap();

        let header = key(&tokens.join("a.key"), &tokens).unwrap();
        assert_eq!(header.expose(), "Basic c2VjcmV0");
        for refused in [
            "tokens/a.txt",
            "tokens/deeper/a.key",
            "beside/a.key",
            "tokens/../beside/a.key",
            "tokens/deeper/../a.key",
            "tokens/folder.key",
            "tokens/link.key",
            "tokens",
            "tokens/.key",
        ] {
            let error = key(&folder.path().join(refused), &tokens).unwrap_err();
            assert!(matches!(error, ChallengeError::Outside(_)), "{refused}: {error}");
        }
        for relative in ["a.key", "tokens/a.key", ""] {
            let error = key(Path::new(relative), &tokens).unwrap_err();
            assert!(matches!(error, ChallengeError::Outside(_)), "{relative}: {error}");
        }
        let error = key(&tokens.join("gone.key"), &tokens).unwrap_err();
        assert!(matches!(error, ChallengeError::Read(..)), "{error}");
    }

    #[test]
    fn a_key_is_a_line_of_at_most_4096_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.key");
        let read = |content: &[u8]| {
            fs::write(&file, content).unwrap();
            key(&file, folder.path())
        };
        assert!(read(&[b'a'; 4096]).is_ok());
        for bad in [&[b'a'; 4097][..], b"", b" \n", b"a\r\nx: y", b"\xff"] {
            let error = read(bad).unwrap_err();
            assert!(matches!(error, ChallengeError::Form(_)), "{error}");
        }
    }
}
