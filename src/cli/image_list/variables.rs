//! Variables in the text of an image: `$NAME`, `${NAME}`, `${NAME:-default}` and their relatives,
//! as compose files and Dockerfiles have them. A default may have variables in turn.
//!
//! A variable without a value and without a default is an error: the image would not be the one
//! that is meant.

use super::finding::{LONGEST_TEXT, TOO_LONG};

/// How deep defaults nest.
const DEEPEST: usize = 16;

/// The text with the values of its variables, or what is wrong with it: [`TOO_LONG`], or another
/// sentence. Values of variables may be made of others, so the length of the text is no bound.
pub(super) fn expand(text: &str, value: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    expand_to(text, value, DEEPEST)
}

fn expand_to(text: &str, value: &dyn Fn(&str) -> Option<String>, depth: usize) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        append(&mut expanded, before)?;
        if let Some(behind) = behind.strip_prefix('$') {
            expanded.push('$');
            rest = behind;
        } else if let Some(inside) = behind.strip_prefix('{') {
            let depth = depth.checked_sub(1).ok_or("its variables nest too deep")?;
            let end = end_of(inside).ok_or("a `${` is not closed")?;
            append(&mut expanded, &braced(&inside[..end], value, depth)?)?;
            rest = &inside[end + 1..];
        } else {
            let end = name_length(behind);
            let name = &behind[..end];
            if name.is_empty() {
                return Err("a `$` without a name of a variable".to_owned());
            }
            append(&mut expanded, &value(name).ok_or_else(|| unset(name))?)?;
            rest = &behind[end..];
        }
    }
    append(&mut expanded, rest)?;
    Ok(expanded)
}

fn append(expanded: &mut String, more: &str) -> Result<(), String> {
    if expanded.len() + more.len() > LONGEST_TEXT {
        return Err(TOO_LONG.to_owned());
    }
    expanded.push_str(more);
    Ok(())
}

/// The value of what stands between the braces.
fn braced(inside: &str, value: &dyn Fn(&str) -> Option<String>, depth: usize) -> Result<String, String> {
    let (name, operator) = inside.split_at(name_length(inside));
    if name.is_empty() {
        return Err("a `${` without a name of a variable".to_owned());
    }
    let known = value(name);
    let filled = known.clone().filter(|value| !value.is_empty());
    if operator.is_empty() {
        return known.ok_or_else(|| unset(name));
    }
    for (mark, known) in [(":", filled), ("", known)] {
        let Some(operator) = operator.strip_prefix(mark) else { continue };
        let otherwise = |text: &str| expand_to(text, value, depth);
        if let Some(default) = operator.strip_prefix('-') {
            return known.map_or_else(|| otherwise(default), Ok);
        }
        if let Some(instead) = operator.strip_prefix('+') {
            return known.map_or_else(|| Ok(String::new()), |_| otherwise(instead));
        }
        if let Some(why) = operator.strip_prefix('?') {
            let why: String = why.chars().filter(|c| !c.is_control()).take(100).collect();
            let why = if why.is_empty() { String::new() } else { format!(": {why}") };
            return known.ok_or_else(|| unset(name) + &why);
        }
    }
    Err(format!("`${{{name}…}}` has a form that is not understood"))
}

/// The length of the name of a variable at the beginning of a text.
fn name_length(text: &str) -> usize {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    match text.bytes().next() {
        Some(first) if first.is_ascii_digit() => 0,
        Some(_) | None => text.bytes().take_while(fits).count(),
    }
}

/// The offset of the brace that closes one that is open.
fn end_of(inside: &str) -> Option<usize> {
    let mut open = 1_usize;
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}

fn unset(name: &str) -> String {
    format!("the variable {name} has no value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str) -> Option<String> {
        [("TAG", "1.2"), ("REGISTRY", "ghcr.io"), ("EMPTY", "")]
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn variables_have_their_values_or_defaults() {
        for (text, expanded) in [
            ("nginx", "nginx"),
            ("nginx:$TAG", "nginx:1.2"),
            ("$REGISTRY/a/b:${TAG}", "ghcr.io/a/b:1.2"),
            ("nginx:${NONE:-latest}", "nginx:latest"),
            ("nginx:${EMPTY:-latest}", "nginx:latest"),
            ("nginx:${EMPTY-latest}", "nginx:"),
            ("nginx:${NONE-latest}", "nginx:latest"),
            ("nginx:${NONE:-${ALSO_NONE:-${TAG}}}-x", "nginx:1.2-x"),
            ("nginx:1${TAG:+-alpine}${NONE:+-no}${EMPTY+-yes}", "nginx:1-alpine-yes"),
            ("nginx:${TAG:?say which}", "nginx:1.2"),
            ("a$$b", "a$b"),
        ] {
            assert_eq!(expand(text, &value).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn a_variable_without_a_value_is_told_by_its_name() {
        for (text, told) in [
            ("nginx:$NONE", "NONE has no value"),
            ("nginx:${NONE}", "NONE has no value"),
            ("nginx:${NONE:?say which}", "NONE has no value: say which"),
            ("nginx:${EMPTY:?}", "EMPTY has no value"),
            ("nginx:${TAG", "not closed"),
            ("nginx:${}", "without a name"),
            ("nginx:$", "without a name"),
            ("nginx:${TAG/1/2}", "not understood"),
        ] {
            let error = expand(text, &value).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
        let deep = "${A:-".repeat(1000) + &"}".repeat(1000);
        assert!(expand(&deep, &value).unwrap_err().contains("too deep"));
    }

    #[test]
    fn variables_make_no_image_too_long() {
        let long = |name: &str| Some(name.repeat(LONGEST_TEXT));
        for text in ["${A}", "$A", "${A:-x}", "${B:+$A}"] {
            assert_eq!(expand(text, &long).as_deref(), Ok(&*"A".repeat(LONGEST_TEXT)), "{text}");
        }
        for text in ["${A}x", "x$A", "${A}${A}", "${B:+$A$A}", "${BB}", &"a".repeat(LONGEST_TEXT + 1)] {
            assert_eq!(expand(text, &long).unwrap_err(), TOO_LONG, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[$}{:?+A-]{0,40}|\\PC*") {
            let _ = expand(&text, &value);
        }
    }
}
