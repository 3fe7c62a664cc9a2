//! What the readers of lists find: images and mistakes, each with its line.

/// The longest name of an image, in bytes. With a digest it has at most 500.
pub(super) const LONGEST_IMAGE: usize = 600;

/// The longest text of an image with the values of its variables, in bytes.
pub(super) const LONGEST_TEXT: usize = 4096;

/// What is wrong with a longer one.
pub(super) const TOO_LONG: &str = "with its variables it is longer than 4096 bytes, and no image is";

/// An image in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub(super) line: usize,
    pub(super) image: String,
}

/// A mistake in a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Mistake {
    pub(super) line: usize,
    pub(super) what: String,
}

/// Images and mistakes, in the order of lines.
pub(super) type Findings = Vec<Result<Found, Mistake>>;

/// The beginning of a text of a file, fit for a message.
pub(super) fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(100).collect::<String>())
}
