//! What all servers have: blobs of several sizes, a manifest, a certificate. Pushed where there is a registry, and copied where
//! there are only files.

use std::{
    fs::{self, File},
    io::{BufWriter, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lanyard::oci::{Algorithm, Hasher};

use crate::{
    client,
    servers::{self, Kind, Server, folder},
};

/// A blob in a file of its own.
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) size: u64,
}

/// See the module.
pub(crate) struct Content {
    folder: tempfile::TempDir,
    pub(crate) small: Blob,
    pub(crate) middle: Blob,
    pub(crate) large: Blob,
    /// About 2 KB.
    pub(crate) manifest: Blob,
}

impl Content {
    /// Makes the files, and gives them to every registry that is here.
    pub(crate) fn new() -> Content {
        let folder = tempfile::tempdir().unwrap();
        let files = servers::folder(folder.path().join("files"));
        // 1 MB, 100 MB and 1 GB, as the peers' figures are told.
        let [small, middle, large] = [1, 100, 1_000].map(|megabytes| blob(&files, megabytes * 1_000_000));
        let config = keep(&files, b"{}");
        let manifest = keep(&files, manifest(&config, &[&small, &middle, &large]).as_bytes());
        certificate(folder.path());
        let content = Content { folder, small, middle, large, manifest };
        for kind in [Kind::Lanyard, Kind::Distribution] {
            if kind.is_here() {
                content.push(kind, &config);
            }
        }
        content
    }

    fn push(&self, kind: Kind, config: &Blob) {
        let server = Server::start(kind, self, false, "0-1");
        for blob in [config, &self.small, &self.middle, &self.large] {
            client::push(server.port, &self.file(blob), blob);
        }
        let bytes = fs::read(self.file(&self.manifest)).unwrap();
        let path = format!("/v2/bench/image/manifests/{}", self.manifest.digest);
        let answer = client::put(server.port, &path, OCI_IMAGE, &bytes);
        assert_eq!(answer, 201, "{} does not take the manifest", kind.name());
    }

    /// So many other blobs of 1 GB, for lanyard and nginx, which have one file between them.
    pub(crate) fn many(&self, count: usize) -> Vec<Blob> {
        let server = Server::start(Kind::Lanyard, self, false, "0-1");
        let push = |n: usize| {
            let blob = self.variant(n);
            client::push(server.port, &self.file(&blob), &blob);
            fs::remove_file(self.file(&blob)).unwrap();
            let hex = blob.digest.trim_start_matches("sha256:");
            let pushed = self.lanyard().join(format!("blobs/sha256/{}/{hex}", &hex[..2]));
            // nginx reads as a user of its own.
            fs::set_permissions(&pushed, fs::Permissions::from_mode(0o644)).unwrap();
            fs::hard_link(pushed, self.file(&blob)).unwrap();
            blob
        };
        (0..count).map(push).collect()
    }

    /// The large blob with another beginning, in a file.
    fn variant(&self, n: usize) -> Blob {
        let path = self.files().join("new");
        let (mut from, mut to) = (File::open(self.file(&self.large)).unwrap(), File::create(&path).unwrap());
        let (mut hasher, mut buffer) = (Hasher::new(Algorithm::Sha256), vec![0; 1 << 20]);
        let mut first = true;
        loop {
            let read = from.read(&mut buffer).unwrap();
            if read == 0 {
                break;
            }
            if std::mem::take(&mut first) {
                buffer[..8].copy_from_slice(&(n as u64).to_le_bytes());
            }
            hasher.update(&buffer[..read]);
            to.write_all(&buffer[..read]).unwrap();
        }
        let digest = hasher.finish().to_string();
        fs::rename(&path, self.files().join(digest.replace(':', "-"))).unwrap();
        Blob { digest, size: self.large.size }
    }

    /// The file that has a blob's bytes.
    pub(crate) fn file(&self, blob: &Blob) -> PathBuf {
        self.files().join(blob.digest.replace(':', "-"))
    }

    /// A file that may be overwritten.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    /// Has the kernel drop a blob's pages, where this server keeps it.
    pub(crate) fn forget(&self, kind: Kind, blob: &Blob) {
        let hex = blob.digest.trim_start_matches("sha256:");
        let path = match kind {
            Kind::Lanyard | Kind::Logging => self.lanyard().join(format!("blobs/sha256/{}/{hex}", &hex[..2])),
            Kind::Nginx | Kind::Opening => self.file(blob),
            Kind::Distribution => {
                self.distribution().join(format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
            }
        };
        let file = File::open(path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }

    pub(crate) fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    pub(crate) fn lanyard(&self) -> PathBuf {
        self.folder.path().join("lanyard")
    }

    pub(crate) fn distribution(&self) -> PathBuf {
        folder(self.folder.path().join("distribution"))
    }

    pub(crate) fn cert(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }
}

const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A file of bytes that do not compress, named after its digest.
fn blob(files: &Path, size: u64) -> Blob {
    let path = files.join("new");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).unwrap());
    let (mut state, mut left) = (size | 1, size);
    while left > 0 {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let piece = state.to_le_bytes();
        let piece = &piece[..left.min(8) as usize];
        file.write_all(piece).unwrap();
        left -= piece.len() as u64;
    }
    file.into_inner().unwrap().sync_all().unwrap();
    let output = Command::new("sha256sum").stdin(File::open(&path).unwrap()).output().unwrap();
    let hex = String::from_utf8(output.stdout).unwrap()[..64].to_owned();
    fs::rename(&path, files.join(format!("sha256-{hex}"))).unwrap();
    Blob { digest: format!("sha256:{hex}"), size }
}

fn keep(files: &Path, bytes: &[u8]) -> Blob {
    let path = files.join("new");
    fs::write(&path, bytes).unwrap();
    let output = Command::new("sha256sum").stdin(Stdio::from(File::open(&path).unwrap())).output().unwrap();
    let hex = String::from_utf8(output.stdout).unwrap()[..64].to_owned();
    fs::rename(&path, files.join(format!("sha256-{hex}"))).unwrap();
    Blob { digest: format!("sha256:{hex}"), size: bytes.len() as u64 }
}

fn manifest(config: &Blob, layers: &[&Blob]) -> String {
    let part = |kind: &str, blob: &Blob| serde_json::json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": blob.digest, "size": blob.size });
    let layers: Vec<_> = layers.iter().map(|blob| part("layer.v1.tar", blob)).collect();
    // Annotations make it as long as those of real images are.
    let annotations = serde_json::json!({ "org.example.padding": "p".repeat(1_200) });
    let config = part("config.v1+json", config);
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_IMAGE, "config": config, "layers": layers, "annotations": annotations,
    });
    manifest.to_string()
}

fn certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}
