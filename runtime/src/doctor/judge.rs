//! From facts to findings. Pure.

use serde::{Deserialize, Serialize};

use super::{
    CertificateFacts, ClockFacts, Facts, FolderFacts, IsolationFacts, MachineFacts, NodeFacts,
    PathFacts, PeerFacts, PortFacts, PortState,
};
use crate::config::ByteSize;

/// Certificates that end within so many days are renewed in working hours.
const RENEW_DAYS: i64 = 14;

/// Clocks that differ by more make the logs of two nodes hard to read side by side.
const CLOCK_US: u64 = 500_000;

/// The UDP payload of IPv6's smallest packet. Below it something on the way is odd.
const MTU: u16 = 1_280 - 48;

/// After so long QUIC has found out how large packets may be.
const MTU_KNOWN_MS: u64 = 400;

/// More than this share of packets lost is no accident, once so many were sent.
const LOSS: f64 = 0.02;
/// See [`LOSS`].
const LOSS_PACKETS: u64 = 200;

/// Connections of callers, files of the store and sockets, with room to spare.
const OPEN_FILES: u64 = 4_096;
/// Below this a node with a few hundred callers fails.
const OPEN_FILES_LEAST: u64 = 512;

/// The kernel's own default. Each instance of a guest takes four.
const MAPPINGS: u64 = 65_530;
/// See [`MAPPINGS`].
const MAPPINGS_PER_GUEST: u64 = 4;

/// The store writes whole snapshots beside its log.
const DISK: u64 = 1 << 30;
/// Below this the store stops writing soon.
const DISK_LEAST: u64 = 128 << 20;

/// A write that takes longer to be on the disk holds up every change in the cluster.
const SYNC_US: u64 = 20_000;

/// A node without guests takes some 100 MiB; each guest up to 64 MiB more.
const MEMORY: u64 = 512 << 20;
/// See [`MEMORY`].
const MEMORY_LEAST: u64 = 128 << 20;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and will not always, or is slower than it could be.
    Warn,
    /// It does not work.
    Fail,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What sort of thing: `node`, `certificates`, `ports`, `peers`, `clock`, `mtu`, `disk`,
    /// `memory`, `limits`, `isolation`.
    pub check: String,
    /// Which one.
    pub subject: String,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it, unless all is well.
    pub cure: Option<String>,
}

/// Findings of one sort.
struct Findings<'a> {
    check: &'static str,
    all: &'a mut Vec<Finding>,
}

impl<'a> Findings<'a> {
    fn of(all: &'a mut Vec<Finding>, check: &'static str) -> Self {
        Self { check, all }
    }

    fn add(
        &mut self,
        level: Level,
        subject: impl ToString,
        found: impl ToString,
        cure: Option<String>,
    ) {
        self.all.push(Finding {
            check: self.check.to_owned(),
            subject: subject.to_string(),
            level,
            found: found.to_string(),
            cure,
        });
    }

    fn ok(&mut self, subject: impl ToString, found: impl ToString) {
        self.add(Level::Ok, subject, found, None);
    }

    fn warn(&mut self, subject: impl ToString, found: impl ToString, cure: impl ToString) {
        self.add(Level::Warn, subject, found, Some(cure.to_string()));
    }

    fn fail(&mut self, subject: impl ToString, found: impl ToString, cure: impl ToString) {
        self.add(Level::Fail, subject, found, Some(cure.to_string()));
    }

    /// `value` where at least `enough` is wanted and `least` needed.
    fn at_least(
        &mut self,
        subject: &str,
        (value, found): (u64, String),
        (enough, least): (u64, u64),
        cure: impl ToString,
    ) {
        match value {
            value if value >= enough => self.ok(subject, found),
            value if value >= least => self.warn(subject, found, cure),
            _ => self.fail(subject, found, cure),
        }
    }
}

/// What `facts` mean, in the order in which to mend it.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    if let Some(node) = &facts.node {
        on_node(Findings::of(&mut all, "node"), node);
    }
    on_certificates(Findings::of(&mut all, "certificates"), &facts.certificates);
    on_ports(Findings::of(&mut all, "ports"), &facts.ports);
    for peer in &facts.peers {
        on_peer(Findings::of(&mut all, "peers"), peer);
        if let Some(clock) = &peer.clock {
            on_clock(Findings::of(&mut all, "clock"), &peer.place, *clock);
        }
        if let Some(path) = &peer.path {
            on_mtu(Findings::of(&mut all, "mtu"), &peer.place, path);
        }
    }
    on_folder(Findings::of(&mut all, "disk"), &facts.folder);
    on_memory(Findings::of(&mut all, "memory"), &facts.machine);
    on_limits(Findings::of(&mut all, "limits"), &facts.machine);
    on_isolation(Findings::of(&mut all, "isolation"), &facts.isolation);
    all
}

