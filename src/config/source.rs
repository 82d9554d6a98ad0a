//! `${…}` in scalars: values from the environment and from other files, put in after the YAML
//! has been parsed, so that a value can never add YAML.
//!
//! The only place that reads environment variables, and the one that reads files a routes
//! file names. Knows nothing of keys; the text it returns says where it came from.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::files_read::{FilesRead, Recorder};
use crate::regular_file;

/// Largest file that a routes file may name, in bytes: keys, certificates and key sets are
/// far smaller, and `/dev/zero` is not.
pub const MAX_NAMED_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Where values outside the routes file come from.
#[derive(Clone, Debug)]
pub struct Environment {
    variables: Variables,
    base: PathBuf,
    recorder: Recorder,
}

#[derive(Clone)]
enum Variables {
    Process,
    Given(HashMap<String, String>),
}

impl std::fmt::Debug for Variables {
    // Their values are often secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process => f.write_str("Process"),
            Self::Given(variables) => f.debug_set().entries(variables.keys()).finish(),
        }
    }
}

impl Environment {
    /// The variables of this process; relative paths are relative to `base`, the routes
    /// file's folder.
    pub fn of_process(base: impl Into<PathBuf>) -> Self {
        Self { variables: Variables::Process, base: base.into(), recorder: Recorder::default() }
    }

    /// Just these variables.
    pub fn of<K: Into<String>, V: Into<String>>(
        variables: impl IntoIterator<Item = (K, V)>,
        base: impl Into<PathBuf>,
    ) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self {
            variables: Variables::Given(variables.collect()),
            base: base.into(),
            recorder: Recorder::default(),
        }
    }

    /// `path` as the routes file means it: relative to the file's folder.
    pub fn path(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// The content of a file that the routes file names, [`MAX_NAMED_FILE_BYTES`] at most.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let path = self.path(path);
        let _reading = self.recorder.reading(&path);
        self.recorder.note(&path, &fs::metadata(&path));
        let file = regular_file::open(&path)?;
        file.take(MAX_NAMED_FILE_BYTES + 1).read_to_end(&mut content)?;
        if u64::try_from(content.len()).is_ok_and(|length| length > MAX_NAMED_FILE_BYTES) {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("it is larger than {} MiB", MAX_NAMED_FILE_BYTES / 1024 / 1024),
            ));
        }
        Ok(content)
    }

    /// The file that is being read, on whichever thread.
    pub fn reading(&self) -> Option<PathBuf> {
        self.recorder.read_now()
    }

    /// The files that were read so far, and those that could not be.
    pub fn files_read(&self) -> FilesRead {
        self.recorder.files()
    }

    /// A variable that the platform sets, not the operator; an empty one is none.
    ///
    /// # Errors
    ///
    /// It is not UTF-8.
    pub(super) fn of_platform(&self, name: &str) -> Result<Option<String>, Wrong> {
        Ok(self.variable(name)?.filter(|value| !value.is_empty()))
    }

    #[allow(clippy::disallowed_methods, reason = "this is where the configuration reads it")]
    fn variable(&self, name: &str) -> Result<Option<String>, Wrong> {
        match &self.variables {
            Variables::Given(variables) => Ok(variables.get(name).cloned()),
            Variables::Process => match std::env::var(name) {
                Ok(value) => Ok(Some(value)),
                Err(std::env::VarError::NotPresent) => Ok(None),
                Err(std::env::VarError::NotUnicode(_)) => Err(Wrong {
                    expression: String::new(),
                    message: format!("the environment variable `{name}` is not UTF-8"),
                    hint: "set it to text, or put the value into a file and write `${file:PATH}`"
                        .into(),
                }),
            },
        }
    }
}

/// A scalar with its expressions replaced.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Filled {
    /// The value.
    pub(super) text: String,
    /// Whether a variable or a file is in it.
    pub(super) from_outside: bool,
    /// Whether characters of the routes file itself are in it, a default's included.
    pub(super) from_here: bool,
    /// The files that were read, as the routes file names them.
    pub(super) files: Vec<PathBuf>,
}

