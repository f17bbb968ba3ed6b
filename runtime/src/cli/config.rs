//! `odeum config`: the settings a node would run with. Also the flags that set them.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand};
use odeum_proto::{Label, NodeId};
use serde_json::{Value, json};

use super::{
    CliError, Invocation,
    out::{cell, table},
};
use crate::config::{self, LogFormat, Resolved};

/// What to do with the settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every setting in force and where its value comes from
    ///
    /// It reads what `odeum up` with the same flags would read: the defaults, the file, that of the
    /// profile, variables such as ODEUM_API__LISTEN, flags. The later wins.
    Show(NodeFlags),
}

/// The flags that are settings of a node.
#[derive(Debug, Args)]
pub(crate) struct NodeFlags {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE", env = "ODEUM_CONFIG")]
    config: Option<PathBuf>,
    /// Read settings from the profile's file too, such as odeum.NAME.toml
    #[arg(long, value_name = "NAME", env = "ODEUM_PROFILE")]
    profile: Option<String>,
    /// Folder for everything the node keeps
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Make a certificate authority and a certificate when there are none
    #[arg(long)]
    dev: bool,
    /// Take packages that nobody signed, bare modules included; --dev does, too
    #[arg(long)]
    allow_unsigned: bool,
    /// The node's name in the cluster
    #[arg(long, value_name = "NAME")]
    node: Option<NodeId>,
    /// Something to say of the node; may be given more than once
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(Label, Label)>,
    /// What the node shares its fate with, such as its rack
    #[arg(long, value_name = "ZONE")]
    zone: Option<Label>,
    /// How much the node takes on in proportion to others [default: 100]
    #[arg(long, value_name = "WEIGHT")]
    capacity: Option<u32>,
    /// A node of the cluster to join; may be given more than once
    #[arg(long, value_name = "HOST:PORT")]
    join: Vec<String>,
    /// Folder with ca.pem, node.pem and node.key
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// Where the HTTP API listens (TCP)
    #[arg(long, value_name = "ADDR")]
    api: Option<SocketAddr>,
    /// Where the node listens for other nodes (UDP)
    #[arg(long, value_name = "ADDR")]
    cluster: Option<SocketAddr>,
    /// How log lines look
    #[arg(long, value_name = "TEXT|JSON", value_enum, hide_possible_values = true)]
    log_format: Option<LogFormat>,
}

impl NodeFlags {
    /// These flags with one more place to join by, the first of all.
    pub(super) fn joining(mut self, place: &str) -> Self {
        self.join.insert(0, place.to_owned());
        self
    }

    /// The settings in force with these flags.
    pub(super) fn resolve(self) -> Result<Resolved, CliError> {
        #[rustfmt::skip]
        let Self {
            config, profile, data_dir, dev, allow_unsigned, node, label, zone, capacity, join, certs,
            api, cluster, log_format,
        } = self;
        let given = [
            ("--data-dir", "node.data-dir", data_dir.map(|dir| json!(dir))),
            ("--dev", "node.dev", dev.then_some(Value::Bool(true))),
            (
                "--allow-unsigned",
                "packages.allow-unsigned",
                allow_unsigned.then_some(Value::Bool(true)),
            ),
            ("--node", "node.name", node.map(|name| json!(name))),
            ("--zone", "node.zone", zone.map(|zone| json!(zone))),
            ("--capacity", "node.capacity", capacity.map(|capacity| json!(capacity))),
            ("--join", "cluster.join", (!join.is_empty()).then(|| json!(join))),
            ("--certs", "cluster.certs", certs.map(|dir| json!(dir))),
            ("--api", "api.listen", api.map(|addr| json!(addr))),
            ("--cluster", "cluster.listen", cluster.map(|addr| json!(addr))),
            ("--log-format", "log.format", log_format.map(|format| json!(format))),
        ];
        let mut sources = config::gather(config.as_deref(), profile.as_deref())?;
        for (flag, key, value) in given {
            if let Some(value) = value {
                sources = sources.flag(flag, key, value);
            }
        }
        for (key, value) in label {
            sources = sources.flag("--label", &format!("node.labels.{key}"), json!(value));
        }
        Ok(config::resolve(&sources)?)
    }
}

/// `key=value`; of several `=` the first one separates.
pub(super) fn label(text: &str) -> Result<(Label, Label), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.contains('.') {
        return Err("a key with dots can only stand in a file, in quotes".to_owned());
    }
    let part = |part: &str| part.parse::<Label>().map_err(|error| error.to_string());
    Ok((part(key)?, part(value)?))
}

pub(super) fn config(invocation: &Invocation, command: ConfigCommand) -> Result<(), CliError> {
    let ConfigCommand::Show(flags) = command;
    let entries = flags.resolve()?.entries()?;
    let json: BTreeMap<&str, Value> = entries
        .iter()
        .map(|entry| {
            let value = json!({ "value": entry.value, "from": entry.origin.to_string() });
            (entry.key.as_str(), value)
        })
        .collect();
    invocation.out.result(&json, |_| {
        let rows = entries.iter().map(|entry| {
            let value = match &entry.value {
                Value::Null => None,
                Value::String(text) => cell(text),
                other => cell(other),
            };
            [cell(&entry.key), value, cell(&entry.origin)]
        });
        table(["SETTING", "VALUE", "FROM"], rows)
    })
}
