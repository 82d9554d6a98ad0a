//! The program as a process of its own, which is where its memory can be measured.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// The program itself: only of a process of its own can memory be measured.
pub(super) struct Process {
    child: Child,
    pub(super) address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Process {
    pub(super) fn start(yaml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routes.yaml");
        std::fs::write(&path, yaml).unwrap();
        let mut child = Command::new(binary())
            .args(["run", "--log-format", "json", "--log-level", "info", "--config"])
            .arg(&path)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it listened");
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            if event.to_string().contains("listening") {
                break find_address(&event).expect("it says where it listens");
            }
        };
        // What nobody reads would block it.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self { child, address, _folder: folder }
    }

    /// The most memory it ever had resident, in KiB.
    pub(super) fn peak_kib(&self) -> u64 {
        self.kib("VmHWM:")
    }

    /// The memory it has resident now, in KiB.
    pub(super) fn resident_kib(&self) -> u64 {
        self.kib("VmRSS:")
    }

    fn kib(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The program that cargo built for the tests, or the one that `SCALE_BINARY` names: figures that
/// are written down are those of a release build.
#[allow(clippy::disallowed_methods, reason = "a test's own setting")]
fn binary() -> PathBuf {
    let other = std::env::var_os("SCALE_BINARY").map(PathBuf::from);
    other.unwrap_or_else(|| env!("CARGO_BIN_EXE_obo-gateway").into())
}

fn find_address(value: &serde_json::Value) -> Option<SocketAddr> {
    let members = value.as_object()?;
    members.values().find_map(|member| member.as_str()?.parse().ok())
}
