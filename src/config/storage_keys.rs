//! The keys of `[storage]`: where content lives for good. As in `keys.rs`, which has the table of
//! all others; `check_storage.rs` looks at which of these fit together.

use std::path::PathBuf;

use url::Url;

use super::{
    parse::{
        path,
        pem::certificates,
        storage::{bucket, endpoint, key_prefix, word},
        upstream::proxy,
        words,
    },
    reader::{Reader, Section},
    table::{ConfigKey, KeyKind, keys},
    values::{Addressing, Checksum, Encryption, StorageKind},
};

keys! {
    /// `[storage]`: an object store.
    #[derive(Clone, PartialEq)]
    pub struct Storage {
        /// "files": the data folder alone. "s3": a bucket of S3 or of a store that speaks like it.
        /// "azure": a container of Azure Blob. "gcs": a bucket of Google Cloud Storage.
        kind: StorageKind = value("files", words(StorageKind::WORDS)),

        /// The bucket, or Azure's container.
        ///
        /// Present where the kind is not `files`.
        bucket: Option<String> = option("registry", bucket),

        /// Stands before all keys, and ends before a slash. Two lanyards never share one.
        prefix: Option<String> = option("lanyard", key_prefix),

        /// The URL of a store that is not AWS, Azure or Google.
        endpoint: Option<Url> = option("https://minio.lan:9000", endpoint),

        /// The region of an S3 bucket. Without it AWS_REGION counts, and then us-east-1.
        region: Option<String> = option("eu-central-1", word),

        /// Where the name of an S3 bucket stands: in the "host", or in the "path". "auto": in the
        /// path if there is an endpoint.
        addressing: Addressing = value("auto", words(Addressing::WORDS)),

        /// Files with the access key of S3 in one line each. Without them the variables of AWS's
        /// own tools count, then web identity, the identity of the container, and that of the
        /// machine.
        access_key_id_file: Option<PathBuf> = option("/run/secrets/s3-key", path),

        /// See access_key_id_file.
        secret_access_key_file: Option<PathBuf> = option("/run/secrets/s3-secret", path),

        /// The storage account of Azure.
        ///
        /// Present where the kind is `azure`.
        account: Option<String> = option("company", word),

        /// A file with the account's key. Without it and without sas_file the variables of Azure's
        /// own tools count, then workload identity and managed identity.
        account_key_file: Option<PathBuf> = option("/run/secrets/azure-key", path),

        /// A file with a shared access signature.
        sas_file: Option<PathBuf> = option("/run/secrets/azure-sas", path),

        /// The file of a service account of Google. Without it GOOGLE_APPLICATION_CREDENTIALS
        /// counts, and then the identity of the machine.
        service_account_file: Option<PathBuf> = option("/run/secrets/gcs.json", path),

        /// A PEM file with the CA of the store's certificate. The system's CAs count as well.
        ca_file: Option<PathBuf> = option("/etc/lanyard/store-ca.pem", certificates),

        /// The proxy to the store. Without it the variables HTTPS_PROXY, HTTP_PROXY and NO_PROXY
        /// count.
        proxy: Option<Url> = redacted("http://user:password@proxy.lan:3128", proxy),

        /// What S3 checks a body against: "auto", "none" or "sha256". "auto": CRC-64 over HTTPS at
        /// AWS, the signature elsewhere.
        checksum: Checksum = value("auto", words(Checksum::WORDS)),

        /// How S3 encrypts what it keeps: "aws:kms".
        encryption: Option<Encryption> = option("aws:kms", words(Encryption::WORDS)),

        /// The key of KMS.
        kms_key: Option<String> = option("arn:aws:kms:eu-central-1:111122223333:key/example", word),

        part_size = not_built("the size of parts"),
        upload_parts = not_built("the number of parts at a time"),
        redirect = not_built("a redirection to the object store"),
        redirect_for = not_built("a redirection to the object store"),
        keep_removed = not_built("the keeping of removed objects"),
    }
}
