//! A cluster of three masters, each with a third of the slots.

use super::contents::{self, Entry};
use super::process::{Port, Process, Program};
use super::resp::Connection;
use crate::support::PATIENCE;

const NODES: usize = 3;
const SLOTS: usize = 16_384;

/// The cluster.
pub struct Cluster {
    nodes: Vec<Process>,
    /// Of the connections between nodes; they are the nodes' until the end.
    _buses: Vec<Port>,
}

impl Cluster {
    /// Starts one, and waits until every node says that all is well.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// One whose nodes go on when another one is gone, each with what it has.
    pub fn start_of_independent_nodes() -> Self {
        Self::start_with("cluster-require-full-coverage no\n")
    }

    fn start_with(settings: &str) -> Self {
        let buses: Vec<_> = (0..NODES).map(|_| Port::pick()).collect();
        let node = |bus: &Port| {
            let settings = format!(
                "{}cluster-enabled yes\ncluster-node-timeout 2000\ncluster-port {}\n{settings}",
                super::IN_MEMORY,
                bus.number()
            );
            Process::start(Program::Server, |_, _| settings.clone())
        };
        let nodes: Vec<_> = buses.iter().map(node).collect();
        for (index, node) in nodes.iter().enumerate() {
            let mut connection = Connection::open(node.port()).unwrap();
            let epoch = (index + 1).to_string();
            connection.ask(&[b"CLUSTER", b"SET-CONFIG-EPOCH", epoch.as_bytes()]);
            let (from, to) = (index * SLOTS / NODES, (index + 1) * SLOTS / NODES - 1);
            let (from, to) = (from.to_string(), to.to_string());
            connection.ask(&[b"CLUSTER", b"ADDSLOTSRANGE", from.as_bytes(), to.as_bytes()]);
            if index > 0 {
                let (port, bus) = (nodes[0].port().to_string(), buses[0].number().to_string());
                let meet =
                    [&b"CLUSTER"[..], b"MEET", b"127.0.0.1", port.as_bytes(), bus.as_bytes()];
                connection.ask(&meet);
            }
        }
        let cluster = Self { nodes, _buses: buses };
        cluster.is_well();
        cluster
    }

    fn is_well(&self) {
        let since = std::time::Instant::now();
        for node in &self.nodes {
            let mut connection = Connection::open(node.port()).unwrap();
            loop {
                let info = connection.ask(&[b"CLUSTER", b"INFO"]).text();
                let known = format!("cluster_known_nodes:{NODES}\r\n");
                if info.contains("cluster_state:ok\r\n") && info.contains(&known) {
                    break;
                }
                assert!(since.elapsed() < PATIENCE, "the cluster does not come together:\n{info}");
                // Nodes tell nobody; the interval only spares the processor.
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
    }

    /// `redis-cluster://…` with all nodes.
    pub fn url(&self) -> String {
        let hosts: Vec<_> =
            self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis-cluster://{}", hosts.join(","))
    }

    /// `redis://…` of one node.
    pub fn url_of_one_node(&self) -> String {
        format!("redis://127.0.0.1:{}", self.nodes[0].port())
    }

    /// What each node has.
    pub fn dump(&self) -> Vec<Vec<Entry>> {
        let running = (0..NODES).filter(|node| self.nodes[*node].is_running());
        running.map(|node| self.dump_of(node)).collect()
    }

    /// What one node has.
    pub fn dump_of(&self, node: usize) -> Vec<Entry> {
        contents::dump(&mut Connection::open(self.nodes[node].port()).unwrap())
    }

    /// Ends a node; its third of the slots has no other.
    pub fn kill(&self, node: usize) {
        self.nodes[node].kill();
    }
    /// Starts it again, with nothing in it but its third of the slots.
    pub fn restart_empty(&self, node: usize) {
        self.nodes[node].run();
    }

    /// Stops a node in the middle of whatever it does: connections stand, and nothing answers.
    pub fn pause(&self, node: usize) {
        self.nodes[node].pause();
    }

    /// It goes on.
    pub fn resume(&self, node: usize) {
        self.nodes[node].resume();
    }
}
