//! One event per request: what is gathered while the request goes ([`AccessRecord`]), and where
//! it is counted and logged when it is over ([`Observer`]).

mod byte_counter;
mod observer;
mod record;
mod ending;

pub use byte_counter::ByteCounter;
pub use observer::{AccessLog, Observer};
pub use record::AccessRecord;
