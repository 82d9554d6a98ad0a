//! Which files a configuration was made of, and what they looked like when they were read, so
//! that a change of one can be noticed.
//!
//! Looks at files from outside only: what is in them does not matter here.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a file looks from outside; another look is another content, or may be. Links are followed:
/// Kubernetes changes a mounted secret by one that points elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look(Option<Traits>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Traits {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    /// How the file at `path` looks now; a file that is not there has a look of its own.
    pub fn at(path: &Path) -> Self {
        Self::of(&fs::metadata(path))
    }

    fn of(metadata: &io::Result<Metadata>) -> Self {
        Self(metadata.as_ref().ok().map(|metadata| Traits {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            // What is restored with its old time (`cp -p`, `tar`) is told by this.
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }))
    }
}

/// The files, each with its look before it was read: a change while it is read is noticed too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesRead(BTreeMap<PathBuf, Look>);

impl FilesRead {
    /// Notes that the file at `path` is read next. Of two reads the first counts.
    pub fn note(&mut self, path: PathBuf, look: Look) {
        self.0.entry(path).or_insert(look);
    }

    /// These files, and those of `others` that are not among them.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        for (path, look) in others.0 {
            self.note(path, look);
        }
        self
    }

    /// The same files, as they look now. Asks the disk.
    #[must_use]
    pub fn now(&self) -> Self {
        Self(self.0.keys().map(|path| (path.clone(), Look::at(path))).collect())
    }

    /// The files that look otherwise in `later`, or are in one of the two only.
    pub fn changed<'a>(&'a self, later: &'a Self) -> impl Iterator<Item = &'a Path> {
        let gone = self.0.keys().filter(|path| !later.0.contains_key(*path));
        let other = later.0.iter().filter(|(path, look)| self.0.get(*path) != Some(look));
        gone.chain(other.map(|(path, _)| path)).map(PathBuf::as_path)
    }

    /// The files that look otherwise than in `before`, and were read then too.
    pub fn changed_since(&self, before: &Self) -> impl Iterator<Item = &Path> {
        let known = self.0.iter().filter_map(|(path, now)| Some((path, now, *before.0.get(path)?)));
        known.filter(|(_, now, then)| *now != then).map(|(path, _, _)| path.as_path())
    }
}

/// Takes down what is read while a configuration is made; clones share the list.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
struct Recorded {
    files: FilesRead,
    reading: Option<PathBuf>,
}

/// A file is being read until this is dropped.
pub(super) struct ReadNow<'a>(&'a Recorder);

impl Drop for ReadNow<'_> {
    fn drop(&mut self) {
        self.0.lock().reading = None;
    }
}

impl Recorder {
    pub(super) fn note(&self, path: &Path, metadata: &io::Result<Metadata>) {
        self.lock().files.note(path.to_owned(), Look::of(metadata));
    }

    /// Takes down that the file at `path` is read from now on.
    pub(super) fn reading(&self, path: &Path) -> ReadNow<'_> {
        self.lock().reading = Some(path.to_owned());
        ReadNow(self)
    }

    /// The file that is being read.
    pub(super) fn read_now(&self) -> Option<PathBuf> {
        self.lock().reading.clone()
    }

    pub(super) fn files(&self) -> FilesRead {
        self.lock().files.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_change_a_file_is_seen_and_reading_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let mut files = FilesRead::default();
        files.note(path.clone(), Look::at(&path));
        let mut seen = |what: &str, expected: bool| {
            let now = files.now();
            assert_eq!(files.changed(&now).count() == 1, expected, "{what}");
            files = now;
        };
        seen("nothing", false);
        fs::write(&path, "one").unwrap();
        seen("made", true);
        fs::read(&path).unwrap();
        seen("read", false);
        fs::write(&path, "three").unwrap();
        seen("written, longer", true);
        fs::write(folder.path().join("new"), "seven").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        seen("replaced, of the same length", true);
        fs::remove_file(&path).unwrap();
        seen("removed", true);
    }

    #[test]
    fn a_link_on_the_way_that_points_elsewhere_is_a_change() {
        // As Kubernetes mounts a secret: `secret` → `..data/secret`, `..data` → `..1`.
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["..1", "..2"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("secret"), "same").unwrap();
        }
        std::os::unix::fs::symlink("..1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/secret", at("secret")).unwrap();
        let mut files = FilesRead::default();
        files.note(at("secret"), Look::at(&at("secret")));
        std::os::unix::fs::symlink("..2", at("..new")).unwrap();
        assert_eq!(files.changed(&files.now()).count(), 0);
        fs::rename(at("..new"), at("..data")).unwrap();
        assert_eq!(files.changed(&files.now()).count(), 1);
    }

    #[test]
    fn the_first_look_counts_and_sets_are_compared_whole() {
        let mut one = FilesRead::default();
        one.note("/a".into(), Look(None));
        let mut two = FilesRead::default();
        two.note("/b".into(), Look(None));
        assert_eq!(one.changed(&two).count(), 2);
        let both = one.clone().and(two.clone());
        assert_eq!(one.changed(&both).collect::<Vec<_>>(), [Path::new("/b")]);
        assert_eq!(both.changed(&both.now()).count(), 0);
    }

    #[test]
    fn what_changed_since_was_there_before() {
        let (mut before, mut now) = (FilesRead::default(), FilesRead::default());
        for path in ["/gone", "/same", "/other"] {
            before.note(path.into(), Look(None));
        }
        for (path, look) in [("/new", Path::new("/")), ("/same", Path::new("/no such file"))] {
            now.note(path.into(), Look::at(look));
        }
        now.note("/other".into(), Look::at(Path::new("/")));
        assert_eq!(now.changed_since(&before).collect::<Vec<_>>(), [Path::new("/other")]);
    }
}