/// Warnings at most: guests are inside the sandbox of the engine whatever the kernel gives.
fn on_isolation(mut on: Findings<'_>, facts: &IsolationFacts) {
    const SUBJECT: &str = "host processes";
    if let Some(problem) = &facts.problem {
        let cure = "firmware with `isolation = \"process\"` may not start here: run \
                    `odeum host --check` and see what it says";
        on.warn(SUBJECT, problem, cure);
        return;
    }
    let tried = facts.denied.len() + facts.allowed.len();
    if facts.allowed.is_empty() {
        on.ok(SUBJECT, format!("shut in: all of {tried} attempts to get out were denied"));
        return;
    }
    let cure = "run firmware of others on a kernel with Landlock (6.12 or later) and seccomp, both \
                allowed in the container if there is one; `odeum host --check` says more";
    let allowed = facts.allowed.join(", ");
    on.warn(SUBJECT, format!("shut in, but for: {allowed} ({tried} attempts)"), cure);
}

fn on_node(mut on: Findings<'_>, node: &NodeFacts) {
    let who = format!("{}, process {}, version {}", node.node, node.pid, node.version);
    match &node.not_ready {
        None => on.ok(&node.node, who),
        Some(reason) => on.fail(
            &node.node,
            format!("{who}: {reason}"),
            "see which nodes are down with `odeum get nodes`, and start those; its log says more",
        ),
    }
}

fn on_certificates(mut on: Findings<'_>, facts: &CertificateFacts) {
    let folder = facts.folder.display();
    if facts.made_at_start {
        on.ok(folder, "made at the first start (--dev)");
        return;
    }
    if let Some(problem) = &facts.problem {
        let cure = "make them with `odeum certs init` and `odeum certs issue NODE`, copy the \
                    node's folder here, and name it with --certs";
        on.fail(&folder, problem, cure);
    }
    if let Some(days) = facts.days_left.filter(|_| facts.problem.is_none()) {
        let found = format!("valid for {days} days, of this node and its authority");
        match days {
            days if days > RENEW_DAYS => on.ok(&folder, found),
            _ => on.warn(&folder, found, "renew it with `odeum certs rotate NODE`"),
        }
    }
    if let Some(days) = facts.authority_days_left.filter(|days| *days <= RENEW_DAYS) {
        let cure = "change it with `odeum certs rotate --authority announce` and what follows";
        on.warn("authority", format!("valid for {days} days"), cure);
    }
    if let Some(mode) = facts.key_mode.filter(|mode| mode & 0o077 != 0) {
        let cure = format!("chmod 600 {}/node.key", facts.folder.display());
        on.warn("key", format!("others can read or write it (mode {mode:03o})"), cure);
    }
}

fn on_ports(mut on: Findings<'_>, ports: &[PortFacts]) {
    for PortFacts { what, flag, addr, state } in ports {
        let subject = format!("{what} {addr}");
        match state {
            PortState::Held => on.ok(subject, "the node listens there"),
            PortState::Free => on.ok(subject, "free"),
            PortState::Taken { reason, by } => {
                let found = match by {
                    Some(node) => format!("{reason}; node {node} listens there"),
                    None => reason.clone(),
                };
                let cure = format!("choose another address with {flag}, or end what has this one");
                on.fail(subject, found, cure);
            }
        }
    }
}

fn on_peer(mut on: Findings<'_>, peer: &PeerFacts) {
    let Some(path) = &peer.path else {
        let problem = peer.problem.as_deref().unwrap_or("no link to it");
        on.fail(&peer.place, problem, unreachable_cure(problem));
        return;
    };
    let found = format!(
        "{}, round trip {} µs, {} of {} packets lost",
        path.addr, path.rtt_us, path.lost_packets, path.sent_packets
    );
    let loss = path.lost_packets as f64 / path.sent_packets.max(1) as f64;
    if path.sent_packets >= LOSS_PACKETS && loss > LOSS {
        let cure = "look for an overloaded link or machine between the two: messages are sent \
                    again and arrive later";
        on.warn(&peer.place, found, cure);
    } else {
        on.ok(&peer.place, found);
    }
    if let Some(days) = path.days_left.filter(|days| *days <= RENEW_DAYS) {
        let cure =
            format!("renew it with `odeum certs rotate` and copy its folder to {}", peer.place);
        on.warn(&peer.place, format!("its certificate is valid for {days} days"), cure);
    }
}

