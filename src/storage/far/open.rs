//! From `[storage]` to a [`Far`]: the builder of each kind, its credentials, and the way there.
//!
//! Credentials come from the files of the configuration. Without them the variables count that the
//! cloud's own tools read, and then what the cloud tells its containers and machines. Only those
//! variables are read: an `AWS_ENDPOINT_URL` of another program moves no bucket.

use std::{path::Path, sync::Arc, time::Duration};

use object_store::{
    BackoffConfig, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum as S3Checksum},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    gcp::GoogleCloudStorageBuilder,
};
use url::Url;

use super::{
    Far, Store,
    connector::{Connector, Observed},
    dial::Dialer,
    error::FarError,
};
use crate::{
    config::{Addressing, Checksum, Storage, StorageKind, read_password},
    network::{Environment, Trust, TrustError},
    runtime::read_file,
};

/// A call is tried so often again.
const TRIES_AGAIN: usize = 2;

/// No try begins so late.
const LAST_TRY: Duration = Duration::from_secs(20);

/// The variables of AWS's own tools that tell credentials or a region.
const AWS: [(&str, AmazonS3ConfigKey); 11] = [
    ("AWS_ACCESS_KEY_ID", AmazonS3ConfigKey::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", AmazonS3ConfigKey::SecretAccessKey),
    ("AWS_SESSION_TOKEN", AmazonS3ConfigKey::Token),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", AmazonS3ConfigKey::MetadataEndpoint),
];

/// The variables of Azure's own tools that tell credentials.
const AZURE: [(&str, AzureConfigKey); 8] = [
    ("AZURE_STORAGE_KEY", AzureConfigKey::AccessKey),
    ("AZURE_STORAGE_SAS_TOKEN", AzureConfigKey::SasKey),
    ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
    ("AZURE_CLIENT_SECRET", AzureConfigKey::ClientSecret),
    ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
    ("AZURE_FEDERATED_TOKEN_FILE", AzureConfigKey::FederatedTokenFile),
    ("AZURE_AUTHORITY_HOST", AzureConfigKey::AuthorityHost),
    ("IDENTITY_ENDPOINT", AzureConfigKey::MsiEndpoint),
];

/// The variable that names the file of Google's own tools.
const APPLICATION: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// Why an object store cannot be used, before it was asked.
#[derive(Debug, thiserror::Error)]
pub enum FarOpenError {
    /// The kind is `files`.
    #[error("storage.kind is \"files\": there is no object store")]
    Files,
    /// A file of credentials, in words without its content.
    #[error("storage.{key}: {reason}")]
    File {
        /// The key of the configuration.
        key: &'static str,
        /// What is wrong with the file.
        reason: String,
    },
    /// A file that a variable names, in words without its content.
    #[error("{variable}: {reason}")]
    Variable {
        /// The variable.
        variable: &'static str,
        /// What is wrong with the file.
        reason: String,
    },
    /// The trust anchors.
    #[error("storage.{0}")]
    Trust(#[from] TrustError),
    /// The operating system refused what the asking needs.
    #[error("the operating system refused: {0}")]
    Machine(std::io::Error),
    /// The parts do not make a store.
    #[error("the object store: {0}")]
    Store(FarError),
}

impl Far {
    /// Opens the object store of a configuration. It is not asked anything yet. `variable` reads
    /// the process' environment.
    ///
    /// # Errors
    /// See [`FarOpenError`].
    pub fn open(config: &Storage, variable: impl Fn(&str) -> Option<String>) -> Result<Far, FarOpenError> {
        let observed = Arc::new(Observed::new());
        let dialer = Dialer::new(config.proxy.clone(), Environment::from_variables(&variable));
        let tls = Trust::default().config(config.ca_file.as_deref())?;
        let way = Connector::new(dialer, (*tls).clone(), Arc::clone(&observed));
        let bucket = config.bucket.as_deref().unwrap_or_default();
        let store = match config.kind {
            StorageKind::Files => return Err(FarOpenError::Files),
            StorageKind::S3 => s3(config, bucket, way, variable)?,
            StorageKind::Azure => azure(config, bucket, way, variable)?,
            StorageKind::Gcs => gcs(config, bucket, way, variable)?,
        };
        let at = config.endpoint.as_ref().map_or_else(String::new, |url| format!(" at {}", without_slash(url)));
        Ok(Far {
            store,
            prefix: config.prefix.clone().unwrap_or_default(),
            name: format!("{} {bucket}{at}", config.kind.word()),
            observed,
        })
    }
}

fn s3(
    config: &Storage,
    bucket: &str,
    way: Connector,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Store, FarOpenError> {
    let said = |names: &[&str]| names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_http_connector(way)
        .with_retry(tries())
        .with_disable_tagging(true)
        .with_disable_bulk_delete(true);
    let region = config.region.clone().or_else(|| said(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
    builder = builder.with_region(region.unwrap_or_else(|| "us-east-1".to_owned()));
    match (&config.access_key_id_file, &config.secret_access_key_file) {
        (Some(id), Some(secret)) => {
            builder = builder
                .with_access_key_id(secret_of("access_key_id_file", id)?)
                .with_secret_access_key(secret_of("secret_access_key_file", secret)?);
        }
        _ => {
            for (name, key) in AWS {
                if let Some(value) = said(&[name]) {
                    builder = builder.with_config(key, value);
                }
            }
        }
    }
    let in_host = match (config.addressing, &config.endpoint) {
        (Addressing::Host, _) | (Addressing::Auto, None) => true,
        (Addressing::Path, _) | (Addressing::Auto, Some(_)) => false,
    };
    builder = builder.with_virtual_hosted_style_request(in_host);
    if let Some(endpoint) = &config.endpoint {
        let mut endpoint = endpoint.clone();
        if in_host && let Some(host) = endpoint.host_str().map(|host| format!("{bucket}.{host}")) {
            // The crate takes the endpoint of this style with the bucket in it.
            endpoint.set_host(Some(&host)).map_err(|error| unusable(&error))?;
        }
        builder = builder.with_endpoint(without_slash(&endpoint)).with_allow_http(endpoint.scheme() == "http");
    }
    let at_aws = config.endpoint.is_none();
    builder = match config.checksum {
        Checksum::Auto if at_aws => builder.with_unsigned_payload(true).with_checksum_algorithm(S3Checksum::CRC64NVME),
        Checksum::Sha256 => builder.with_checksum_algorithm(S3Checksum::SHA256),
        Checksum::Auto | Checksum::None => builder,
    };
    if config.encryption.is_some() {
        builder = builder.with_sse_kms_encryption(config.kms_key.clone().unwrap_or_default());
    }
    builder.build().map(Store::S3).map_err(|_| unmade("half of the credentials is missing, or the endpoint is none"))
}

fn azure(
    config: &Storage,
    container: &str,
    way: Connector,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Store, FarOpenError> {
    let mut builder = MicrosoftAzureBuilder::new()
        .with_container_name(container)
        .with_account(config.account.clone().unwrap_or_default())
        .with_http_connector(way)
        .with_retry(tries())
        .with_disable_tagging(true);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(without_slash(endpoint)).with_allow_http(endpoint.scheme() == "http");
    }
    if let Some(file) = &config.account_key_file {
        builder = builder.with_access_key(secret_of("account_key_file", file)?);
    } else if let Some(file) = &config.sas_file {
        builder = builder.with_config(AzureConfigKey::SasKey, secret_of("sas_file", file)?);
    } else {
        for (name, key) in AZURE {
            if let Some(value) = variable(name).filter(|value| !value.is_empty()) {
                builder = builder.with_config(key, value);
            }
        }
    }
    builder.build().map(Store::Azure).map_err(|_| unmade("the account's key or its signature is none"))
}

fn gcs(
    config: &Storage,
    bucket: &str,
    way: Connector,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Store, FarOpenError> {
    let mut builder =
        GoogleCloudStorageBuilder::new().with_bucket_name(bucket).with_http_connector(way).with_retry(tries());
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_base_url(&without_slash(endpoint));
    }
    if let Some(file) = &config.service_account_file {
        let wrong = |reason: String| FarOpenError::File { key: "service_account_file", reason };
        let text = read_file(file).map_err(|error| wrong(error.to_string()))?;
        let text = String::from_utf8(text).map_err(|_| wrong("the file is not UTF-8 text".into()))?;
        builder = builder.with_service_account_key(text);
    } else if let Some(file) = variable(APPLICATION).filter(|file| !file.is_empty()) {
        let wrong = |reason: String| FarOpenError::Variable { variable: APPLICATION, reason };
        read_file(Path::new(&file)).map_err(|error| wrong(error.to_string()))?;
        builder = builder.with_application_credentials(file);
    }
    builder.build().map(Store::Gcs).map_err(|_| unmade("the key of the service account is none"))
}

fn tries() -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        ..BackoffConfig::default()
    };
    RetryConfig { backoff, max_retries: TRIES_AGAIN, retry_timeout: LAST_TRY }
}

fn secret_of(key: &'static str, path: &Path) -> Result<String, FarOpenError> {
    read_password(path).map_err(|reason| FarOpenError::File { key, reason })
}

/// A URL as the builders take it.
fn without_slash(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// The crate's own sentences quote what they cannot read.
fn unmade(why: &str) -> FarOpenError {
    FarOpenError::Store(FarError::Refused(why.to_owned()))
}

fn unusable(error: &impl ToString) -> FarOpenError {
    FarOpenError::Store(FarError::Refused(error.to_string()))
}
