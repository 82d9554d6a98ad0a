//! What to say of text that is no YAML: the parser's error in words of someone who writes
//! routes, and what to do.

use serde_yaml::granit_parser::{ErrorKind, ScanError};

use super::problem::{Place, Problem};

/// The problem for what the YAML parser could not read.
pub(super) fn problem(error: &ScanError) -> Problem {
    let (line, column) = (error.marker().line(), error.marker().col());
    let place = Place { line: number(line), column: number(column + 1), length: 1 };
    let (message, hint) = explain(error.kind());
    Problem::error(place, message).hint(hint)
}

const MISSING: &str = "a `,` or the closing bracket is missing before this";
const UNCLOSED: &str = "a bracket is opened and never closed";

/// The same problem with the innermost `bracket` that is open where it was found: one that is not closed is
/// noticed lines behind it.
pub(super) fn in_bracket(problem: Problem, bracket: Place) -> Problem {
    match (problem.message.as_str(), problem.place) {
        _ if problem.related.is_some() => problem,
        (MISSING, _) => problem.related(bracket, "the bracket that is open here"),
        (UNCLOSED, Some(end)) => {
            let problem = Problem { place: Some(bracket), ..problem };
            problem.related(end, "it is still open here")
        }
        _ => problem,
    }
}

/// A line or column number of the parser.
pub(super) fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the parser's enum, of which we know the common")]
fn explain(kind: &ErrorKind) -> (String, &'static str) {
    let said = |message: &str, hint| (message.to_owned(), hint);
    match kind {
        ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabNotAllowed => {
            said("a tab where YAML takes only spaces", "indent with spaces, two for each level")
        }
        ErrorKind::UnclosedQuotedScalar => {
            said("a quote is opened here and never closed", "close the quote")
        }
        ErrorKind::MappingValueNotAllowed
        | ErrorKind::InvalidColonPlacement
        | ErrorKind::MappingKeyNotAllowed => said(
            "a second `:` where a value is due",
            "begin a new line for each key, close what is open before, and quote a value that has `: ` in it",
        ),
        ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::ExpectedFlowSequenceSeparator => said(
            MISSING,
            "inside `{ }` and `[ ]`, quote values that hold brackets or commas: `\"${NAME}\"`, `\"/graph/{*rest}\"`",
        ),
        ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofImplicitFlowMapping
        | ErrorKind::UnclosedFlowCollection { .. } => said(UNCLOSED, "close it with `]` or `}`"),
        ErrorKind::MisplacedFlowCollectionEnd | ErrorKind::MismatchedFlowCollectionEnd { .. } => {
            said("this bracket closes nothing", "remove it, or open one before")
        }
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::ExpectedDocumentStart
        | ErrorKind::BlockSequenceEntryNotAllowed
        | ErrorKind::InvalidIndentation => said(
            "this line does not line up with those above",
            "give the keys of one mapping, and the `-` of one list, the same indentation",
        ),
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => said(
            "a key without `: `",
            "write `key: value` with a space behind the colon, or `- value` in a list",
        ),
        ErrorKind::UnexpectedCharacter { character: '@' | '`' | '%' } => {
            said("a value can't begin with this character", "quote the value: `\"…\"`")
        }
        ErrorKind::UnexpectedCharacter { .. } => {
            said("a character that YAML does not allow here", "remove it, or quote the value")
        }
        ErrorKind::UnknownAnchor => said(
            "`*` refers to an anchor that is not defined above",
            "define it above (`key: &name value`), or quote the value if it begins with `*`: `\"*.example.com\"`",
        ),
        ErrorKind::UnknownQuotedScalarEscape | ErrorKind::InvalidQuotedScalarHexEscape => said(
            "an escape in double quotes that YAML does not know",
            "write `\\\\` for a backslash, or use single quotes",
        ),
        ErrorKind::MissingAnchorOrAliasName => {
            said("a `*` or `&` without a name behind it", "quote the value: `\"*\"`")
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar
        | ErrorKind::InvalidTrailingDoubleQuotedScalar => said(
            "text behind a closing quote",
            "close it at the end of the value; within single quotes a quote is written twice: `'it''s'`",
        ),
        ErrorKind::DirectiveDisallowed => {
            said("a YAML directive", "remove the line that begins with `%`")
        }
        ErrorKind::RecursionLimitExceeded => said(
            "this is nested too deeply",
            "a routes file needs about 8 levels; is a bracket or a `-` repeated?",
        ),
        other => {
            (format!("this is not YAML: {other}"), "see the YAML of the line and of the one above")
        }
    }
}
