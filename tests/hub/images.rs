//! Deterministic images: the same calls give the same digests in every run.

use serde_json::{Value, json};

use super::Hub;
use super::archive::{Entry, gzip, tar};
use super::body::{Body, digest_of, seed_of};
use super::content::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};

/// An image that was published.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its repository.
    pub repo: String,
    /// Its tag.
    pub tag: String,
    /// Digest of the index or the only manifest, to which the tag points.
    pub digest: String,
    /// Media type of that index or manifest.
    pub media_type: String,
    /// Bytes of that index or manifest.
    pub bytes: Vec<u8>,
    /// The manifests of its platforms.
    pub platforms: Vec<PlatformImage>,
}

/// One platform of an image.
#[derive(Clone, Debug)]
pub struct PlatformImage {
    /// As in `linux/amd64`.
    pub platform: String,
    /// Digest of the manifest.
    pub digest: String,
    /// Bytes of the manifest.
    pub bytes: Vec<u8>,
    /// Digest of the configuration.
    pub config: String,
    /// Digests of the layers.
    pub layers: Vec<String>,
    /// Sizes of the layers.
    pub sizes: Vec<u64>,
}

impl Image {
    /// The digest of a layer of the first platform.
    pub fn layer(&self, number: usize) -> &str {
        &self.platforms[0].layers[number]
    }

    /// The digest of the first platform's configuration.
    pub fn config(&self) -> &str {
        &self.platforms[0].config
    }

    /// All blobs that a pull of the first platform fetches.
    pub fn blobs(&self) -> Vec<&str> {
        let first = &self.platforms[0];
        std::iter::once(&first.config).chain(&first.layers).map(String::as_str).collect()
    }

    /// `repo:tag`
    pub fn name(&self) -> String {
        format!("{}:{}", self.repo, self.tag)
    }
}

enum Layer {
    Noise(u64),
    Blob(Body),
    Files(Vec<Entry>),
}

/// The settings of an image. The default is one platform in Docker's format with no layer.
pub struct ImageBuilder<'a> {
    hub: &'a Hub,
    repo: String,
    tag: String,
    layers: Vec<Layer>,
    platforms: Vec<String>,
    oci: bool,
    entrypoint: Vec<String>,
}

