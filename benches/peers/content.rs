//! The content of all servers, as files: blobs of several sizes, a manifest, a certificate.
//! [`crate::registries`] pushes it to the registries; the other servers read the files.

use std::{
    fs::{self, File},
    io::{BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lanyard::oci::{Algorithm, Hasher};

/// A blob in a file of its own.
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) size: u64,
}

/// The files of the content, in a folder of their own. See the module.
pub(crate) struct Content {
    folder: tempfile::TempDir,
    pub(crate) small: Blob,
    pub(crate) middle: Blob,
    pub(crate) large: Blob,
    pub(crate) config: Blob,
    /// About 2 KB.
    pub(crate) manifest: Blob,
}

impl Content {
    /// Makes the files.
    pub(crate) fn new() -> Content {
        let folder = tempfile::tempdir().unwrap();
        let files = self::folder(folder.path().join("files"));
        // 1 MB, 100 MB and 1 GB, the sizes in which the peers' figures are told.
        let [small, middle, large] = [1, 100, 1_000].map(|megabytes| blob(&files, megabytes * 1_000_000));
        let config = keep(&files, b"{}");
        let manifest = keep(&files, manifest(&config, &[&small, &middle, &large]).as_bytes());
        certificate(folder.path());
        Content { folder, small, middle, large, config, manifest }
    }

    /// The large blob with another beginning, in a file of its own.
    pub(crate) fn variant(&self, n: usize) -> Blob {
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

/// The media type of the manifest.
pub(crate) const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

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
    // Annotations make it as long as the manifests of real images are.
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

/// Makes the folder if it is missing.
fn folder(path: PathBuf) -> PathBuf {
    fs::create_dir_all(&path).unwrap();
    path
}