impl std::fmt::Debug for Filled {
    // What came from outside is often a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filled").field("files", &self.files).finish_non_exhaustive()
    }
}

/// What is wrong with one expression.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The expression as written, to be found in the line; empty for the whole value.
    pub(super) expression: String,
    pub(super) message: String,
    pub(super) hint: String,
}

/// Replaces `${env:NAME}`, `${NAME}`, `${NAME:-default}`, `${file:PATH}` and `$$` in `text`.
/// A `$` before anything else is itself. What is put in is not looked at again.
pub(super) fn fill(text: &str, environment: &Environment) -> Result<Filled, Vec<Wrong>> {
    let (mut filled, mut wrong) = (Filled::default(), Vec::new());
    // Nearly all.
    if !text.as_bytes().contains(&b'$') {
        filled.literal(text);
        return Ok(filled);
    }
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        filled.literal(before);
        if let Some(behind) = behind.strip_prefix('$') {
            filled.literal("$");
            rest = behind;
        } else if let Some(behind) = behind.strip_prefix('{') {
            let Some((inner, behind)) = behind.split_once('}') else {
                wrong.push(Wrong {
                    expression: format!("${{{behind}"),
                    message: "`${` without `}`".into(),
                    hint: "close it, or write `$$` for a `$`".into(),
                });
                return Err(wrong);
            };
            if let Err(problem) = filled.expression(inner, environment) {
                wrong.push(Wrong { expression: format!("${{{inner}}}"), ..problem });
            }
            rest = behind;
        } else {
            filled.literal("$");
            rest = behind;
        }
    }
    filled.literal(rest);
    if wrong.is_empty() { Ok(filled) } else { Err(wrong) }
}

impl Filled {
    fn literal(&mut self, text: &str) {
        self.text.push_str(text);
        self.from_here |= !text.is_empty();
    }

