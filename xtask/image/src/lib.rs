//! Container images without a registry, a daemon or a base: an OCI layout in one tar file, with one layer.
//!
//! `ctr image import`, `podman load` and `skopeo` read the layout; `docker load` reads the `manifest.json` beside it.
//! Equal input gives equal bytes: nothing of the clock, the user or the machine goes in.

mod product;

use std::collections::HashMap;
use std::io::Write;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use oci_spec::image::{
    Arch, Config, ConfigBuilder, Descriptor, DescriptorBuilder, Digest, ImageConfiguration,
    ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType, Os, RootFsBuilder,
    Sha256Digest,
};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub use product::{ensure_static, pack};

/// Owner of the files: nobody who runs in the container, so that even root without `CAP_FOWNER` can't change them.
const OWNER: u64 = 65532;
/// Readable and executable by everybody, writable by nobody.
const MODE: u32 = 0o555;

/// What an image holds: one static program, and how it is started.
#[derive(Debug)]
pub struct Image<'a> {
    /// Name and tag, such as `localhost/observer:0.1.0`.
    pub reference: &'a str,
    /// File name of the program, in the root of the image; it is the entry point.
    pub name: &'a str,
    /// The program's file.
    pub program: &'a [u8],
    /// Arguments when a user gives none.
    pub arguments: &'a [&'a str],
    /// `USER[:GROUP]`, in numbers: there is no `/etc/passwd`.
    pub user: &'a str,
    /// TCP port on which the program listens.
    pub port: Option<u16>,
    /// Labels of the image, as the OCI names them.
    pub labels: &'a [(&'a str, &'a str)],
}

/// Writes the image as a tar file.
///
/// # Errors
/// When `output` can't be written.
pub fn write(image: &Image<'_>, output: impl Write) -> Result<()> {
    let unpacked = layer(image)?;
    let mut compressor = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    compressor.write_all(&unpacked)?;
    let layer = Blob::new(MediaType::ImageLayerGzip, compressor.finish()?)?;
    let config = Blob::json(MediaType::ImageConfig, &configuration(image, &digest(&unpacked)?)?)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(config.descriptor.clone())
        .layers([layer.descriptor.clone()])
        .build()?;
    let manifest = Blob::json(MediaType::ImageManifest, &manifest)?;

    let mut archive = tar::Builder::new(output);
    append(&mut archive, "oci-layout", 0o444, &canonical(&json!({"imageLayoutVersion": "1.0.0"}))?)?;
    append(&mut archive, "index.json", 0o444, &index(image, &manifest)?)?;
    append(&mut archive, "manifest.json", 0o444, &docker(image, &config, &layer)?)?;
    for blob in [&config, &layer, &manifest] {
        append(&mut archive, &blob.path(), 0o444, &blob.bytes)?;
    }
    archive.into_inner()?.flush()?;
    Ok(())
}

/// The file system: one file.
fn layer(image: &Image<'_>) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, image.name, MODE, image.program)?;
    Ok(archive.into_inner()?)
}

fn append(archive: &mut tar::Builder<impl Write>, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_uid(OWNER);
    header.set_gid(OWNER);
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes).with_context(|| format!("cannot write {path}"))
}

fn configuration(image: &Image<'_>, unpacked: &Sha256Digest) -> Result<ImageConfiguration> {
    let files = RootFsBuilder::default().typ("layers").diff_ids([format!("sha256:{}", unpacked.digest())]);
    Ok(ImageConfigurationBuilder::default()
        .architecture(Arch::Amd64)
        .os(Os::Linux)
        .config(start(image)?)
        .rootfs(files.build()?)
        .build()?)
}

