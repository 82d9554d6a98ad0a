//! Opens files that are read while the gateway serves: regular ones only. A pipe or a device may
//! never end, or wait for somebody to write, and a reload would wait for it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Opens the regular file at `path` to be read; it does not wait for what is none.
pub(super) fn open(path: &Path) -> io::Result<File> {
    // Devices may do things when they are opened.
    if !fs::metadata(path)?.is_file() {
        return Err(not_regular());
    }
    // What is opened may be another by now: that alone is believed.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

fn not_regular() -> io::Error {
    io::Error::other("it is not a regular file")
}
