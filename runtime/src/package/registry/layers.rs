//! A package as the layers of an artifact, and back.

use std::collections::BTreeMap;

use oci_client::{
    client::{Config, ImageLayer},
    manifest::{OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest},
};

use crate::package::{
    ContainerError, Package,
    manifest::{FILE as MANIFEST, PackagePath},
};

/// What the artifact is.
const ARTIFACT: &str = "application/vnd.odeum.package.v1";
/// The index, which is the artifact's configuration.
pub(super) const INDEX: &str = "application/vnd.odeum.package.index.v1+json";
/// The module: what other tools look for.
pub(super) const MODULE: &str = "application/wasm";
/// The manifest.
const MANIFEST_LAYER: &str = "application/vnd.odeum.package.manifest.v1+toml";
/// The signatures.
const SIGNATURES: &str = "application/vnd.odeum.package.signatures.v1+json";
/// Any other file.
const FILE: &str = "application/vnd.odeum.package.file.v1";

/// The annotation that says what a layer's file is called.
const TITLE: &str = "org.opencontainers.image.title";
/// The annotation that says of which version an artifact is.
const VERSION: &str = "org.opencontainers.image.version";

/// What a layer is of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Signatures,
    File(PackagePath),
}

impl Part {
    /// What the layer is; `None` for one of another media type.
    pub(super) fn of(layer: &OciDescriptor) -> Result<Option<Self>, ContainerError> {
        match layer.media_type.as_str() {
            SIGNATURES => Ok(Some(Self::Signatures)),
            MODULE | MANIFEST_LAYER | FILE => {
                let title = layer.annotations.as_ref().and_then(|all| all.get(TITLE));
                let path = title.map(String::as_str).unwrap_or_default().parse()?;
                Ok(Some(Self::File(path)))
            }
            _ => Ok(None),
        }
    }
}

/// The layers of a package, and the configuration.
pub(super) fn of(package: &Package) -> Result<(Vec<ImageLayer>, Config), ContainerError> {
    let entry = &package.manifest().entry;
    let mut layers = Vec::new();
    for file in package.index().files() {
        let kind = match &file.path {
            path if path == entry => MODULE,
            path if path.as_str() == MANIFEST => MANIFEST_LAYER,
            _ => FILE,
        };
        let content = package.content(&file.path).unwrap_or_default();
        layers.push(ImageLayer::new(
            content,
            kind.to_owned(),
            Some(BTreeMap::from([(TITLE.to_owned(), file.path.to_string())])),
        ));
    }
    if let Some(signatures) = package.signature_bytes()? {
        layers.push(ImageLayer::new(signatures, SIGNATURES.to_owned(), None));
    }
    let index = package.index().to_bytes()?;
    Ok((layers, Config::new(index, INDEX.to_owned(), None)))
}

/// The manifest of the artifact. Equal packages have the same one, and so the same digest.
pub(super) fn manifest(
    package: &Package,
    layers: &[ImageLayer],
    config: &Config,
) -> OciImageManifest {
    let manifest = package.manifest();
    let annotations = BTreeMap::from([
        (TITLE.to_owned(), manifest.name.to_string()),
        (VERSION.to_owned(), manifest.version.to_string()),
    ]);
    let built = OciImageManifest::build(layers, config, Some(annotations));
    OciImageManifest {
        media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
        artifact_type: Some(ARTIFACT.to_owned()),
        ..built
    }
}