/// How a container is started.
fn start(image: &Image<'_>) -> Result<Config> {
    let labels: HashMap<_, _> =
        image.labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut config = ConfigBuilder::default()
        .user(image.user)
        .entrypoint([format!("/{}", image.name)])
        .cmd(image.arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
        .labels(labels);
    if let Some(port) = image.port {
        config = config.exposed_ports([format!("{port}/tcp")]);
    }
    Ok(config.build()?)
}

fn index(image: &Image<'_>, manifest: &Blob) -> Result<Vec<u8>> {
    let tag = image.reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let mut entry = manifest.descriptor.clone();
    entry.set_annotations(Some(HashMap::from([
        ("io.containerd.image.name".to_owned(), image.reference.to_owned()),
        ("org.opencontainers.image.ref.name".to_owned(), tag.to_owned()),
    ])));
    let index = ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests([entry])
        .build()?;
    canonical(&index)
}

/// The list that `docker load` looks for.
fn docker(image: &Image<'_>, config: &Blob, layer: &Blob) -> Result<Vec<u8>> {
    canonical(&json!([{"Config": config.path(), "RepoTags": [image.reference], "Layers": [layer.path()]}]))
}

/// A file of the layout that is named after its content.
struct Blob {
    bytes: Vec<u8>,
    descriptor: Descriptor,
}

impl Blob {
    fn new(kind: MediaType, bytes: Vec<u8>) -> Result<Self> {
        let descriptor = DescriptorBuilder::default()
            .media_type(kind)
            .digest(Digest::from(digest(&bytes)?))
            .size(bytes.len() as u64)
            .build()?;
        Ok(Self { bytes, descriptor })
    }

    fn json(kind: MediaType, value: &impl Serialize) -> Result<Self> {
        Self::new(kind, canonical(value)?)
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.descriptor.digest().digest())
    }
}

fn digest(bytes: &[u8]) -> Result<Sha256Digest> {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(hex.parse()?)
}

/// JSON with sorted keys: a `HashMap` has an order of its own in each run.
fn canonical(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut value: Value = serde_json::to_value(value)?;
    value.sort_all_objects();
    Ok(serde_json::to_vec(&value)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    const IMAGE: Image<'_> = Image {
        reference: "localhost/program:1",
        name: "program",
        program: b"\x7fELF and so on",
        arguments: &["serve"],
        user: "0:0",
        port: Some(80),
        labels: &[("org.opencontainers.image.title", "program"), ("a", "1"), ("b", "2"), ("c", "3")],
    };

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            assert_eq!((entry.header().uid().unwrap(), entry.header().mtime().unwrap()), (OWNER, 0));
            (entry.path().unwrap().display().to_string(), bytes)
        });
        entries.collect()
    }

    fn built() -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&IMAGE, &mut bytes).unwrap();
        bytes
    }

    /// Two builds of the same program are the same bytes, whatever order hash maps have.
    #[test]
    fn equal_input_gives_equal_bytes() {
        for _ in 0..20 {
            assert_eq!(built(), built());
        }
    }

    /// Each blob is named after its content, and the chain from the index to the program holds.
    #[test]
    fn digests_lead_from_the_index_to_the_program() {
        let files = files(&built());
        for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with("blobs/")) {
            assert_eq!(*path, format!("blobs/sha256/{}", digest(bytes).unwrap().digest()));
        }
        let blob = |descriptor: &Value| {
            let hex = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let bytes = &files[&format!("blobs/sha256/{hex}")];
            assert_eq!(descriptor["size"], bytes.len());
            bytes
        };
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let manifest: Value = serde_json::from_slice(blob(&index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(blob(&manifest["config"])).unwrap();
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&**blob(&manifest["layers"][0])).read_to_end(&mut unpacked).unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            format!("sha256:{}", digest(&unpacked).unwrap().digest())
        );
        assert_eq!(self::files(&unpacked), BTreeMap::from([("program".to_owned(), IMAGE.program.to_vec())]));
        assert_eq!(config["config"]["Entrypoint"], json!(["/program"]));
        assert_eq!(config["config"]["Labels"]["b"], "2");
    }
}