impl<'a> ImageBuilder<'a> {
    pub(super) fn new(hub: &'a Hub, repo: &str, tag: &str) -> ImageBuilder<'a> {
        let (repo, tag) = (repo.into(), tag.into());
        ImageBuilder { hub, repo, tag, layers: vec![], platforms: vec![], oci: false, entrypoint: vec![] }
    }

    /// Adds a layer of this many bytes of noise, which cannot be unpacked: for tests that only move
    /// bytes.
    pub fn layer(mut self, size: u64) -> Self {
        self.layers.push(Layer::Noise(size));
        self
    }

    /// Adds a layer of exactly these bytes.
    pub fn layer_of(mut self, bytes: impl Into<Body>) -> Self {
        self.layers.push(Layer::Blob(bytes.into()));
        self
    }

    /// Adds a layer with these files, which engines can unpack.
    pub fn files(mut self, files: Vec<Entry>) -> Self {
        self.layers.push(Layer::Files(files));
        self
    }

    /// Adds a layer with one file of noise, which engines can unpack; a little larger than `size`.
    pub fn real_layer(self, size: u64) -> Self {
        let number = self.layers.len();
        let seed = seed_of(&format!("{}:{} {number} {size}", self.repo, self.tag));
        let noise = Body::noise(seed, size).to_vec();
        self.files(vec![Entry::file(&format!("data/{number}.bin"), noise)])
    }

    /// Makes an index of these platforms, each with its own layers of noise and its own
    /// `etc/platform` file.
    pub fn platforms(mut self, platforms: &[&str]) -> Self {
        self.platforms = platforms.iter().map(|platform| (*platform).to_string()).collect();
        self
    }

    /// OCI media types instead of Docker's.
    pub fn oci(mut self) -> Self {
        self.oci = true;
        self
    }

    /// The command that a container runs.
    pub fn entrypoint(mut self, words: &[&str]) -> Self {
        self.entrypoint = words.iter().map(|word| (*word).to_string()).collect();
        self
    }

    /// Puts everything into the stand-in.
    pub fn publish(self) -> Image {
        let single = self.platforms.is_empty();
        let platforms = if single { vec!["linux/amd64".to_string()] } else { self.platforms.clone() };
        let built: Vec<PlatformImage> = platforms.iter().map(|platform| self.build(platform)).collect();
        let manifest_type = if self.oci { OCI_MANIFEST } else { DOCKER_MANIFEST };
        for platform in &built {
            self.hub.put_untagged(&self.repo, manifest_type, &platform.bytes);
        }
        let (media_type, bytes) = if single {
            (manifest_type, built[0].bytes.clone())
        } else {
            let index_type = if self.oci { OCI_INDEX } else { DOCKER_LIST };
            (index_type, pretty(&index(index_type, manifest_type, &built)))
        };
        let digest = self.hub.put_manifest(&self.repo, &self.tag, media_type, &bytes);
        Image { repo: self.repo, tag: self.tag, digest, media_type: media_type.into(), bytes, platforms: built }
    }

    fn build(&self, platform: &str) -> PlatformImage {
        let (mut layers, mut sizes, mut diff_ids) = (Vec::new(), Vec::new(), Vec::new());
        for (number, layer) in self.layers.iter().enumerate() {
            let (body, diff_id) = self.pack(layer, number, platform);
            sizes.push(body.len());
            let digest = self.hub.put_blob(body);
            diff_ids.push(diff_id.unwrap_or_else(|| digest.clone()));
            layers.push(digest);
        }
        let (os, architecture) = platform.split_once('/').unwrap();
        let (architecture, variant) = architecture.split_once('/').unwrap_or((architecture, ""));
        let mut config = json!({
            "created": "2025-01-01T00:00:00Z",
            "os": os,
            "architecture": architecture,
            "config": {"Env": ["PATH=/bin"], "Entrypoint": self.entrypoint, "Labels": {"name": self.repo, "tag": self.tag}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": layers.iter().map(|_| json!({"created": "2025-01-01T00:00:00Z", "created_by": "stand-in"})).collect::<Vec<_>>(),
        });
        if !variant.is_empty() {
            config["variant"] = json!(variant);
        }
        let config = config.to_string().into_bytes();
        let bytes = pretty(&self.manifest(config.len(), &digest_of(&config), &layers, &sizes));
        let config = self.hub.put_blob(config);
        PlatformImage { platform: platform.into(), digest: digest_of(&bytes), bytes, config, layers, sizes }
    }

    /// A layer's blob, and the digest of its unpacked form where that differs.
    fn pack(&self, layer: &Layer, number: usize, platform: &str) -> (Body, Option<String>) {
        match layer {
            Layer::Noise(size) => {
                let seed = seed_of(&format!("{}:{} {platform} {number} {size}", self.repo, self.tag));
                (Body::noise(seed, *size), None)
            }
            Layer::Blob(body) => (body.clone(), None),
            Layer::Files(files) => {
                let mut files = files.clone();
                if number == 0 {
                    files.push(Entry::file("etc/platform", format!("{platform}\n")));
                }
                let tar = tar(&files);
                (gzip(&tar).into(), Some(digest_of(&tar)))
            }
        }
    }

    fn manifest(&self, config_size: usize, config: &str, layers: &[String], sizes: &[u64]) -> Value {
        let (own, config_type, layer_type) = if self.oci {
            (OCI_MANIFEST, "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip")
        } else {
            (
                DOCKER_MANIFEST,
                "application/vnd.docker.container.image.v1+json",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
            )
        };
        let layers: Vec<Value> = layers
            .iter()
            .zip(sizes)
            .map(|(digest, size)| json!({"mediaType": layer_type, "size": size, "digest": digest}))
            .collect();
        json!({
            "schemaVersion": 2,
            "mediaType": own,
            "config": {"mediaType": config_type, "size": config_size, "digest": config},
            "layers": layers,
        })
    }
}

fn index(own: &str, child: &str, platforms: &[PlatformImage]) -> Value {
    let manifests: Vec<Value> = platforms
        .iter()
        .map(|built| {
            let mut words = built.platform.split('/');
            let mut platform = json!({"os": words.next(), "architecture": words.next()});
            if let Some(variant) = words.next() {
                platform["variant"] = json!(variant);
            }
            json!({"mediaType": child, "size": built.bytes.len(), "digest": built.digest, "platform": platform})
        })
        .collect();
    json!({"schemaVersion": 2, "mediaType": own, "manifests": manifests})
}

/// Docker's registries store manifests as clients wrote them, with indentation.
fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}").into_bytes()
}
