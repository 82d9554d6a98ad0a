//! Opens files that are read while the gateway serves: regular ones only. A pipe or a device may
//! never end, or wait for somebody to write, and a reload, or a request, would wait for it.
//!
//! What stood at a path a moment ago may be another file when it is opened: only what was opened is
//! believed. What is read from it, and how much, is for the caller to say.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Opens the regular file at `path`, or where a link there leads, to be read; it does not wait for
/// what is none.
///
/// # Errors
///
/// There is none, it may not be read, or it is of another kind.
pub fn open(path: &Path) -> io::Result<File> {
    // Devices may do things when they are opened.
    if !fs::metadata(path)?.is_file() {
        return Err(not_regular());
    }
    opened(path, 0)
}

/// Opens the regular file at `path` itself, to be read: a link there is not followed.
///
/// # Errors
///
/// As of [`open`]; a link is of another kind.
pub fn open_itself(path: &Path) -> io::Result<File> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(not_regular());
    }
    opened(path, libc::O_NOFOLLOW)
}

/// What is there now, if that is a regular file; nothing is waited for.
fn opened(path: &Path, flags: libc::c_int) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK | flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

fn not_regular() -> io::Error {
    io::Error::other("it is not a regular file")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_opened_is_looked_at_whatever_stood_there_before() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "a").unwrap();
        symlink(at("file"), at("link")).unwrap();
        symlink(at("pipe"), at("link-to-pipe")).unwrap();
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());

        assert!(open(&at("file")).is_ok() && open(&at("link")).is_ok());
        assert!(open_itself(&at("file")).is_ok() && open_itself(&at("link")).is_err());
        // As if they had come between the look and the opening: nobody ever writes into the pipe.
        for (name, flags, is_opened) in [
            ("file", 0, true),
            ("link", 0, true),
            ("link", libc::O_NOFOLLOW, false),
            ("pipe", 0, false),
            ("link-to-pipe", 0, false),
            ("", 0, false),
        ] {
            assert_eq!(opened(&at(name), flags).is_ok(), is_opened, "{name}");
        }
        assert_eq!(open(&at("gone")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
