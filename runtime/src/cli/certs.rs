//! `odeum certs`: the certificates by which nodes know each other. Works on files only.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use odeum_cluster::transport::pki::{self, Authority, CertificateInfo, Rotated, Step};
use odeum_proto::NodeId;
use serde_json::{Value, json};

use super::{
    CliError, Invocation,
    out::{cell, table},
};

/// Where certificates are unless told otherwise.
const DEFAULT_DIR: &str = "odeum-certs";

/// What to do with certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make a certificate authority, once for each cluster
    #[command(after_help = "Keep ca.key safe and off the nodes: whoever has it can make nodes.")]
    Init {
        /// Folder for ca.pem and ca.key
        #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR)]
        dir: PathBuf,
    },
    /// Make, or renew, the certificate of a node
    #[command(after_help = "Copy the folder to the node and start it with \
                            `odeum up --certs FOLDER`.")]
    Issue {
        /// The node's name
        node: NodeId,
        /// Folder of the authority
        #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR)]
        dir: PathBuf,
        /// Folder for ca.pem, node.pem and node.key [default: a folder of the node's name in DIR]
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
    },
    /// Renew certificates in place, or change the authority without an outage
    ///
    /// Makes new certificates and keys for the nodes that have a folder in that of the authority
    /// (others: `odeum certs issue NODE --out FOLDER`). Copy each folder to its node: a running
    /// node looks at its files every 2 seconds, uses new ones for new connections, and keeps the
    /// links that stand. Files it cannot use it refuses with one line in its log, and keeps the
    /// old ones. It warns in its log, once a day, from 14 days before a certificate ends.
    #[command(after_help = ROTATE_HELP)]
    Rotate {
        /// Only these nodes
        #[arg(value_name = "NODE", conflicts_with = "authority")]
        nodes: Vec<NodeId>,
        /// Take a step in the change of the authority itself
        #[arg(long, value_enum, value_name = "STEP")]
        authority: Option<AuthorityStep>,
        /// Folder of the authority
        #[arg(long, value_name = "DIR", default_value = DEFAULT_DIR)]
        dir: PathBuf,
    },
    /// Show whom certificates are for and how long they are valid
    Show {
        /// A certificate, or a folder with some
        #[arg(default_value = DEFAULT_DIR)]
        path: PathBuf,
    },
}

const ROTATE_HELP: &str = "\
The change of an authority, without an outage, takes three steps. After each copy the folders to
all nodes, in any order, and wait until each has logged `changed certificates loaded`:
  odeum certs rotate --authority announce   every node trusts the old and the new authority
  odeum certs rotate --authority switch     every node gets a certificate of the new one
  odeum certs rotate --authority retire     the old one is no longer trusted
A step that is not the next one is refused; one that was interrupted may be taken again. Nodes
with a folder elsewhere need `odeum certs issue NODE --out FOLDER` after each step.";

/// A step in the change of the authority.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum AuthorityStep {
    /// Make a new authority, trusted beside the old one, which still signs
    Announce,
    /// Let the new authority sign, and give every node a certificate of it
    Switch,
    /// Trust the new authority alone
    Retire,
}

impl From<AuthorityStep> for Step {
    fn from(step: AuthorityStep) -> Self {
        match step {
            AuthorityStep::Announce => Self::Announce,
            AuthorityStep::Switch => Self::Switch,
            AuthorityStep::Retire => Self::Retire,
        }
    }
}

pub(super) fn certs(invocation: &Invocation, command: CertsCommand) -> Result<(), CliError> {
    match command {
        CertsCommand::Init { dir } => {
            Authority::create(&dir)?;
            invocation.out.result(&json!({ "authority": dir }), |_| {
                format!(
                    "made an authority in {}; make certificates with `odeum certs issue NODE`",
                    dir.display()
                )
            })
        }
        CertsCommand::Issue { node, dir, out } => {
            let out = out.unwrap_or_else(|| dir.join(node.as_str()));
            Authority::load(&dir)?.issue(&node, &out)?;
            invocation.out.result(&json!({ "node": node, "certs": out }), |_| {
                format!(
                    "made a certificate for {node}; start it with `odeum up --certs {}`",
                    out.display()
                )
            })
        }
        CertsCommand::Rotate { nodes, authority: None, dir } => {
            rotated(invocation, None, &pki::rotate(&dir, &nodes)?)
        }
        CertsCommand::Rotate { authority: Some(step), dir, .. } => {
            let step = Step::from(step);
            rotated(invocation, Some(step), &pki::change_authority(&dir, step)?)
        }
        CertsCommand::Show { path } => show(invocation, &path),
    }
}

/// What was written, and what is to be done with it.
fn rotated(
    invocation: &Invocation,
    step: Option<Step>,
    folders: &[Rotated],
) -> Result<(), CliError> {
    let nodes: Vec<Value> =
        folders.iter().map(|have| json!({ "node": have.node, "certs": have.folder })).collect();
    let json = json!({ "step": step.map(|step| step.to_string()), "nodes": nodes });
    let after = match step {
        None => "copy each folder to its node, which takes it up while it runs",
        Some(Step::Announce) => {
            "copy the folders to all nodes; when each has logged `changed certificates loaded`, \
             go on with `odeum certs rotate --authority switch`"
        }
        Some(Step::Switch) => {
            "copy the folders to all nodes; when each has logged `changed certificates loaded`, \
             go on with `odeum certs rotate --authority retire`"
        }
        Some(Step::Retire) => {
            "copy the folders to all nodes; certificates of the old authority are then refused"
        }
    };
    invocation.out.result(&json, |_| {
        if folders.is_empty() {
            return "there are no folders of nodes beside the authority".to_owned();
        }
        let rows = folders.iter().map(|have| [cell(&have.node), cell(have.folder.display())]);
        format!("{}\n{after}", table(["NODE", "FOLDER"], rows))
    })
}

fn show(invocation: &Invocation, path: &Path) -> Result<(), CliError> {
    let files = if path.is_dir() {
        let named = [pki::CA_CERT, pki::NODE_CERT].map(|name| path.join(name));
        let there: Vec<PathBuf> = named.into_iter().filter(|file| file.exists()).collect();
        // Nothing there: the complaint names the file that any folder should have.
        if there.is_empty() { vec![path.join(pki::CA_CERT)] } else { there }
    } else {
        vec![path.to_owned()]
    };
    let mut found = Vec::new();
    for file in files {
        // An authority's file has two while the authority is changed.
        found.extend(pki::inspect_all(&file)?.into_iter().map(|info| (file.clone(), info)));
    }
    let json: Vec<Value> = found.iter().map(|(file, info)| as_json(file, info)).collect();
    invocation.out.result(&json, |_| {
        let rows = found.iter().map(|(file, info)| {
            [
                cell(file.display()),
                info.node.as_ref().map(ToString::to_string),
                cell(if info.authority { "authority" } else { "node" }),
                cell(&info.not_before),
                cell(&info.not_after),
                cell(info.days_left),
            ]
        });
        table(["FILE", "NODE", "KIND", "FROM", "UNTIL", "DAYS LEFT"], rows)
    })
}

fn as_json(file: &Path, info: &CertificateInfo) -> Value {
    json!({
        "file": file,
        "node": info.node,
        "authority": info.authority,
        "not_before": info.not_before,
        "not_after": info.not_after,
        "days_left": info.days_left,
    })
}
