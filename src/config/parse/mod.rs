//! From one written value to its type. The table in `keys.rs` names a function of this folder for
//! each key.
//!
//! Each function looks at one value alone. The error is the message for the operator: it
//! names the mistake and shows a right value. It holds no secret (SECURITY.md S18).

pub(super) mod access;
pub(super) mod pem;
pub(super) mod site;
pub(super) mod storage;
pub(super) mod tags;
pub(super) mod units;
pub(super) mod upstream;

use std::{fmt, path::PathBuf, str::FromStr};

use figment::value::{Num, Value};

/// Text in quotes that is not empty.
pub(super) fn text(value: &Value) -> Result<&str, String> {
    value.as_str().filter(|text| !text.is_empty()).ok_or_else(|| "must be text in quotes, and not empty".to_owned())
}

/// Makes a function over text one over values.
pub(super) fn text_of<T>(parse: impl Fn(&str) -> Result<T, String>) -> impl Fn(&Value) -> Result<T, String> {
    move |value| parse(text(value)?)
}

/// A type that is parsed from text. The message shows the text.
pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

/// A path of a file or a folder, which may be missing.
pub(super) fn path(value: &Value) -> Result<PathBuf, String> {
    Ok(text(value)?.into())
}

/// `true` or `false`.
pub(super) fn boolean(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(_, is) => Ok(*is),
        Value::String(_, text) if text == "true" => Ok(true),
        Value::String(_, text) if text == "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// A whole number in a range, both ends included.
pub(super) fn number(least: usize, most: usize) -> impl Fn(&Value) -> Result<usize, String> {
    move |value| {
        let number = match value {
            Value::Num(_, Num::F32(_) | Num::F64(_)) => None,
            Value::Num(_, number) => number.to_i128().and_then(|number| usize::try_from(number).ok()),
            _ => None,
        };
        let number = number.filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("must be a whole number from {least} to {most}"))
    }
}

/// One of a few words.
pub(super) fn words<T: Copy>(words: &[(&str, T)]) -> impl Fn(&Value) -> Result<T, String> {
    move |value| match value.as_str() {
        Some(text) => word_of(text, words),
        None => Err(format!("must be one of {}", known(words))),
    }
}

/// One of a few words, from text.
pub(super) fn word_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| format!("{text:?} is not one of {}", known(words)))
}

fn known<T>(words: &[(&str, T)]) -> String {
    words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}
