//! The JSON Schema of the routes file, for editors, and the reference of its keys, for people.
//!
//! Decides nothing of what the file may say: keys and their meaning are the structs of `file/`
//! with their docs, forms of values those of `value/`, what goes together the `RULES`. A new
//! key is in the schema with its field, and the tests here name what is missing of it.
//!
//! It is of draft 07, the newest that the language server for YAML behind VS Code, Neovim and
//! others judges files by (redhat-developer/yaml-language-server#856); VS Code's own for JSON
//! and the schema store take it, too. References are filled in: then every editor shows the
//! description of the key, not that of the type it shares with others.

mod constants;
mod form;
mod markdown;
mod shape;
mod words;

use schemars::generate::SchemaSettings;
use serde_json::Value;

pub(super) use form::Form;
pub use markdown::markdown;

use super::file::RoutesFile;

/// Where the shipped copy is, from the root of the repository.
pub const SHIPPED: &str = "routes.schema.json";

/// The schema.
pub fn schema() -> Value {
    shape::whole(&raw())
}

/// The schema as `schemars` makes it of the structs.
fn raw() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    generator.into_root_schema_for::<RoutesFile>().into()
}

/// The schema as the text of a file.
pub fn text() -> String {
    format!("{:#}\n", schema())
}

#[cfg(test)]
mod tests;
