//! `cache.redis`: where the store is that replicas share, and what is sealed with which key.
//!
//! Nothing is connected to here, so that `check` can do it.

use super::super::file::Cache;
use super::Finding;
use crate::limits;
use crate::shared_store::{EncryptionKey, StoreAddress, StoreSettings};

/// What the file says of the store that replicas share, if anything.
pub(super) fn settings(file: &Cache, finding: &mut Finding<'_>) -> Option<StoreSettings> {
    let redis = file.redis.as_ref()?;
    let address = match StoreAddress::parse(redis.url.expose()) {
        Ok(address) => {
            if address.has_password() {
                finding.warn_of_literal("the URL with the password of Redis", &redis.url);
            }
            Some(address)
        }
        Err(wrong) => {
            finding.error(redis.url.place, wrong.message, wrong.hint);
            None
        }
    };
    let mut encryption_keys: Vec<EncryptionKey> = Vec::new();
    let mut is_good = true;
    for text in &redis.encryption_keys.0 {
        finding.warn_of_literal("an encryption key", text);
        let problem = match EncryptionKey::parse(text.expose()) {
            None => "the encryption key is not the base64 of 32 bytes",
            Some(key) if key.is_plain() => "the encryption key is one byte, again and again",
            Some(key) if encryption_keys.contains(&key) => {
                "the same encryption key stands here twice"
            }
            Some(key) => {
                encryption_keys.push(key);
                continue;
            }
        };
        is_good = false;
        finding.error(text.place, problem, "make one with `openssl rand -base64 32`");
    }
    let timeout = redis.timeout.value.0;
    if timeout > limits::SHARED_STORE_USUAL_TIMEOUT {
        finding.warning(
            redis.timeout.place,
            format!("each request may wait {timeout:?} for Redis"),
            "a server nearby answers within a millisecond, and an exchange takes a few hundred: `50ms` is plenty",
        );
    }
    is_good.then_some(StoreSettings {
        address: address?,
        encryption_keys,
        key_prefix: redis.key_prefix.0.clone(),
        timeout,
    })
}