/// What to do about a peer that is not reached, by what it said.
fn unreachable_cure(problem: &str) -> &'static str {
    let says = |word| problem.contains(word);
    if says("certificate") {
        "issue the certificates of both nodes by one authority: `odeum certs issue NODE`"
    } else if says("wire version") {
        "bring both nodes to the same version"
    } else if says("belongs to") {
        "choose another data folder with --data-dir, or another place with --join"
    } else if says("is called") {
        "name another node with --join, or give this one a name and certificate of its own"
    } else if says("HOST:PORT") || says("lookup") || says("no address") {
        "correct the place: --join takes HOST:PORT of a node's cluster address (UDP)"
    } else {
        "start the node there, and let UDP to that port through the firewalls between the two"
    }
}

fn on_clock(mut on: Findings<'_>, place: &str, clock: ClockFacts) {
    let ClockFacts { ahead_us, within_us } = clock;
    let (away, way) = (ahead_us.unsigned_abs(), if ahead_us < 0 { "behind" } else { "ahead" });
    let found = format!("{} ms {way}, to {} ms", away / 1_000, within_us.div_ceil(1_000));
    // What the comparison cannot tell is not held against the clock.
    match away.saturating_sub(within_us) > CLOCK_US {
        false => on.ok(place, found),
        true => on.warn(
            place,
            found,
            "keep the clocks of both machines by NTP (chrony, systemd-timesyncd)",
        ),
    }
}

fn on_mtu(mut on: Findings<'_>, place: &str, path: &PathFacts) {
    let found = format!("packets of {} bytes", path.mtu);
    let known = path.since_ms >= MTU_KNOWN_MS;
    match path.mtu {
        mtu if mtu >= MTU || !known => on.ok(place, found),
        _ => on.warn(
            place,
            found,
            "set the MTU of the tunnel or network between the two to 1280 or more: transfers are \
             slower with small packets",
        ),
    }
}

fn on_folder(mut on: Findings<'_>, facts: &FolderFacts) {
    let folder = facts.folder.display();
    if let Some(problem) = &facts.problem {
        on.fail(&folder, problem, "let the node's user write there, or choose another --data-dir");
    }
    if let Some(free) = facts.free_bytes {
        let found = (free, format!("{} free", ByteSize(free).rounded()));
        let cure = "free space on that disk: the store stops writing before it is full";
        on.at_least(&folder.to_string(), found, (DISK, DISK_LEAST), cure);
    }
    if let Some(sync) = facts.sync_us {
        let found = format!("a write is safe after {:.1} ms", sync as f64 / 1_000.0);
        match sync <= SYNC_US {
            true => on.ok(&folder, found),
            false => on.warn(
                &folder,
                found,
                "put the data folder on a faster disk: every change waits for it",
            ),
        }
    }
}

fn on_memory(mut on: Findings<'_>, facts: &MachineFacts) {
    let left = facts.memory_limit.map(|limit| limit.saturating_sub(facts.memory_used.unwrap_or(0)));
    if let Some(left) = left {
        let limit = facts.memory_limit.unwrap_or_default();
        let found = format!("{} of {} left", ByteSize(left).rounded(), ByteSize(limit).rounded());
        let cure = "give the container or service more memory";
        on.at_least("control group", (left, found), (MEMORY, MEMORY_LEAST), cure);
    }
    if let Some(available) = facts.memory_available {
        let found = (available, format!("{} available", ByteSize(available).rounded()));
        on.at_least(
            "machine",
            found,
            (MEMORY, MEMORY_LEAST),
            "free memory on this machine, or add some",
        );
    }
}

fn on_limits(mut on: Findings<'_>, facts: &MachineFacts) {
    if let Some(files) = facts.open_files {
        let found = match files {
            u64::MAX => "unlimited".to_owned(),
            files => format!("{files} open files"),
        };
        let cure = "`ulimit -n 65536` before the start, or LimitNOFILE=65536 in the service";
        on.at_least("RLIMIT_NOFILE", (files, found), (OPEN_FILES, OPEN_FILES_LEAST), cure);
    }
    if let Some(mappings) = facts.mappings {
        let guests = mappings / MAPPINGS_PER_GUEST;
        let found = (mappings, format!("{mappings} mappings, for some {guests} guests"));
        on.at_least("vm.max_map_count", found, (MAPPINGS, 0), sysctl("vm.max_map_count", 262_144));
    }
    let wanted = facts.wanted_buffer;
    for (name, value) in
        [("net.core.rmem_max", facts.receive_buffer), ("net.core.wmem_max", facts.send_buffer)]
    {
        let Some(value) = value else { continue };
        let found = (
            value,
            format!(
                "{} for a socket, {} are asked for",
                ByteSize(value).rounded(),
                ByteSize(wanted).rounded()
            ),
        );
        on.at_least(name, found, (wanted, 0), sysctl(name, wanted));
    }
}

fn sysctl(name: &str, value: u64) -> String {
    format!("`sysctl -w {name}={value}`, and a line in /etc/sysctl.d to keep it")
}

#[cfg(test)]
mod tests;