    fn expression(&mut self, inner: &str, environment: &Environment) -> Result<(), Wrong> {
        if let Some(path) = inner.strip_prefix("file:") {
            return self.file(path, environment);
        }
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        let name = name.strip_prefix("env:").unwrap_or(name);
        if name.is_empty() {
            return Err(wrong(
                "`${…}` without a name".to_owned(),
                "write `${NAME}`; `$$` is a `$`",
            ));
        }
        if !is_name(name) {
            return Err(wrong(
                format!("`{name}` is no name of an environment variable"),
                "write `${NAME}`, `${NAME:-default}` or `${file:PATH}`; `$$` is a `$`",
            ));
        }
        if default.is_some_and(|default| default.contains("${")) {
            return Err(wrong(
                format!("the default of `{name}` holds another `${{…}}`"),
                "these do not nest: write a plain default, or set the variable",
            ));
        }
        match (environment.variable(name)?, default) {
            // As in a shell, `:-` also stands in for a variable that is empty.
            (Some(value), Some(_)) if !value.is_empty() => self.outside(&value),
            (_, Some(default)) => self.literal(default),
            (Some(value), None) => self.outside(&value),
            (None, None) => {
                return Err(wrong(
                    format!("the environment variable `{name}` is not set"),
                    format!("set `{name}`, or write `${{{name}:-default}}`"),
                ));
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &str, environment: &Environment) -> Result<(), Wrong> {
        let file = Path::new(path);
        let shown = environment.path(file);
        let content = environment.read(file).map_err(|error| {
            wrong(
                format!("can't read the file `{path}`: {error}"),
                format!(
                    "it is looked for at `{}`: put it there for this user to read, or correct the path",
                    shown.display()
                ),
            )
        })?;
        let content = String::from_utf8(content).map_err(|error| {
            wrong(
                format!("the file `{path}` is not UTF-8 text: {}", error.utf8_error()),
                "`${file:…}` takes text; keys and certificates have keys of their own",
            )
        })?;
        let less_newline = content.strip_suffix('\n').unwrap_or(&content);
        self.outside(less_newline.strip_suffix('\r').unwrap_or(less_newline));
        self.files.push(file.to_owned());
        Ok(())
    }

    fn outside(&mut self, text: &str) {
        self.text.push_str(text);
        self.from_outside = true;
    }
}

fn wrong(message: String, hint: impl Into<String>) -> Wrong {
    Wrong { expression: String::new(), message, hint: hint.into() }
}

/// Whether `text` is one `${…}` without a default, so that nothing of the value is in it.
pub(super) fn is_only_an_expression(text: &str) -> bool {
    let inner = text.strip_prefix("${").and_then(|text| text.strip_suffix('}'));
    inner.is_some_and(|inner| !inner.contains(['$', '}']) && !inner.contains(":-"))
}

/// POSIX's form of a variable's name.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> (tempfile::TempDir, Environment) {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [("key", "k1\n"), ("two", "k2\n\n"), ("dos", "k3\r\n")] {
            fs::write(folder.path().join(name), content).unwrap();
        }
        fs::write(folder.path().join("binary"), [0xff, 0xfe]).unwrap();
        let variables = [("A", "a: 1"), ("B", "${A}"), ("EMPTY", "")];
        let environment = Environment::of(variables, folder.path());
        (folder, environment)
    }

    #[test]
    fn expressions_become_values() {
        let (_folder, environment) = environment();
        for (text, expected) in [
            ("plain", "plain"),
            ("${A}", "a: 1"),
            ("${env:A}", "a: 1"),
            ("x${A}y${A}", "xa: 1ya: 1"),
            ("${MISSING:-d}", "d"),
            ("${MISSING:-}", ""),
            ("${env:MISSING:-a:-b}", "a:-b"),
            ("${A:-d}", "a: 1"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY}", ""),
            ("${file:key}", "k1"),
            ("${file:two}", "k2\n"),
            ("${file:dos}", "k3"),
            ("$${A}", "${A}"),
            ("$$$${A}", "$${A}"),
            ("cost $5 $", "cost $5 $"),
            // What is put in is a value, and is not read for expressions.
            ("${B}", "${A}"),
        ] {
            let filled = fill(text, &environment).unwrap();
            assert_eq!(filled.text, expected, "{text}");
        }
    }

    #[test]
    fn it_is_known_where_a_value_came_from() {
        let (_folder, environment) = environment();
        for (text, outside, here) in [
            ("plain", false, true),
            ("", false, false),
            ("${A}", true, false),
            ("x${A}", true, true),
            ("${MISSING:-d}", false, true),
            ("${file:key}", true, false),
        ] {
            let filled = fill(text, &environment).unwrap();
            assert_eq!((filled.from_outside, filled.from_here), (outside, here), "{text}");
        }
        let files = fill("${file:key}", &environment).unwrap().files;
        assert_eq!(files, [PathBuf::from("key")]);
    }

    #[test]
    fn each_wrong_expression_is_named() {
        let (_folder, environment) = environment();
        for (text, expected) in [
            ("${MISSING}", "the environment variable `MISSING` is not set"),
            ("${file:none}", "can't read the file `none`"),
            ("${file:binary}", "is not UTF-8"),
            ("${vault:x}", "`vault:x` is no name"),
            ("${}", "without a name"),
            ("${1A}", "`1A` is no name"),
            ("${A", "without `}`"),
            ("${A:-${B}}", "holds another"),
        ] {
            let wrong = fill(text, &environment).unwrap_err();
            assert!(wrong[0].message.contains(expected), "{text}: {wrong:?}");
            assert!(text.contains(&wrong[0].expression) && !wrong[0].expression.is_empty());
        }
        assert_eq!(fill("${X} ${Y}", &environment).unwrap_err().len(), 2);
    }

    #[test]
    fn a_file_without_end_and_one_that_is_too_large_are_refused() {
        let environment = Environment::of([("", ""); 0], "/");
        let error = environment.read(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "it is not a regular file");
        let folder = tempfile::tempdir().unwrap();
        let large = folder.path().join("large");
        fs::File::create(&large).unwrap().set_len(MAX_NAMED_FILE_BYTES + 1).unwrap();
        let error = environment.read(&large).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
