//! YAML as a tree, of bounded size.
//!
//! - Aliases share their node, so that a bomb of aliases costs nothing; a reader that follows them
//!   keeps the nodes that it has seen ([`Node::id`]).
//! - A file has at most [`MOST_NODES`] nodes, nested at most [`DEEPEST`] deep. Of a text only as
//!   much is kept as an image may have.
//! - A key that readers ask for is found at once ([`KEYS`]), however many entries a mapping has.
//! - `<<` merges mappings, as compose files have it.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    slice,
};

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::finding::{LONGEST_IMAGE, Mistake};

/// The most nodes of a file.
const MOST_NODES: usize = 2_000_000;
/// How deep they nest.
const DEEPEST: usize = 100;
/// The most mappings in which a merged value is looked for.
const MERGES: usize = 256;
/// The keys that [`Node::get`] finds.
const KEYS: [&str; 6] = ["image", "reference", "services", "kind", "apiVersion", MERGE];
const MERGE: &str = "<<";

/// A node. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Node(Rc<(usize, Content)>);

#[derive(Debug)]
enum Content {
    Null,
    Text(Box<str>),
    Sequence(Vec<Node>),
    /// On the heap, so that the many texts are small.
    Mapping(Box<Mapping>),
}

#[derive(Debug)]
struct Mapping {
    entries: Vec<(Node, Node)>,
    /// The position of each of [`KEYS`] among the entries.
    known: [Option<u32>; KEYS.len()],
}

impl Node {
    fn new(line: usize, content: Content) -> Node {
        Node(Rc::new((line, content)))
    }

    /// Its line, from 1 on.
    pub(super) fn line(&self) -> usize {
        self.0.0
    }

    /// The same for an alias and its node, and for no other node of the file.
    pub(super) fn id(&self) -> *const () {
        Rc::as_ptr(&self.0).cast()
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.0.1, Content::Null)
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.0.1 {
            Content::Text(text) => Some(text),
            Content::Null | Content::Sequence(_) | Content::Mapping(_) => None,
        }
    }

    /// The items of a sequence; none, if it is another node.
    pub(super) fn items(&self) -> &[Node] {
        match &self.0.1 {
            Content::Sequence(items) => items,
            Content::Null | Content::Text(_) | Content::Mapping(_) => &[],
        }
    }

    /// The entries of a mapping, without merged ones; none, if it is another node.
    pub(super) fn entries(&self) -> &[(Node, Node)] {
        match &self.0.1 {
            Content::Mapping(mapping) => &mapping.entries,
            Content::Null | Content::Text(_) | Content::Sequence(_) => &[],
        }
    }

    /// The entries of a mapping, then merged ones whose keys it has not; none, if it is another
    /// node. Each mapping is read once, however often it is merged.
    pub(super) fn all_entries(&self) -> Vec<(Node, Node)> {
        let (mut entries, mut keys, mut seen) = (Vec::new(), HashSet::<String>::new(), HashSet::new());
        let mut nodes = vec![self.clone()];
        while let Some(node) = nodes.pop() {
            if !seen.insert(node.id()) {
                continue;
            }
            let (own, mut merged) = (entries.len(), Vec::new());
            for (key, value) in node.entries() {
                match key.text() {
                    Some(MERGE) if value.items().is_empty() => merged.push(value.clone()),
                    Some(MERGE) if seen.insert(value.id()) => merged.extend(value.items().iter().cloned()),
                    Some(MERGE) => {}
                    Some(text) if keys.contains(text) => {}
                    Some(_) | None => entries.push((key.clone(), value.clone())),
                }
            }
            keys.extend(entries[own..].iter().filter_map(|(key, _)| key.text().map(str::to_owned)));
            // The one that is merged first is the next.
            nodes.extend(merged.into_iter().rev());
        }
        entries
    }

    /// The value of one of [`KEYS`], its own or else a merged one.
    pub(super) fn get(&self, key: &str) -> Option<Node> {
        let (mut nodes, mut left) = (vec![self.clone()], MERGES);
        while let Some(node) = nodes.pop() {
            if let Some(value) = node.own(key) {
                return Some(value.clone());
            }
            let Some(from) = node.own(MERGE) else { continue };
            let from = if from.items().is_empty() { slice::from_ref(from) } else { from.items() };
            let from = &from[..from.len().min(left)];
            left -= from.len();
            // The one that is merged first is the next.
            nodes.extend(from.iter().rev().cloned());
        }
        None
    }

    fn own(&self, key: &str) -> Option<&Node> {
        let Content::Mapping(mapping) = &self.0.1 else { return None };
        let place = KEYS.iter().position(|known| *known == key)?;
        Some(&mapping.entries[mapping.known[place]? as usize].1)
    }
}

/// A collection that is being read: its line, its anchor, and what it has so far.
struct Open {
    line: usize,
    anchor: usize,
    is_mapping: bool,
    nodes: Vec<Node>,
}

/// The documents of a file.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, Mistake> {
    let (mut documents, mut open, mut anchors) = (Vec::new(), Vec::<Open>::new(), HashMap::new());
    let mut count = 0;
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| Mistake {
            line: error.marker().line(),
            what: format!("this is no YAML: {}", error.info()),
        })?;
        let line = span.start.line();
        let wrong = |what: &str| Mistake { line, what: what.to_owned() };
        let (node, anchor) = match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => continue,
            Event::DocumentEnd => {
                anchors.clear();
                continue;
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= DEEPEST => {
                return Err(wrong(&format!("it nests deeper than {DEEPEST}")));
            }
            Event::SequenceStart(anchor, _) => {
                open.push(Open { line, anchor, is_mapping: false, nodes: Vec::new() });
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open { line, anchor, is_mapping: true, nodes: Vec::new() });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(closed) => closed.close(),
                None => continue,
            },
            Event::Scalar(text, style, anchor, _) => (Node::new(line, scalar(&text, style)), anchor),
            Event::Alias(anchor) => {
                let node = anchors.get(&anchor).cloned();
                (node.ok_or_else(|| wrong("an alias stands inside its own anchor, or has none"))?, 0)
            }
        };
        count += 1;
        if count > MOST_NODES {
            return Err(wrong(&format!("it has more than {MOST_NODES} nodes")));
        }
        if anchor > 0 {
            anchors.insert(anchor, node.clone());
        }
        match open.last_mut() {
            Some(open) => open.nodes.push(node),
            None => documents.push(node),
        }
    }
    Ok(documents)
}

impl Open {
    fn close(self) -> (Node, usize) {
        let Open { line, anchor, is_mapping, nodes } = self;
        let content = match is_mapping {
            false => Content::Sequence(nodes),
            true => {
                let mut entries = Vec::with_capacity(nodes.len() / 2);
                let mut nodes = nodes.into_iter();
                while let (Some(key), Some(value)) = (nodes.next(), nodes.next()) {
                    entries.push((key, value));
                }
                let mut known = [None; KEYS.len()];
                for (at, (key, _)) in (0..).zip(&entries) {
                    if let Some(place) = key.text().and_then(|key| KEYS.iter().position(|known| *known == key)) {
                        known[place] = known[place].or(Some(at));
                    }
                }
                Content::Mapping(Box::new(Mapping { entries, known }))
            }
        };
        (Node::new(line, content), anchor)
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Content {
    match (style, text) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Content::Null,
        // One more character than an image may have shows that it is none.
        _ => Content::Text(text.chars().take(LONGEST_IMAGE + 1).collect()),
    }
}
