//! The tokens of a Rust file, as far as the layers tests need them. Comments, the text of literals
//! and all that stands under `#[cfg(test)]` are left out.

/// Identifiers, numbers, `::`, `..`, and any other mark by itself. A literal is one `"`.
pub(super) fn of(text: &str) -> Vec<String> {
    without_tests(&scan(&text.chars().collect::<Vec<_>>()))
}

fn scan(text: &[char]) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let (c, next) = (text[at], text.get(at + 1).copied().unwrap_or(' '));
        if c.is_whitespace() {
            at += 1;
        } else if c == '/' && next == '/' {
            at = find(text, at, '\n');
        } else if c == '/' && next == '*' {
            at = after_comment(text, at);
        } else if let Some(end) = after_text(text, at) {
            tokens.push("\"".to_owned());
            at = end;
        } else if c == '\'' {
            at = after_quote(text, at);
        } else if is_word(c) {
            let end = text[at..].iter().position(|c| !is_word(*c)).map_or(text.len(), |n| at + n);
            tokens.push(text[at..end].iter().collect());
            at = end;
        } else {
            let marks = if (c == ':' || c == '.') && next == c { 2 } else { 1 };
            tokens.push(text[at..at + marks].iter().collect());
            at += marks;
        }
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn find(text: &[char], from: usize, wanted: char) -> usize {
    text[from..].iter().position(|c| *c == wanted).map_or(text.len(), |n| from + n)
}

fn after_comment(text: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at + 1 < text.len() {
        match (text[at], text[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            break;
        }
    }
    at
}

/// The end of a string that starts at `start`: plain, raw or of bytes.
fn after_text(text: &[char], start: usize) -> Option<usize> {
    let mut at = start;
    while at < start + 2 && matches!(text.get(at), Some('b' | 'r' | 'c')) {
        at += 1;
    }
    let raw = text[start..at].contains(&'r');
    let fences = if raw { text[at..].iter().take_while(|c| **c == '#').count() } else { 0 };
    at += fences;
    if text.get(at) != Some(&'"') {
        return None;
    }
    at += 1;
    while at < text.len() {
        if text[at] == '\\' && !raw {
            at += 1;
        } else if text[at] == '"' && text[at + 1..].iter().take_while(|c| **c == '#').count() >= fences {
            return Some(at + 1 + fences);
        }
        at += 1;
    }
    Some(at)
}

/// The end of a character, or of the mark of a lifetime.
fn after_quote(text: &[char], start: usize) -> usize {
    match (text.get(start + 1), text.get(start + 2)) {
        (Some('\\'), _) => find(text, start + 3, '\'') + 1,
        (_, Some('\'')) => start + 3,
        _ => text[start + 1..].iter().position(|c| !is_word(*c)).map_or(text.len(), |n| start + 1 + n),
    }
}

fn without_tests(tokens: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "#" && tokens.get(at + 1).is_some_and(|t| t == "[") {
            let end = after_brackets(tokens, at + 1);
            let attribute = &tokens[at..end];
            let says = |word: &str| attribute.iter().any(|t| t == word);
            at = if says("cfg") && says("test") && !says("not") { after_item(tokens, end) } else { end };
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

fn after_brackets(tokens: &[String], start: usize) -> usize {
    let mut depth = 0;
    for (n, token) in tokens[start..].iter().enumerate() {
        match token.as_str() {
            "[" => depth += 1,
            "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return start + n + 1;
        }
    }
    tokens.len()
}

/// The end of the code that an attribute stands on: an item, a statement, a field, a variant or an
/// arm.
fn after_item(tokens: &[String], start: usize) -> usize {
    const ITEMS: &[&str] =
        &["async", "const", "enum", "fn", "impl", "let", "mod", "static", "struct", "trait", "type", "unsafe", "use"];
    let first = tokens[start..].iter().find(|t| !["pub", "(", ")", "crate", "super"].contains(&t.as_str()));
    let comma_ends = first.is_none_or(|t| t != "#" && !ITEMS.contains(&t.as_str()));
    let mut depth = 0;
    for (n, token) in tokens[start..].iter().enumerate() {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" if depth == 0 => return start + n,
            ")" | "]" => depth -= 1,
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return start + n + 1;
                }
            }
            ";" if depth == 0 => return start + n + 1,
            "," if depth == 0 && comma_ends => return start + n + 1,
            _ => {}
        }
    }
    tokens.len()
}
