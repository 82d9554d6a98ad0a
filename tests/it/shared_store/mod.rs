//! What replicas share by way of Redis, and what its absence costs. Real servers, real exchanges:
//! what was shared is counted at the provider. Ten thousand users are in `tests/replicas/`.

mod cluster;
mod forgetting;
mod lease;
mod notices;
mod outage;
mod reload;
mod renewal;
mod replicas;
mod sealed;
mod servers;
mod strangers;
