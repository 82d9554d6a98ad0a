//! Values that are written as text and mean something else: durations, sizes, counts,
//! addresses, URLs. Each says what is wrong with a text and what to write instead.
//!
//! Decides their form only; whether a URL may be plain http, or a tenant exists, is decided
//! where that is known.

mod claim;
mod duration;
mod key_prefix;
mod network;
mod path;
mod quantity;
mod sample;
mod token;
mod upgrade;
mod upstream_limits;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

pub(super) use claim::Plain;
pub use claim::{Claim, ExpectedStatus};
pub use duration::{ClockSkew, Period, PeriodOrZero, Timeout};
pub use key_prefix::KeyPrefix;
pub use network::{Address, AdminAddress, HttpUrl, Network, RedirectStatus, Status};
pub use path::RequestPath;
pub(super) use quantity::times;
pub use quantity::{Count, HeadBytes, Percent, SizeLimit, Times, Workers};
pub use sample::Sample;
pub use token::{Algorithm, HeaderType, SigningAlgorithm, Tenant, TenantId};
pub use upgrade::Upgrade;
pub use upstream_limits::{Attempts, Pending, Share, UpstreamConnections};

use super::failure::WrongText;
use super::schema::Form;
use crate::secret::Secret;

/// A value that is written as text.
pub(super) trait Written: Sized {
    /// What a mapping in its place is told to be: ``a duration such as `30s` ``.
    const FORM: &'static str;

    /// What the schema says of the text, for editors: never less than [`Written::parse`] takes.
    fn form() -> Form;

    /// Reads the text.
    fn parse(text: &str) -> Result<Self, WrongText>;
}

fn read<'de, D: Deserializer<'de>, T: Written>(deserializer: D) -> Result<T, D::Error> {
    struct Text<T>(PhantomData<T>);

    impl<T: Written> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::FORM)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
            T::parse(text).map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text(PhantomData))
}

macro_rules! written {
    ($($type:ty),+ $(,)?) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                read(deserializer)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                <Self as Written>::form().schema(Self::FORM)
            }
        }
    )+};
}

written!(
    Text,
    Period,
    PeriodOrZero,
    ClockSkew,
    KeyPrefix,
    Timeout,
    HeadBytes,
    SizeLimit,
    Count,
    Times,
    Percent,
    Workers,
    Attempts,
    Share,
    Sample,
    UpstreamConnections,
    Pending,
    Address,
    AdminAddress,
    Network,
    HttpUrl,
    RequestPath,
    Status,
    ExpectedStatus,
    RedirectStatus,
    Tenant,
    TenantId,
    HeaderType,
    Algorithm,
    SigningAlgorithm,
    Upgrade,
    Secret,
);

/// Text that is not empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(pub String);

impl Written for Text {
    const FORM: &'static str = "a text";

    fn form() -> Form {
        Form::Scalar
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        if text.trim().is_empty() {
            return Err(WrongText::new("the text is empty", "write a value, or remove the key"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Written for Secret {
    const FORM: &'static str = "a text";

    fn form() -> Form {
        Form::Scalar
    }

    fn parse(text: &str) -> Result<Self, WrongText> {
        if text.is_empty() {
            let hint = "is the variable set, and the file not empty?";
            return Err(WrongText::new("the secret is empty", hint));
        }
        Ok(Self::new(text.to_owned()))
    }
}
