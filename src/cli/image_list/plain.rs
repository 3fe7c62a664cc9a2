//! Plain lists: one image a line. A `#` begins a comment, at the beginning of a line or after a
//! space.

use super::finding::{Findings, Found, Mistake, shown};

pub(super) fn images(text: &str) -> Findings {
    let lines = text.lines().enumerate().map(|(n, line)| (n + 1, without_comment(line).trim()));
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(line, image)| match image.contains(char::is_whitespace) {
            false => Ok(Found { line, image: image.to_owned() }),
            true => Err(Mistake { line, what: format!("{} is no image: there is one a line", shown(image)) }),
        })
        .collect()
}

fn without_comment(line: &str) -> &str {
    let begins = |(at, _): &(usize, &str)| line[..*at].chars().next_back().is_none_or(char::is_whitespace);
    line.match_indices('#').find(begins).map_or(line, |(at, _)| &line[..at])
}
