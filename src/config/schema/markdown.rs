//! The schema as a page of the book: one table for each mapping of the file.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::{schema, words};

/// The page, in Markdown.
pub fn markdown() -> String {
    let mut page = Page { text: HEAD.to_owned() };
    page.mapping("", &schema());
    page.text
}

const HEAD: &str = "\
# The routes file, key by key

<!-- Made by `obo-gateway schema --format markdown` out of src/config/file/: change it there. -->

Every key of the routes file with what it takes and what holds without it. `[]` is each element
of a list, `NAME` a name of your choice. In any text `${NAME}`, `${NAME:-default}` and
`${file:PATH}` are replaced; durations are `250ms`, `30s`, `5m`, `12h`, sizes `512B`, `64KiB`,
`10MiB`. Relative paths are relative to the file. An editor knows all of this from
`obo-gateway schema`: put `# yaml-language-server: $schema=./routes.schema.json` on top of the file.
";

struct Page {
    text: String,
}

impl Page {
    /// The section of a mapping, and those of the mappings in it.
    fn mapping(&mut self, path: &str, mapping: &Value) {
        let keys = properties(mapping);
        let heading = if path.is_empty() { "top level".to_owned() } else { code(path) };
        let branches: Vec<_> = elements(mapping, "allOf").iter().filter_map(branch).collect();
        if branches.is_empty() {
            self.section(&heading, description(mapping), &keys, mapping, path);
        }
        for (word, branch) in &branches {
            let mut keys = properties(branch);
            keys.retain(|(key, _)| *key != "type");
            keys.extend(properties(mapping));
            let heading = format!("{heading} with `type: {word}`");
            self.section(&heading, description(branch), &keys, branch, path);
        }
    }

    fn section(
        &mut self,
        heading: &str,
        description: &str,
        keys: &[(&str, &Value)],
        mapping: &Value,
        path: &str,
    ) {
        let required = elements(mapping, "required");
        let is_required = |key: &str| key == "type" || required.iter().any(|it| it == key);
        let mut rows: Vec<_> = keys.to_vec();
        rows.sort_by_key(|(key, _)| (!is_required(key), *key));
        self.line(&format!("\n## {heading}\n"));
        for text in [words::joined("", description), groups(mapping)] {
            if !text.is_empty() {
                self.line(&format!("{text}\n"));
            }
        }
        self.line("| key | takes | default | |\n| --- | --- | --- | --- |");
        for (key, value) in &rows {
            let default = match value.get("default") {
                _ if is_required(key) => "required".to_owned(),
                Some(default) => code(&flow(default)),
                None => String::new(),
            };
            let said = description_in_cell(value);
            self.line(&format!("| `{key}` | {} | {default} | {said} |", cell(&takes(value))));
        }
        for (key, value) in &rows {
            let below = if path.is_empty() { (*key).to_owned() } else { format!("{path}.{key}") };
            self.below(&below, value);
        }
    }

    /// Sections of the mappings that a value has in it.
    fn below(&mut self, path: &str, value: &Value) {
        if !properties(value).is_empty() {
            self.mapping(path, value);
        }
        if let Some(items) = value.get("items") {
            self.below(&format!("{path}[]"), items);
        }
        if let Some(named) = value.get("additionalProperties").filter(|it| it.is_object()) {
            self.below(&format!("{path}.NAME"), named);
        }
        for form in elements(value, "anyOf") {
            self.below(path, form);
        }
    }

    fn line(&mut self, line: &str) {
        writeln!(self.text, "{line}").unwrap_or_default();
    }
}

/// The word of `type` and the mapping that it chooses.
fn branch(condition: &Value) -> Option<(&str, &Value)> {
    let word = condition.pointer("/if/properties/type/enum/0")?.as_str()?;
    Some((word, condition.get("then")?))
}

/// Which keys go together, beyond what the table says.
fn groups(mapping: &Value) -> String {
    if mapping.get("maxProperties") == Some(&json!(1)) {
        return "Exactly one key.".to_owned();
    }
    let mut said = Vec::new();
    for rule in elements(mapping, "allOf") {
        for (word, how) in [("oneOf", "Exactly one"), ("anyOf", "At least one")] {
            let keys: Vec<_> = elements(rule, word).iter().filter_map(only_required).collect();
            if !keys.is_empty() {
                said.push(format!("{how} of {} is required.", keys.join(", ")));
            }
        }
        let both = rule.get("not").map(|not| elements(not, "required"));
        if let Some([one, other]) = both {
            said.push(format!("{} excludes {}.", code(&flow(one)), code(&flow(other))));
        }
    }
    let dependencies = mapping.get("dependencies").and_then(Value::as_object);
    for (key, needs) in dependencies.into_iter().flatten() {
        said.push(format!("`{key}` needs {}.", code(&flow(needs).replace(['[', ']'], ""))));
    }
    said.join(" ")
}

fn only_required(rule: &Value) -> Option<String> {
    Some(format!("`{}`", elements(rule, "required").first()?.as_str()?))
}

/// What a key takes, in a few words.
fn takes(value: &Value) -> String {
    if !properties(value).is_empty() || !elements(value, "allOf").is_empty() {
        return "a mapping".to_owned();
    }
    if let Some(values) = value.get("enum").and_then(Value::as_array) {
        let words = values.iter().filter(|it| it.is_string() || values.len() == 1);
        return words.map(|it| code(&flow(it))).collect::<Vec<_>>().join(", ");
    }
    if let Some(items) = value.get("items") {
        return format!("a list: {}", takes(items));
    }
    if let Some(named) = value.get("additionalProperties").filter(|it| it.is_object()) {
        return format!("names, each with {}", takes(named));
    }
    let forms: Vec<_> = elements(value, "anyOf").iter().map(takes).collect();
    if !forms.is_empty() {
        let forms: Vec<_> = forms.into_iter().filter(|form| !form.is_empty()).collect();
        return forms.join(", or ");
    }
    let takes = value.get("patternErrorMessage").and_then(Value::as_str);
    let takes = takes.and_then(|takes| takes.strip_prefix("takes ")).unwrap_or("text");
    let bounds = [value.get("minimum"), value.get("maximum")].map(|it| it.and_then(Value::as_u64));
    match bounds {
        // The form of variables, which any text has.
        _ if value.get("pattern") == Some(&json!("\\$\\{")) => String::new(),
        [Some(least), Some(most)] if most < u64::from(u32::MAX) => {
            format!("{takes}, {least} to {most}")
        }
        _ => takes.to_owned(),
    }
}

/// A description in a cell of a table; its list of words becomes a sentence of its own each.
fn description_in_cell(value: &Value) -> String {
    let said = description(value);
    let said = match value.get("default") {
        Some(_) => words::without_default(said),
        None => said.to_owned(),
    };
    let lines = said.split('\n').map(str::trim).filter(|line| !line.is_empty());
    cell(&lines.map(|line| line.trim_start_matches("- ")).collect::<Vec<_>>().join("<br>"))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// A value as YAML has it on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members = members.iter().map(|(key, value)| format!("{key}: {}", flow(value)));
            members.collect::<Vec<_>>().join(", ")
        }
    }
}

fn description(value: &Value) -> &str {
    value.get("description").and_then(Value::as_str).unwrap_or_default()
}

fn properties(value: &Value) -> Vec<(&str, &Value)> {
    let properties = value.get("properties").and_then(Value::as_object);
    let properties = properties.into_iter().flat_map(Map::iter);
    properties.map(|(key, value)| (key.as_str(), value)).collect()
}

fn elements<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
