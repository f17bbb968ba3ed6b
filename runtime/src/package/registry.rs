//! Packages in OCI registries. `oci-client` is at home here.
//!
//! A package is an artifact whose configuration is its index, and each of its files is a layer, so
//! that nothing is there twice and other tools find the module:
//!
//! | what | media type |
//! |---|---|
//! | the index | `application/vnd.odeum.package.index.v1+json` (the artifact's configuration) |
//! | the module | `application/wasm` |
//! | `odeum.toml` | `application/vnd.odeum.package.manifest.v1+toml` |
//! | signatures | `application/vnd.odeum.package.signatures.v1+json` |
//! | any other file | `application/vnd.odeum.package.file.v1` |
//!
//! The registry knows each by its SHA-256, which the client checks; then the package is put together
//! again and checked as any other is, so that no registry is trusted. As a package has one way to be
//! written, what is pulled is what was pushed, byte by byte. An artifact of another tool with one
//! layer of `application/wasm` is a module, of which a package is made.

mod credentials;
mod layers;
mod place;
mod writer;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bytes::Bytes;
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    errors::OciDistributionError,
    manifest::{OciDescriptor, OciImageManifest},
    secrets::RegistryAuth,
};
use odeum_proto::limits::{PACKAGE_BYTES, PACKAGE_FILES};

use self::{layers::Part, writer::Bounded};
use super::{
    ContainerError, Package,
    build::{self, BuildError},
};

pub use self::{
    credentials::Credentials,
    place::{Place, PlaceError, SCHEME},
};

/// How long a registry may take to answer a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a registry may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest piece of what a registry says in an error, in bytes.
const REASON_BYTES: usize = 300;

/// A package that cannot be got from, or brought to, a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry cannot be reached, has no such thing, or refuses.
    #[error("{place}: {reason}")]
    Refused {
        /// Where.
        place: Box<str>,
        /// What the registry or the network said.
        reason: Box<str>,
    },
    /// What is there is larger than a package can be.
    #[error("{place} has {got} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Where.
        place: Box<str>,
        /// How many it has, or claims.
        got: u64,
        /// The bound.
        limit: usize,
    },
    /// What is there is no package and no module.
    #[error("{place} is no package and no module: it is {found}")]
    NoPackage {
        /// Where.
        place: Box<str>,
        /// What it is instead.
        found: Box<str>,
    },
    /// The package is not what was built.
    #[error("{place}: {error}")]
    Container {
        /// Where.
        place: Box<str>,
        /// What is wrong with it.
        error: ContainerError,
    },
    /// The module of another tool cannot be made a package.
    #[error("{place}: {error}")]
    Module {
        /// Where.
        place: Box<str>,
        /// What is wrong with it.
        error: BuildError,
    },
    /// What Docker stored cannot be read.
    #[error("cannot read who you are to the registry from {}: {reason}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Box<str>,
    },
}

