//! `ports.json`: tells scripts and people which ports a node got when it asked for any.

use std::{fs, io, net::SocketAddr, path::Path};

use odeum_cluster::transport::TransportHandle;
use serde::{Deserialize, Serialize};

use crate::api::Listening;

/// The file's name in the data folder.
pub const PORTS_FILE: &str = "ports.json";

/// Where a running node listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Its HTTP API (TCP).
    pub api: SocketAddr,
    /// Its cluster endpoint (UDP).
    pub cluster: SocketAddr,
    /// Its process, to tell its file from one that an earlier start left behind.
    pub pid: u32,
}

impl Ports {
    pub(super) fn of(listening: &Listening, transport: &TransportHandle) -> Self {
        Self { api: listening.addr(), cluster: transport.local_addr(), pid: std::process::id() }
    }

    /// Writes the file in one step, so that a reader never sees half of it.
    pub(super) fn write(&self, data_dir: &Path) -> io::Result<()> {
        let fresh = data_dir.join("ports.json.new");
        fs::write(&fresh, serde_json::to_vec_pretty(self).map_err(io::Error::other)?)?;
        fs::rename(fresh, data_dir.join(PORTS_FILE))
    }
}
