//! The here-documents that an instruction of a Dockerfile begins, as BuildKit finds them.
//!
//! The instruction is divided into words as by a shell. A word that begins with `<<`, or with
//! digits and `<<`, begins a here-document; what follows in the word is the line that ends it:
//!
//! | word | the line that ends it |
//! |---|---|
//! | `<<EOF`, `3<<EOF`, `<< EOF` | `EOF` |
//! | `<<-EOF` | `EOF`, also behind tabs |
//! | `<<"MY EOF"`, `<<'MY EOF'`, `<<MY\ EOF` | `MY EOF` |
//! | `"<<EOF"`, `<<<EOF`, `$((1<<2))`, `a<<EOF` | it begins none |
//!
//! An instruction with a quote that is not closed begins none. Called by `dockerfile.rs`.

/// A here-document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct HereDocument {
    /// The line that ends it.
    pub(super) name: String,
    /// Tabs may stand before that line.
    tabs: bool,
}

impl HereDocument {
    /// Whether this line ends it.
    pub(super) fn ends_at(&self, line: &str) -> bool {
        let line = if self.tabs { line.trim_start_matches('\t') } else { line };
        line == self.name
    }
}

/// The here-documents of an instruction that may have some, in their order.
pub(super) fn here_documents(instruction: &str) -> Vec<HereDocument> {
    let mut found = Vec::new();
    let mut rest = instruction.trim_start();
    while !rest.is_empty() {
        let Some(end) = word_end(rest) else { return Vec::new() };
        found.extend(here_document(&rest[..end]));
        rest = rest[end..].trim_start();
    }
    found
}

/// The end of the word that a text begins with; `None`: a quote is not closed. Quotes and escapes
/// belong to the word, and so do the spaces behind `<<`.
fn word_end(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match (quote, letter) {
            (None, space) if space.is_whitespace() => return Some(at),
            (None | Some('"'), '\\') => {
                letters.next();
            }
            (None, '"' | '\'') => quote = Some(letter),
            (None, '<') => {
                let begins = letters.next_if(|(_, next)| *next == '<').is_some();
                while begins && letters.next_if(|(_, next)| next.is_whitespace()).is_some() {}
            }
            (Some(open), letter) if open == letter => quote = None,
            (None | Some(_), _) => {}
        }
    }
    quote.is_none().then_some(text.len())
}

/// The here-document that a word begins.
fn here_document(word: &str) -> Option<HereDocument> {
    let rest = word.trim_start_matches(|letter: char| letter.is_ascii_digit()).strip_prefix("<<")?;
    let (rest, tabs) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
    let name = without_quotes(rest.trim_start());
    (!rest.contains('<') && !name.is_empty()).then_some(HereDocument { name, tabs })
}

/// A word without its quotes and escapes.
fn without_quotes(word: &str) -> String {
    let (mut plain, mut quote) = (String::new(), None);
    let mut letters = word.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, '\\') => plain.extend(letters.next()),
            // In double quotes a backslash is itself before any other letter.
            (Some('"'), '\\') => {
                plain.push(letters.next_if(|next| matches!(next, '"' | '$' | '\\')).unwrap_or(letter));
            }
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), letter) if open == letter => quote = None,
            (None | Some(_), letter) => plain.push(letter),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(instruction: &str) -> Vec<String> {
        here_documents(instruction).into_iter().map(|document| document.name).collect()
    }

    #[test]
    fn a_word_that_begins_so_is_a_here_document() {
        for (instruction, name) in [
            ("RUN <<EOF", "EOF"),
            ("RUN cat <<EOF > /etc/x", "EOF"),
            ("RUN 3<<EOF", "EOF"),
            ("RUN << EOF cat", "EOF"),
            ("RUN << -EOF", "-EOF"),
            ("COPY <<END-OF-CONF /x", "END-OF-CONF"),
            ("COPY <<EOF.conf /x", "EOF.conf"),
            ("COPY <<\"MY EOF\" /x", "MY EOF"),
            ("COPY <<'MY EOF' /x", "MY EOF"),
            ("COPY <<MY\\ EOF /x", "MY EOF"),
            ("RUN <<eo'f'", "eof"),
            ("RUN <<eo\\'f", "eo'f"),
            ("RUN <<\"a\\b\\\"c\"", "a\\b\"c"),
            ("RUN <<$EOF", "$EOF"),
            ("RUN <<1", "1"),
            ("RUN echo \"a <<b\" '<<c' <<EOF", "EOF"),
        ] {
            assert_eq!(names(instruction), [name], "{instruction}");
        }
        assert_eq!(names("COPY <<ONE <<-'TWO' /x"), ["ONE", "TWO"]);
    }

    #[test]
    fn other_words_begin_none() {
        for instruction in [
            "RUN echo \"type <<EOF to begin\"",
            "RUN echo 'type <<EOF to begin'",
            "RUN echo \"a \\\" <<EOF\"",
            "RUN \"<<EOF\"",
            "RUN [\"cat\", \"<<EOF\"]",
            "RUN echo \\<<EOF",
            "RUN cat<<EOF",
            "RUN cat <<<EOF",
            "RUN cat <<EOF<x",
            "RUN echo $((1<<2))",
            "RUN cat <<",
            "RUN cat <<- EOF",
            "RUN cat <<\"\"",
            "RUN cat < EOF",
            "RUN echo it's <<EOF",
            "RUN echo \"open <<EOF",
        ] {
            assert_eq!(names(instruction), [""; 0], "{instruction}");
        }
    }

    #[test]
    fn tabs_may_stand_before_the_end_where_the_dash_says_so() {
        let documents = here_documents("COPY <<ONE <<-TWO /x");
        let ends = |at: usize, line: &str| documents[at].ends_at(line);
        assert!(ends(0, "ONE") && !ends(0, "\tONE") && !ends(0, "ONE ") && !ends(0, "TWO"));
        assert!(ends(1, "TWO") && ends(1, "\t\tTWO") && !ends(1, " TWO"));
    }
}
