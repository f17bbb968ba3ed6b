//! `odeum package keygen`, `sign` and `verify`.

use std::path::{Path, PathBuf};

use clap::Args;
use odeum_proto::Digest;
use serde_json::json;

use super::{RegistryArgs, SOURCES, StoreArgs, package_of, source, source::read};
use crate::{
    cli::{CliError, Invocation},
    package::{
        ContainerError,
        key::{PUBLIC, PublicKey, SecretKey, Signature},
        source::{Contents, Source},
        store::write_whole,
        trust::{Reason, Trust},
    },
};

/// File of the private key unless another is named.
const KEY: &str = "odeum.key";

/// Arguments of `odeum package keygen`.
#[derive(Debug, Args)]
#[command(after_help = "\
Keep the private key where only you can read it; the public one is for everybody. A node takes what
you sign when the public key is in `packages.trusted` of its settings.

Example: odeum package keygen --out release.key")]
pub(crate) struct KeygenArgs {
    /// File for the private key; the public one is put beside it
    #[arg(long, value_name = "FILE", default_value = KEY)]
    out: PathBuf,
}

/// Arguments of `odeum package sign`.
#[derive(Debug, Args)]
#[command(after_help = "\
The signature is put into the file, beside those of others. The digest of the package stays as it is.

Examples:
  odeum package sign counter-1.0.0.odeum --key release.key
  odeum package sign counter@1.0.0             one that is kept here")]
pub(crate) struct SignArgs {
    /// A .odeum file, or a package that is kept here
    #[arg(value_name = "PACKAGE", value_parser = source)]
    package: Source,
    /// File of the private key
    #[arg(long, value_name = "FILE", default_value = KEY)]
    key: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
}

/// Arguments of `odeum package verify`.
#[derive(Debug, Args)]
#[command(after_help = SOURCES)]
#[command(after_long_help = "\
A SOURCE is a folder with odeum.toml, a .wasm, .wat or .odeum file, oci://HOST/NAME:TAG, or what
`odeum package ls` shows: NAME, NAME@VERSION, the beginning of a digest.

Every file is compared with the index and every signature with the package, whatever is trusted.
Exit code 3 means that the package is damaged or was tampered with.

Examples:
  odeum package verify counter-1.0.0.odeum --trusted release.key.pub
  odeum package verify oci://localhost:5000/counter:1.0.0 --allow-unsigned")]
pub(crate) struct VerifyArgs {
    /// The package
    #[arg(value_name = "SOURCE", value_parser = source)]
    package: Source,
    /// A key that may vouch for it, as text or in a file [default: any]
    #[arg(long, value_name = "KEY")]
    trusted: Vec<String>,
    /// Take it when nobody vouches for it
    #[arg(long)]
    allow_unsigned: bool,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// A public key as text, or the file that has it.
fn public_key(text: &str) -> Result<PublicKey, CliError> {
    if text.starts_with(PUBLIC) {
        return Ok(text.parse()?);
    }
    Ok(PublicKey::load(Path::new(text))?)
}

pub(super) fn keygen(invocation: &Invocation, args: KeygenArgs) -> Result<(), CliError> {
    let key = SecretKey::generate();
    let (secret, public) = (args.out.clone(), key.save(&args.out)?);
    let (id, text) = (key.public().id().to_string(), key.public().to_string());
    let json = json!({ "id": id, "public_key": text, "private": secret, "public": public });
    invocation.out.result(&json, |_| {
        format!(
            "made key {id} in {}; a node takes what it signs when its settings have\n\
             [packages]\ntrusted = [\"{text}\"]",
            secret.display()
        )
    })
}

pub(super) fn sign(invocation: &Invocation, args: SignArgs) -> Result<(), CliError> {
    let SignArgs { package: source, key, store } = args;
    let key = SecretKey::load(&key)?;
    let damaged = |error: ContainerError| CliError::Build {
        path: source.to_string().into(),
        error: error.into(),
    };
    let (signed, path) = match &source {
        Source::File(path) => {
            let Contents::Package(package) = read(path)? else {
                return Err(CliError::NotBuilt { what: source.to_string().into() });
            };
            let signed = package.signed(key.sign(package.digest())).map_err(damaged)?;
            write_whole(path, signed.file())
                .map_err(|reason| CliError::Unwritable { path: path.clone(), reason })?;
            (signed, path.clone())
        }
        Source::Kept(wanted) => {
            let store = store.store()?;
            let kept = store.find(wanted)?;
            let package = kept.package.map_err(damaged)?;
            let signed = package.signed(key.sign(package.digest())).map_err(damaged)?;
            let path = store.keep(&signed)?;
            if path != kept.path {
                // The one without this signature: two of one version cannot be told apart by name.
                store.remove(&kept.file_digest.to_string())?;
            }
            (signed, path)
        }
        Source::Folder(_) | Source::Registry(_) => {
            return Err(CliError::NotBuilt { what: source.to_string().into() });
        }
    };
    let id = key.public().id().to_string();
    let json = json!({
        "file": path,
        "key": id,
        "digest": signed.digest().to_string(),
        "file_digest": Digest::of(signed.file()).to_string(),
        "signatures": signed.signatures().len(),
    });
    invocation.out.result(&json, |_| {
        format!("signed {} by key {id}: digest {}", path.display(), signed.digest())
    })
}

pub(super) async fn verify(invocation: &Invocation, args: VerifyArgs) -> Result<(), CliError> {
    let VerifyArgs { package: source, trusted, allow_unsigned, store, registry } = args;
    let trusted: Vec<PublicKey> =
        trusted.iter().map(|text| public_key(text)).collect::<Result<_, _>>()?;
    let package = package_of(&source, &store, &registry).await?;
    let anybody = || package.signatures().iter().map(Signature::key).cloned().collect();
    let keys = if trusted.is_empty() { anybody() } else { trusted.clone() };
    let manifest = package.manifest();
    // What a node gives is for each node to say: here all is given.
    let trust = Trust {
        keys,
        allow_unsigned,
        folders: manifest.capabilities.folders.iter().map(|folder| folder.host.clone()).collect(),
        environment: manifest.capabilities.environment.clone(),
    };
    let reason = trust
        .admit(&package)
        .map_err(|error| CliError::Refused { what: source.to_string().into(), error })?;
    let (name, version, digest) = (&manifest.name, &manifest.version, package.digest());
    let signer = match reason {
        Reason::Signed(id) => Some(id.to_string()),
        Reason::Unsigned => None,
    };
    let json = json!({
        "name": name,
        "version": version,
        "digest": digest.to_string(),
        "files": package.index().files().len(),
        "signed_by": signer,
        "trusted": signer.is_some() && !trusted.is_empty(),
    });
    invocation.out.result(&json, |_| {
        let by = match &signer {
            Some(id) if trusted.is_empty() => {
                format!("signed by key {id}, which was compared with none (see --trusted)")
            }
            Some(id) => format!("signed by key {id}, which is trusted"),
            None => "signed by nobody".to_owned(),
        };
        let files = package.index().files().len();
        format!("{name} {version}: {files} files are as the index says, digest {digest}\n{by}")
    })
}
