//! Our nodes against Erlang/OTP: a `gen_server` with a registered name, reached by
//! `gen_server:cast` and `gen_server:call` over distribution with mutual TLS. Debian's packages;
//! the two nodes know each other's port and need no `epmd`.
//!
//! The emulator's flags are its defaults. Tried and worse on two cores: schedulers that do not
//! wait busily (`+sbwt none` and its siblings), and a larger distribution buffer (`+zdbbl`).

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use odeum_cluster::transport::pki;
use tokio::process::Command;

use crate::debian;
use crate::remote::cpus::Placement;
use crate::remote::pair::{Pair, Process};
use crate::remote::{self, DRIVE, Effort, HOLD, Party, Targets, certs, tls};
use crate::report::{Report, Target};

/// Both nodes' program, compiled when it is needed.
const SOURCE: &str = include_str!("erlang/odeum_peer.erl");

/// What `vs erlang --install` gets from Debian: the emulator with its compiler, and TLS.
const PACKAGES: [&str; 2] = ["erlang-base", "erlang-ssl"];

/// Whether Erlang is there.
pub async fn is_installed() -> bool {
    // `erlc` comes with the emulator, the library in a package of its own.
    let mut command = Command::new("erl");
    command.args([
        "-noshell",
        "-eval",
        "halt(case code:which(ssl) of non_existing -> 1; _ -> 0 end)",
    ]);
    succeeds(command.stdin(Stdio::null())).await && succeeds(Command::new("erlc").arg("+'S'")).await
}

/// The version of Erlang/OTP; `None` when it is not installed.
pub async fn version() -> Option<String> {
    let mut command = Command::new("erl");
    let told = "io:put_chars(erlang:system_info(otp_release)), halt().";
    command.args(["-noshell", "-eval", told]).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().await.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// Gets Erlang from Debian.
///
/// # Errors
/// If `apt-get` fails, which it does without the rights of root.
pub async fn install() -> anyhow::Result<()> {
    debian::install(&PACKAGES).await
}

async fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().await.is_ok_and(|status| status.success())
}

/// Runs all rows.
///
/// # Errors
/// If a side cannot be started or fails in the middle.
pub async fn run(effort: Effort) -> anyhow::Result<Report> {
    let targets = Targets {
        tell: Target::AtLeast(2.5),
        ask_time: Target::AtMost(1.0),
        asks: Target::AtLeast(3.0),
        ..Targets::default()
    };
    remote::compare("Erlang/OTP", Party::Erlang, targets, effort).await
}

/// Starts both nodes.
pub(crate) async fn start(stage: &Path, placement: Placement) -> anyhow::Result<Pair> {
    let dir = stage.join("erlang");
    std::fs::create_dir(&dir)?;
    std::fs::write(dir.join("odeum_peer.erl"), SOURCE)?;
    // The name in the certificates, so that the nodes can check it, without any name server.
    let host = tls::NAME;
    let hosts = format!("{{host, {{127,0,0,1}}, [\"{host}\"]}}.\n{{lookup, [file]}}.\n");
    std::fs::write(dir.join("inetrc"), hosts)?;
    let compiled = Command::new("erlc").arg("odeum_peer.erl").current_dir(&dir).status().await?;
    anyhow::ensure!(compiled.success(), "erlc failed: {compiled}");

    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let mut hold = node(stage, &dir, HOLD, port)?;
    hold.args(["-eval", "odeum_peer:main([hold])."]);
    let (hold, at) = Process::start("Erlang hold", &mut hold, placement.hold).await?;
    let mut drive = node(stage, &dir, DRIVE, port)?;
    // It only dials: the port is the other's.
    drive.args(["-dist_listen", "false", "-eval"]);
    drive.arg(format!("odeum_peer:main([drive, '{at}'])."));
    let (drive, _) = Process::start("Erlang drive", &mut drive, placement.drive).await?;
    Ok(Pair::new(hold, drive))
}

/// A node that knows without `epmd` that nodes listen on `port`.
fn node(stage: &Path, dir: &Path, name: &str, port: u16) -> anyhow::Result<Command> {
    let options = tls_options(&certs(stage, name));
    let file = dir.join(format!("{name}.conf"));
    std::fs::write(&file, options)?;
    let mut command = Command::new("erl");
    command
        .current_dir(dir)
        .env("ERL_INETRC", dir.join("inetrc"))
        .env("ERL_CRASH_DUMP_SECONDS", "0")
        .args(["-noshell", "-proto_dist", "inet_tls", "-ssl_dist_optfile"])
        .arg(file)
        .args(["-name", &format!("{name}@{}", tls::NAME), "-setcookie", "loadtest"])
        .args(["-start_epmd", "false", "-erl_epmd_port", &port.to_string()])
        .args(["-kernel", "inet_dist_use_interface", "{127,0,0,1}"]);
    Ok(command)
}

/// Mutual TLS 1.3 with the certificates in `dir`, as an Erlang term.
fn tls_options(dir: &Path) -> String {
    let path = |file| -> PathBuf { dir.join(file) };
    let common = format!(
        "{{certfile, {:?}}}, {{keyfile, {:?}}}, {{cacertfile, {:?}}}, {{verify, verify_peer}}, \
         {{versions, ['tlsv1.3']}}",
        path(pki::NODE_CERT),
        path(pki::NODE_KEY),
        path(pki::CA_CERT),
    );
    format!("[{{server, [{common}, {{fail_if_no_peer_cert, true}}]}}, {{client, [{common}]}}].\n")
}
