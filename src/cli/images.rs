//! Commands over images: one request for each, to the lanyard that runs on a folder.
//!
//! Promises: an image that fails keeps no other one from its turn; the exit code is then 1. With
//! `--json` the answer is one list, in which an image that failed has an `error`. Callers: the
//! files of this room that have such a command.

use std::process::ExitCode;

use serde::de::DeserializeOwned;

use super::{
    config_args::FolderArgs,
    exit::{FAILED, UNAVAILABLE, USAGE, fail_with, print, tell},
    manage::{escaped_answer, said},
    socket::{self, AskError},
};

/// Asks once for each image, and prints the answers: as they came with `--json`, else as `text` has
/// them. `request` gives the method and the target.
pub(super) fn each_image<T: DeserializeOwned>(
    folder: FolderArgs,
    images: &[String],
    request: impl Fn(&str) -> (&'static str, String),
    text: impl Fn(&T) -> String,
) -> ExitCode {
    let json = folder.json;
    let config = match folder.config() {
        Ok(config) => config,
        Err(told) => return told,
    };
    if let Some(image) = images.iter().find(|image| !may_be_image(image)) {
        return fail_with(USAGE, &format!("lanyard: {image:?} is not an image\n"));
    }
    let (mut told, mut answers, mut failed) = (String::new(), Vec::new(), false);
    for image in images {
        let (method, target) = request(image);
        let answer = match socket::ask(&config.data_dir, method, &target) {
            Ok((200, body)) => match (escaped_answer::<T>(&body), serde_json::from_slice(&body)) {
                (Ok(answer), Ok(value)) => Ok((answer, value)),
                (Err(error), _) | (_, Err(error)) => Err(format!("the answer is of another version: {error}")),
            },
            Ok((status, body)) => Err(said(status, &body)),
            Err(error @ (AskError::NotRunning(_) | AskError::TooLong(_))) => {
                return fail_with(UNAVAILABLE, &format!("lanyard: {error}\n"));
            }
            Err(error @ (AskError::Denied(_) | AskError::Broken { .. })) => Err(error.to_string()),
        };
        match answer {
            Ok((answer, value)) => {
                told += &text(&answer);
                answers.push(value);
            }
            Err(error) => {
                failed = true;
                tell(&format!("lanyard: {error}\n"));
                answers.push(serde_json::json!({ "image": image, "error": error }));
            }
        }
    }
    let printed = print(&if json { format!("{}\n", serde_json::Value::from(answers)) } else { told });
    if failed { ExitCode::from(FAILED) } else { printed }
}

/// Whether the text can stand in the path of a request as it is. No image has another character.
pub(super) fn may_be_image(text: &str) -> bool {
    let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'@' | b'+');
    !text.is_empty() && text.bytes().all(known)
}
