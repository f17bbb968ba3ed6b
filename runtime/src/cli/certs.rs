//! `odeum certs`: the certificates by which nodes know each other. Works on files only.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use odeum_cluster::transport::pki::{self, Authority, CertificateInfo};
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
    /// Show whom certificates are for and how long they are valid
    Show {
        /// A certificate, or a folder with some
        #[arg(default_value = DEFAULT_DIR)]
        path: PathBuf,
    },
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
        CertsCommand::Show { path } => show(invocation, &path),
    }
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
    let found = files.into_iter().map(|file| pki::inspect(&file).map(|info| (file, info)));
    let found = found.collect::<Result<Vec<_>, _>>()?;
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
