//! `lanyard rm`: a running lanyard forgets images, or lets their bytes go.

use std::{fmt::Write as _, process::ExitCode};

use clap::Args;

use super::{
    config_args::FolderArgs,
    exit::{FAILED, USAGE, fail_with, print, tell},
    images::may_be_image,
    manage::{fetch, size},
};
use crate::admin::Removals;

/// `lanyard rm`
#[derive(Args, Debug)]
pub(super) struct Remove {
    /// The images, as clients write them: nginx, ghcr.io/a/b:1, quay.io/a/b@sha256:…
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Keep the names, and free the content that no other tagged image here needs
    #[arg(long, conflicts_with = "force")]
    bytes_only: bool,
    /// Forget kept images too: pinned ones with their pins, those of cache.keep, tags of rules with
    /// their history
    #[arg(long)]
    force: bool,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

impl Remove {
    pub(super) fn run(self) -> ExitCode {
        let Remove { images, bytes_only, force, dry_run, folder } = self;
        if let Some(image) = images.iter().find(|image| !may_be_image(image)) {
            return fail_with(USAGE, &format!("lanyard: {image:?} is not an image\n"));
        }
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(images.iter().map(|image| ("image", image)));
        for (key, on) in [("bytes_only", bytes_only), ("force", force), ("dry_run", dry_run)] {
            query.append_pair(key, if on { "true" } else { "false" });
        }
        let target = format!("/api/v1/rm?{}", query.finish());
        let (removals, json) = match fetch::<Removals>(folder, "POST", &target) {
            Ok(answer) => answer,
            Err(told) => return told,
        };
        let errors: Vec<_> = removals.images.iter().filter_map(|image| image.error.as_ref()).collect();
        for error in &errors {
            tell(&format!("lanyard: {error}\n"));
        }
        let printed = print(&json.unwrap_or_else(|| removed(&removals, dry_run)));
        if errors.is_empty() { printed } else { ExitCode::from(FAILED) }
    }
}

fn removed(removals: &Removals, dry_run: bool) -> String {
    let Removals { images, tags, manifests, links, blobs, bytes, shared, in_use } = removals;
    let mut text = String::new();
    let word = if dry_run { "Would be removed" } else { "Removed" };
    for image in images.iter().filter(|image| image.error.is_none()) {
        let _ = writeln!(text, "{word}: {}", image.image);
    }
    if text.is_empty() {
        return text;
    }
    if *tags > 0 || *links > 0 {
        let _ = writeln!(text, "  {tags} tags, {manifests} manifests, {links} links of repositories");
    }
    let _ =
        writeln!(text, "  {blobs} contents, {}, {}", size(*bytes), if dry_run { "would be free" } else { "are free" });
    if *shared > 0 {
        let _ = writeln!(text, "  {shared} contents stay: other images or repositories need them");
    }
    if *in_use > 0 {
        let _ = writeln!(text, "  {in_use} contents stay for now: a client reads them or was just told of them");
    }
    text
}
