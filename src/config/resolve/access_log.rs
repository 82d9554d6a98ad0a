//! `telemetry.access_log`: which fields a line of the log has.

use super::super::file;
use crate::observe::access_log::AccessLog;
use crate::observe::field::FieldSet;

pub(super) fn access_log(file: &file::AccessLog) -> AccessLog {
    match file {
        file::AccessLog::On => AccessLog::On(FieldSet::ALL),
        file::AccessLog::Off => AccessLog::Off,
        file::AccessLog::Some(some) => {
            AccessLog::On(FieldSet::of(some.fields.0.iter().map(|field| field.value)))
        }
    }
}