/// A registry. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    client: Client,
    auth: RegistryAuth,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Registry {
    /// The registry that has `place`. It is spoken to by HTTP on this machine, else by HTTPS.
    ///
    /// # Errors
    /// [`RegistryError::Refused`] when there can be no TLS on this machine.
    pub fn of(place: &Place, credentials: Credentials) -> Result<Self, RegistryError> {
        let protocol =
            if place.is_loopback() { ClientProtocol::Http } else { ClientProtocol::Https };
        let config = ClientConfig {
            protocol,
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            user_agent: concat!("odeum/", env!("CARGO_PKG_VERSION")),
            // A package is one for all platforms.
            platform_resolver: None,
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| refused(place, &error))?;
        let auth = match credentials {
            Credentials::Anonymous => RegistryAuth::Anonymous,
            Credentials::Password { username, password } => RegistryAuth::Basic(username, password),
        };
        Ok(Self { client, auth })
    }

    /// Brings a package to `place`, and returns the digest that the registry has it by.
    ///
    /// # Errors
    /// [`RegistryError`] when the registry cannot be reached or refuses.
    pub async fn push(&self, place: &Place, package: &Package) -> Result<String, RegistryError> {
        let reference = reference(place);
        let failed = |error| RegistryError::Container { place: told(place), error };
        let (layers, config) = layers::of(package).map_err(failed)?;
        let manifest = layers::manifest(package, &layers, &config);
        let refused = |error: OciDistributionError| refused(place, &error);
        self.client
            .push(&reference, &layers, config, &self.auth, Some(manifest))
            .await
            .map_err(refused)?;
        self.client.fetch_manifest_digest(&reference, &self.auth).await.map_err(refused)
    }

    /// Gets the package at `place`, and the digest that the registry has it by.
    ///
    /// # Errors
    /// [`RegistryError`] when it cannot be had, or is not what was built.
    pub async fn pull(&self, place: &Place) -> Result<(Package, String), RegistryError> {
        let reference = reference(place);
        let (manifest, digest) = self
            .client
            .pull_image_manifest(&reference, &self.auth)
            .await
            .map_err(|error| refused(place, &error))?;
        check_sizes(place, &manifest)?;
        let package = if manifest.config.media_type == layers::INDEX {
            self.pull_package(place, &reference, &manifest).await?
        } else {
            self.pull_module(place, &reference, &manifest).await?
        };
        Ok((package, digest))
    }

    async fn pull_package(
        &self,
        place: &Place,
        reference: &Reference,
        manifest: &OciImageManifest,
    ) -> Result<Package, RegistryError> {
        let failed = |error| RegistryError::Container { place: told(place), error };
        let index = self.blob(place, reference, &manifest.config).await?;
        let (mut signatures, mut contents) = (None, BTreeMap::new());
        for layer in &manifest.layers {
            match Part::of(layer).map_err(failed)? {
                Some(Part::Signatures) => {
                    signatures = Some(self.blob(place, reference, layer).await?);
                }
                Some(Part::File(path)) => {
                    let content = self.blob(place, reference, layer).await?;
                    if contents.insert(path.clone(), content).is_some() {
                        return Err(failed(ContainerError::Twice { path }));
                    }
                }
                // Something that a registry or another tool has added.
                None => {}
            }
        }
        Package::rejoin(&index, signatures.as_deref(), &contents).map_err(failed)
    }

    async fn pull_module(
        &self,
        place: &Place,
        reference: &Reference,
        manifest: &OciImageManifest,
    ) -> Result<Package, RegistryError> {
        let [layer] = &manifest.layers[..] else {
            let found = format!("an artifact of {} layers", manifest.layers.len()).into();
            return Err(RegistryError::NoPackage { place: told(place), found });
        };
        if layer.media_type != layers::MODULE {
            let found = clip(&layer.media_type).into();
            return Err(RegistryError::NoPackage { place: told(place), found });
        }
        let file = self.blob(place, reference, layer).await?;
        let failed = |error| RegistryError::Module { place: told(place), error };
        // A name of a registry may have characters and a length that one of ours has not.
        let name = place.name().replace(['_', '.'], "-").parse();
        let name = name.map_err(|error: odeum_proto::IdError| RegistryError::Refused {
            place: told(place),
            reason: error.to_string().into(),
        })?;
        Ok(build::of_module(name, file).map_err(failed)?.package)
    }

    /// A blob, which has the size and the digest that its descriptor says.
    async fn blob(
        &self,
        place: &Place,
        reference: &Reference,
        descriptor: &OciDescriptor,
    ) -> Result<Bytes, RegistryError> {
        let limit = usize::try_from(descriptor.size).unwrap_or(0);
        let mut writer = Bounded::new(limit);
        self.client
            .pull_blob(reference, descriptor, &mut writer)
            .await
            .map_err(|error| refused(place, &error))?;
        Ok(writer.into_bytes())
    }
}

/// Whether all that a manifest names fits into a package.
fn check_sizes(place: &Place, manifest: &OciImageManifest) -> Result<(), RegistryError> {
    let sizes = manifest.layers.iter().chain([&manifest.config]).map(|layer| layer.size);
    // What claims to be less than nothing claims too much.
    let got =
        sizes.fold(0_u64, |sum, size| sum.saturating_add(u64::try_from(size).unwrap_or(u64::MAX)));
    let limit = PACKAGE_BYTES;
    if got > limit as u64 {
        return Err(RegistryError::TooLarge { place: told(place), got, limit });
    }
    // The signatures are no file.
    if manifest.layers.len() > PACKAGE_FILES + 1 {
        let found = format!("an artifact of {} layers", manifest.layers.len()).into();
        return Err(RegistryError::NoPackage { place: told(place), found });
    }
    Ok(())
}

fn reference(place: &Place) -> Reference {
    let (registry, repository) = (place.registry.to_string(), place.repository.to_string());
    match &place.digest {
        Some(digest) => Reference::with_digest(registry, repository, digest.to_string()),
        None => Reference::with_tag(registry, repository, place.tag().to_owned()),
    }
}

fn told(place: &Place) -> Box<str> {
    place.to_string().into()
}

/// The client's words, with those of what they are about.
fn refused(place: &Place, error: &OciDistributionError) -> RegistryError {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !reason.contains(&more) {
            reason = format!("{reason}: {more}");
        }
        cause = error.source();
    }
    RegistryError::Refused { place: told(place), reason: clip(&reason).into() }
}

fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(REASON_BYTES)]
}
