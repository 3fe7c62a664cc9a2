//! A list of tags in two allocations: one text, and the place of each tag in it.
//!
//! A list takes at most 8 MiB, about 300,000 tags of twenty letters (S9); [`Tags::push`] refuses
//! the next tag. After [`Tags::sort`] the tags are in the order of their bytes, each once. Built by
//! `upstream::lists`; read by `pull::lists` and `http::v2::tags`.

use std::fmt;

use super::Tag;

/// The largest size of one list, in bytes: some 300,000 tags of twenty letters.
const MOST: usize = 8 << 20;

/// A list of tags. After [`sort`](Tags::sort) they are in the order of their bytes, each once.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Tags {
    text: String,
    /// The offset of each tag in `text`, and its length, in bytes.
    places: Vec<(u32, u8)>,
}

/// The list is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the list of tags is longer than 8 MiB")]
pub struct TooManyTags;

impl Tags {
    /// Adds a tag at the end.
    ///
    /// # Errors
    /// The list would be longer than 8 MiB.
    pub fn push(&mut self, tag: &Tag) -> Result<(), TooManyTags> {
        let tag = tag.as_str();
        let (Ok(start), Ok(length)) = (u32::try_from(self.text.len()), u8::try_from(tag.len())) else {
            return Err(TooManyTags);
        };
        if self.weight() + tag.len() + size_of::<(u32, u8)>() > MOST {
            return Err(TooManyTags);
        }
        self.text.push_str(tag);
        self.places.push((start, length));
        Ok(())
    }

    /// Sorts the tags, removes those that are there twice, and frees the memory that is not needed.
    pub fn sort(&mut self) {
        let text = self.text.as_str();
        self.places.sort_unstable_by_key(|place| at(text, *place));
        self.places.dedup_by_key(|place| at(text, *place));
        self.text.shrink_to_fit();
        self.places.shrink_to_fit();
    }

    /// The number of tags.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether the list has no tag.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The memory of the tags, in bytes.
    pub fn weight(&self) -> usize {
        self.text.len() + self.places.len() * size_of::<(u32, u8)>()
    }

    /// The tags of a range of places, which is cut to the end of the list.
    pub fn range(&self, range: std::ops::Range<usize>) -> impl ExactSizeIterator<Item = &str> + Clone {
        let end = range.end.min(self.places.len());
        let places = self.places.get(range.start.min(end)..end).unwrap_or_default();
        places.iter().map(|place| at(&self.text, *place))
    }

    /// All tags.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.range(0..self.places.len())
    }

    /// The number of tags that sort up to and including `last`. The list is sorted.
    pub fn up_to(&self, last: &str) -> usize {
        self.places.partition_point(|place| at(&self.text, *place) <= last)
    }
}

fn at(text: &str, (start, length): (u32, u8)) -> &str {
    let start = start as usize;
    text.get(start..start + usize::from(length)).unwrap_or_default()
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_sorted_and_there_once() {
        let mut tags = Tags::default();
        for tag in ["b", "a", "B", "10", "a", "1", "abc"] {
            tags.push(&tag.parse().unwrap()).unwrap();
        }
        tags.sort();
        assert_eq!(tags.iter().collect::<Vec<_>>(), ["1", "10", "B", "a", "abc", "b"]);
        assert_eq!((tags.up_to("a"), tags.up_to("A"), tags.up_to(""), tags.up_to("z")), (4, 2, 0, 6));
        assert_eq!(tags.range(1..3).collect::<Vec<_>>(), ["10", "B"]);
        assert_eq!((tags.range(5..99).len(), tags.range(9..99).len(), tags.len()), (1, 0, 6));
    }

    #[test]
    fn a_list_has_an_end() {
        for tag in ["a".to_owned(), "a".repeat(128)] {
            let tag = tag.parse().unwrap();
            let mut tags = Tags::default();
            while tags.push(&tag).is_ok() {}
            assert!(tags.weight() <= MOST && tags.weight() > MOST - 200, "{}", tags.weight());
        }
    }
}
