//! What the names of upstreams lead to, as the test says: a resolver that answers by script.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use obo_gateway::forward::{Addresses, Resolver};
use tokio::sync::watch;

use super::gate::Gate;

/// The resolver; clones are the same one. It knows no name but those it is told.
#[derive(Clone, Default)]
pub struct Names(Arc<Shared>);

#[derive(Default)]
struct Shared {
    known: Mutex<HashMap<String, Known>>,
    asked: watch::Sender<Vec<String>>,
}

#[derive(Clone, Default)]
struct Known {
    addresses: Vec<IpAddr>,
    held: Option<Gate>,
}

impl Names {
    /// From now on `name` has these addresses; with none it is unknown.
    pub fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.0.known.lock().unwrap().entry(name.to_owned()).or_default().addresses = addresses;
    }

    /// From now on look-ups of `name` wait for the gate.
    pub fn hold(&self, name: &str, gate: &Gate) {
        self.0.known.lock().unwrap().entry(name.to_owned()).or_default().held = Some(gate.clone());
    }

    /// The names that were looked up so far, in order.
    pub fn asked(&self) -> Vec<String> {
        self.0.asked.borrow().clone()
    }

    /// Waits until `count` look-ups were begun.
    pub async fn asked_when(&self, count: usize) {
        let mut asked = self.0.asked.subscribe();
        super::within("look-ups", asked.wait_for(|asked| asked.len() >= count)).await.unwrap();
    }
}

impl Resolver for Names {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Addresses<'a> {
        Box::pin(async move {
            let known = self.0.known.lock().unwrap().get(host).cloned().unwrap_or_default();
            self.0.asked.send_modify(|asked| asked.push(host.to_owned()));
            if let Some(gate) = known.held {
                gate.pass().await;
            }
            // As it is when the answer comes.
            let known = self.0.known.lock().unwrap().get(host).cloned().unwrap_or_default();
            if known.addresses.is_empty() {
                return Err(io::Error::other("no such name, says the test"));
            }
            Ok(known.addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
        })
    }
}
