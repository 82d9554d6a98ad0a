//! The JSON Schema of all answers, made from the types that they are made of.

use schemars::JsonSchema;
use schemars::Schema;
use schemars::generate::SchemaSettings;

use super::{
    Cache, Config, Forgotten, ForgottenHereOnly, LastRefusals, Providers, ReloadRefused, Reloaded,
    Routes, Stats, Upstreams,
};

/// The answers of obo-gateway's admin API, each under the last part of its path; each is also a
/// definition of its own.
#[derive(JsonSchema)]
#[schemars(title = "obo-gateway admin API", inline)]
#[allow(dead_code, reason = "only its schema is used")]
struct Answers {
    routes: Routes,
    upstreams: Upstreams,
    providers: Providers,
    cache: Cache,
    /// Of `DELETE`.
    forgotten: Forgotten,
    /// Of `DELETE`, with status 503.
    forgotten_here_only: ForgottenHereOnly,
    config: Config,
    stats: Stats,
    refusals: LastRefusals,
    reload: Reloaded,
    /// With status 422.
    reload_refused: ReloadRefused,
}

/// The schema of all answers (draft 2020-12): `$defs` has one for each.
pub fn schema() -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<Answers>();
    // There is one answer at a time.
    schema.remove("required");
    schema
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What is shipped is for those who have no gateway at hand to ask.
    #[test]
    fn the_shipped_schema_is_current() {
        let root = env!("CARGO_MANIFEST_DIR");
        let shipped = format!("{root}/docs/admin-api.schema.json");
        let current = format!("{}\n", serde_json::to_string_pretty(schema().as_value()).unwrap());
        if fs::read_to_string(&shipped).unwrap_or_default() == current {
            return;
        }
        let fresh = format!("{root}/target/admin-api.schema.json");
        fs::write(&fresh, current).unwrap();
        panic!("the answers changed: cp {fresh} {shipped}, and look at what changed");
    }
}
