//! The keys of `[storage]` that need each other, and those that belong to another kind of store.
//! Called by `check.rs`.

use std::fmt;

use super::{
    reader::{Reader, Section, redacted},
    storage_keys::Storage,
    values::StorageKind,
};

/// The keys that only some kinds have.
const BELONGS: [(&str, &[StorageKind]); 10] = {
    use StorageKind::{Azure, Gcs, S3};
    [
        ("region", &[S3]),
        ("addressing", &[S3]),
        ("access_key_id_file", &[S3]),
        ("secret_access_key_file", &[S3]),
        ("encryption", &[S3]),
        ("kms_key", &[S3]),
        ("account", &[Azure]),
        ("account_key_file", &[Azure]),
        ("sas_file", &[Azure]),
        ("service_account_file", &[Gcs]),
    ]
};

/// Notes what does not fit together.
pub(super) fn fits_together(reader: &mut Reader<'_>, table: &Section<'_>) {
    let Some(value) = table.get("kind") else { return };
    let Some(word) = value.as_str() else { return };
    let Some((_, kind)) = StorageKind::WORDS.iter().find(|(known, _)| *known == word) else { return };
    let needed: &[&str] = match kind {
        StorageKind::Files => &[],
        StorageKind::S3 | StorageKind::Gcs => &["bucket"],
        StorageKind::Azure => &["bucket", "account"],
    };
    for key in needed.iter().filter(|key| table.get(key).is_none()) {
        let source = reader.source(value, &table.path("kind"));
        reader.problem(source, table.path(key), format!("is missing: storage of the kind {word:?} needs it"));
    }
    let of_another = |key: &str| {
        let kinds = BELONGS.iter().find(|(name, _)| *name == key).map(|(_, kinds)| *kinds)?;
        // `addressing` has a default, which every kind has.
        let said = table.get(key).filter(|value| key != "addressing" || value.as_str() != Some("auto"))?;
        (*kind != StorageKind::Files && !kinds.contains(kind)).then_some((said, kinds))
    };
    for (key, _) in BELONGS {
        if let Some((said, kinds)) = of_another(key) {
            let source = reader.source(said, &table.path(key));
            let kinds: Vec<_> = kinds.iter().map(|kind| format!("{:?}", kind.word())).collect();
            reader.problem(source, table.path(key), format!("belongs to the kind {}", kinds.join(" or ")));
        }
    }
    let pairs = [
        ("access_key_id_file", "secret_access_key_file"),
        ("secret_access_key_file", "access_key_id_file"),
        ("kms_key", "encryption"),
    ];
    for (present, missing) in pairs {
        if let (Some(said), None) = (table.get(present), table.get(missing)) {
            let source = reader.source(said, &table.path(present));
            reader.problem(source, table.path(present), format!("needs storage.{missing} beside it"));
        }
    }
    if let (StorageKind::Azure, Some(_), Some(said)) = (kind, table.get("account_key_file"), table.get("sas_file")) {
        let source = reader.source(said, &table.path("sas_file"));
        reader.problem(source, table.path("sas_file"), "is a second way beside storage.account_key_file; keep one");
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage")
            .field("kind", &self.kind)
            .field("bucket", &self.bucket)
            .field("endpoint", &self.endpoint)
            .field("proxy", &self.proxy.as_ref().map(redacted))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::config::{Config, Inputs, StorageKind};

    fn told(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lanyard.toml");
        fs::write(&file, text).unwrap();
        match Config::load(&Inputs { file: Some(file), ..Inputs::default() }) {
            Ok(_) => Vec::new(),
            Err(problems) => problems
                .iter()
                .map(|problem| problem.to_string().split_once("lanyard.toml:").unwrap().1.to_owned())
                .collect(),
        }
    }

    #[test]
    fn files_need_nothing() {
        assert_eq!(Config::load(&Inputs::default()).unwrap().config.storage.kind, StorageKind::Files);
        assert_eq!(told("[storage]\nkind = \"files\"\n"), [""; 0]);
    }

    #[test]
    fn a_store_needs_its_names() {
        assert_eq!(told("[storage]\nkind = \"s3\"\nbucket = \"registry\"\n"), [""; 0]);
        assert_eq!(
            told("[storage]\nkind = \"azure\"\n"),
            [
                "2: storage.account: is missing: storage of the kind \"azure\" needs it",
                "2: storage.bucket: is missing: storage of the kind \"azure\" needs it"
            ]
        );
    }

    #[test]
    fn keys_of_another_kind_and_half_of_a_pair_are_refused() {
        assert_eq!(
            told("[storage]\nkind = \"gcs\"\nbucket = \"registry\"\nregion = \"eu\"\naddressing = \"path\"\n"),
            ["4: storage.region: belongs to the kind \"s3\"", "5: storage.addressing: belongs to the kind \"s3\""]
        );
        assert_eq!(
            told("[storage]\nkind = \"s3\"\nbucket = \"registry\"\naccess_key_id_file = \"k\"\nkms_key = \"k\"\n"),
            [
                "4: storage.access_key_id_file: needs storage.secret_access_key_file beside it",
                "5: storage.kms_key: needs storage.encryption beside it"
            ]
        );
        assert_eq!(
            told(
                "[storage]\nkind = \"azure\"\nbucket = \"abc\"\naccount = \"a\"\naccount_key_file = \"k\"\nsas_file = \"s\"\n"
            ),
            ["6: storage.sas_file: is a second way beside storage.account_key_file; keep one"]
        );
    }
}
