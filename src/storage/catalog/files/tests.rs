use std::{collections::BTreeMap, fs};

use proptest::prelude::*;

use super::*;
use crate::storage::{
    Files, LinkRight,
    catalog::Catalog,
    tests::{digest, eventually, hosted, link_record, open, open_ready, repository, tag, tag_record},
};

#[test]
fn tags_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open_ready(dir.path());
    let catalog = &storage.catalog;
    let (a, b) = (repository("library/a"), repository("library/a/b"));
    assert!(!catalog.in_files().has_repository(&a) && catalog.tags(&a).unwrap().is_empty());
    for name in ["b", "B", "a", "1.", "nul"] {
        catalog.put_tag(&a, &tag_record(name, name.as_bytes())).unwrap();
    }
    catalog.put_tag(&b, &tag_record("other", b"x")).unwrap();
    let names = |repository| catalog.tags(repository).unwrap().iter().map(Tag::to_string).collect::<Vec<_>>();
    assert_eq!(names(&a), ["1.", "B", "a", "b", "nul"]);
    assert_eq!(catalog.tag(&a, &tag("B")).unwrap(), Some(tag_record("B", b"B")));
    catalog.put_tag(&a, &tag_record("B", b"new")).unwrap();
    assert_eq!(catalog.tag(&a, &tag("B")).unwrap(), Some(tag_record("B", b"new")));
    assert!(catalog.delete_tag(&a, &tag("B")).unwrap() && !catalog.delete_tag(&a, &tag("B")).unwrap());
    assert_eq!(catalog.tag(&a, &tag("B")).unwrap(), None);
    assert_eq!(names(&a), ["1.", "a", "b", "nul"]);
    assert!(catalog.in_files().has_repository(&a));
    assert_eq!(catalog.repositories(&a.namespace).unwrap(), [a.name.clone(), b.name.clone()]);
    assert!(catalog.repositories(&Namespace::Hosted).unwrap().is_empty());
    // Content of one name in two namespaces never mixes.
    assert_eq!(
        catalog.tag(&Repository { namespace: Namespace::Hosted, name: a.name.clone() }, &tag("a")).unwrap(),
        None
    );
}

#[test]
fn links_say_what_a_repository_holds() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open_ready(dir.path());
    let a = repository("a");
    let named = LinkRecord { right: LinkRight::Named(digest(b"m")), subject: Some(digest(b"s")), ..link_record(b"1") };
    let pushed = LinkRecord { right: LinkRight::Pushed, media_type: "x/y".into(), ..link_record(b"2") };
    storage.catalog.put_links(&a, &[]).unwrap();
    assert!(!storage.catalog.in_files().has_repository(&a));
    storage.blobs.put(&pushed.digest, b"2").unwrap();
    storage.catalog.put_links(&a, &[named.clone(), pushed.clone(), link_record(b"3")]).unwrap();
    for record in [&named, &pushed, &link_record(b"3")] {
        assert_eq!(storage.catalog.link(&a, &record.digest).unwrap().as_ref(), Some(record));
    }
    // Nothing new but the time: the first time stays.
    storage.catalog.put_links(&a, &[LinkRecord { created: 5, ..pushed.clone() }]).unwrap();
    assert_eq!(storage.catalog.link(&a, &pushed.digest).unwrap(), Some(pushed.clone()));
    let again = LinkRecord { media_type: "x/z".into(), ..pushed };
    storage.catalog.put_links(&a, std::slice::from_ref(&again)).unwrap();
    assert_eq!(storage.catalog.link(&a, &again.digest).unwrap(), Some(again));
    assert_eq!(storage.catalog.link(&repository("b"), &named.digest).unwrap(), None);
    assert_eq!(storage.catalog.link(&a, &digest(b"9")).unwrap(), None);
}

#[test]
fn links_go_and_the_index_knows_who_holds_what() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open_ready(dir.path());
    let catalog = &storage.catalog;
    let (a, b, c) = (hosted("team/a"), repository("library/a"), hosted("con"));
    for repository in [&b, &a, &c] {
        catalog.put_links(repository, &[link_record(b"1"), link_record(b"2")]).unwrap();
    }
    // While the index is behind, and when it is not.
    let names = |content: &[u8]| catalog.holders(&digest(content)).unwrap();
    assert_eq!(names(b"1"), [c.clone(), a.clone(), b.clone()]);
    assert!(catalog.delete_link(&a, &digest(b"1")).unwrap() && !catalog.delete_link(&a, &digest(b"1")).unwrap());
    assert_eq!(names(b"1"), [c.clone(), b.clone()]);
    eventually(|| storage.disk.index.holders(&digest(b"1")).is_some_and(|(_, changing)| changing.is_empty()));
    assert_eq!(names(b"1"), [c.clone(), b.clone()]);
    assert_eq!(names(b"2"), [c.clone(), a.clone(), b.clone()]);
    assert_eq!(names(b"3"), []);
    assert_eq!(catalog.links(&a).unwrap(), [link_record(b"2")]);
    assert!(catalog.delete_link(&a, &digest(b"2")).unwrap());
    assert!(!catalog.in_files().has_repository(&a), "one that holds nothing is none");
    assert_eq!(catalog.link(&a, &digest(b"2")).unwrap(), None);
    assert!(!catalog.delete_link(&hosted("never"), &digest(b"2")).unwrap());
    assert!(!dir.path().join("repos/_hosted/never").exists());
}

#[test]
fn tags_are_listed_with_what_they_name() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open_ready(dir.path());
    let a = hosted("a");
    let records = [tag_record("B", b"1"), tag_record("a", b"2"), tag_record("b", b"1")];
    for record in records.iter().rev() {
        storage.catalog.put_tag(&a, record).unwrap();
    }
    let check = || {
        assert_eq!(storage.catalog.tag_records(&a).unwrap(), records);
        assert_eq!(storage.catalog.tags_naming(&a, &digest(b"1")).unwrap(), [tag("B"), tag("b")]);
        assert_eq!(storage.catalog.tags_naming(&a, &digest(b"3")).unwrap(), []);
        assert_eq!(storage.catalog.tag_records(&hosted("b")).unwrap(), []);
    };
    check();
    storage.close();
    check();
}

#[test]
fn repositories_are_named_a_page_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let all = ["a", "a-b", "a/b", "a0", "b"].map(hosted);
    for repository in all.iter().rev() {
        storage.catalog.put_links(repository, &[link_record(b"1")]).unwrap();
    }
    storage.catalog.put_links(&hosted("a/gone"), &[link_record(b"1")]).unwrap();
    storage.catalog.delete_link(&hosted("a/gone"), &digest(b"1")).unwrap();
    let page = |last: Option<&str>, limit| {
        let last = last.map(|last| last.parse().unwrap());
        storage.catalog.repositories_after(&Namespace::Hosted, last.as_ref(), limit).unwrap()
    };
    let names = all.map(|repository| repository.name);
    assert_eq!(page(None, 99), names);
    assert_eq!(page(None, 2), names[..2]);
    assert_eq!(page(Some("a-b"), 2), names[2..4]);
    assert_eq!(page(Some("a/a"), 1), names[2..3]);
    assert!(page(Some("b"), 9).is_empty() && page(None, 0).is_empty());
}

/// FAULTS.md, "bit rot in link/tag/state file": treated as missing, no panic, no wrong answer.
#[test]
fn a_torn_or_rotten_record_is_a_missing_one() {
    let dir = tempfile::tempdir().unwrap();
    let a = repository("a");
    let storage = open(dir.path());
    storage.catalog.put_tag(&a, &tag_record("t", b"1")).unwrap();
    storage.catalog.put_links(&a, &[link_record(b"1")]).unwrap();
    drop(storage);
    let file = dir.path().join("repos/docker.io/a/tags/t");
    let link = dir.path().join(format!("repos/docker.io/a/links/sha256-{}", digest(b"1").hex()));
    let (whole, whole_link) = (fs::read(&file).unwrap(), fs::read(&link).unwrap());
    let missing = |text: &[u8]| {
        fs::write(&file, text).unwrap();
        fs::write(&link, text).unwrap();
        let storage = open_ready(dir.path());
        assert_eq!(storage.catalog.tag(&a, &tag("t")).unwrap(), None);
        assert_eq!(storage.catalog.link(&a, &digest(b"1")).unwrap(), None);
        assert_eq!(storage.catalog.tags(&a).unwrap(), []);
    };
    let mut rotten = whole.clone();
    rotten[whole.len() / 2] ^= 4;
    for text in [&b""[..], &whole[..whole.len() / 2], &rotten, &vec![0; 300], &vec![b'x'; 100_000]] {
        missing(text);
    }
    // Whole, but of another name: a file was moved.
    fs::write(&link, &whole_link).unwrap();
    fs::rename(&file, dir.path().join("repos/docker.io/a/tags/u")).unwrap();
    let storage = open_ready(dir.path());
    assert_eq!(storage.catalog.tag(&a, &tag("u")).unwrap(), None);
    storage.catalog.put_tag(&a, &tag_record("u", b"2")).unwrap();
    assert_eq!(storage.catalog.tag(&a, &tag("u")).unwrap(), Some(tag_record("u", b"2")));
}

#[test]
fn stray_files_are_no_records() {
    let dir = tempfile::tempdir().unwrap();
    let a = repository("a");
    let storage = open(dir.path());
    storage.catalog.put_tag(&a, &tag_record("t", b"1")).unwrap();
    for stray in
        ["repos/docker.io/a/tags/.nfs01", "repos/docker.io/a/tags/T", "repos/docker.io/lost+found+", "repos/x y"]
    {
        fs::write(dir.path().join(stray), b"?").unwrap();
    }
    assert_eq!(storage.catalog.tags(&a).unwrap(), [tag("t")]);
    drop(storage);
    let storage = open_ready(dir.path());
    assert_eq!(storage.catalog.tags(&a).unwrap(), [tag("t")]);
    assert_eq!(storage.catalog.repositories(&a.namespace).unwrap(), [a.name]);
}

/// Writers and a rebuild at once: what was written last is what is read, from files and from the
/// index.
#[test]
fn a_rebuild_never_puts_an_older_record_over_a_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let a = repository("a");
    let storage = open(dir.path());
    for n in 0..300 {
        storage.catalog.put_tag(&a, &tag_record(&format!("t{n}"), b"old")).unwrap();
    }
    drop(storage);
    let storage = open(dir.path());
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (catalog, a) = (&storage.catalog, &a);
            scope.spawn(move || {
                for n in (worker..300).step_by(4) {
                    let name = format!("t{n}");
                    if n % 3 == 0 {
                        catalog.delete_tag(a, &tag(&name)).unwrap();
                        assert_eq!(catalog.tag(a, &tag(&name)).unwrap(), None);
                    } else {
                        catalog.put_tag(a, &tag_record(&name, b"new")).unwrap();
                        assert_eq!(catalog.tag(a, &tag(&name)).unwrap(), Some(tag_record(&name, b"new")));
                    }
                }
            });
        }
    });
    eventually(|| storage.index_is_ready());
    assert_eq!(storage.catalog.tags(&a).unwrap().len(), 200);
    for n in 0..300 {
        let name = format!("t{n}");
        let expected = (n % 3 != 0).then(|| tag_record(&name, b"new"));
        assert_eq!(storage.catalog.tag(&a, &tag(&name)).unwrap(), expected);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put { repository: usize, tag: usize, content: u8 },
    Delete { repository: usize, tag: usize },
    Link { repository: usize, content: u8, fetched: bool, subject: Option<u8> },
    Unlink { repository: usize, content: u8 },
    Crash,
    Stop,
    LoseIndex,
}

fn step() -> impl Strategy<Value = Step> {
    let (repository, tag) = (0..REPOSITORIES.len(), 0..TAGS.len());
    prop_oneof![
        8 => (repository.clone(), tag.clone(), any::<u8>())
            .prop_map(|(repository, tag, content)| Step::Put { repository, tag, content }),
        3 => (repository.clone(), tag).prop_map(|(repository, tag)| Step::Delete { repository, tag }),
        6 => (repository.clone(), 0..4_u8, any::<bool>(), proptest::option::of(0..2_u8)).prop_map(
            |(repository, content, fetched, subject)| Step::Link { repository, content, fetched, subject }
        ),
        2 => (repository, 0..4_u8).prop_map(|(repository, content)| Step::Unlink { repository, content }),
        1 => Just(Step::Crash),
        1 => Just(Step::Stop),
        1 => Just(Step::LoseIndex),
    ]
}

// On disk they are in another order.
const REPOSITORIES: [&str; 5] = ["a", "a-b", "a/b", "nul", "nul/x"];
const TAGS: [&str; 5] = ["a", "A", "aA", "con", "x."];

#[derive(Default)]
struct Model {
    tags: BTreeMap<(usize, Tag), TagRecord>,
    links: BTreeMap<(usize, u8), LinkRecord>,
}

impl Model {
    fn is_here(&self, at: usize) -> bool {
        self.tags.keys().any(|(of, _)| *of == at) || self.links.keys().any(|(of, _)| *of == at)
    }

    fn check(&self, catalog: &Catalog) {
        for content in 0..4 {
            let mut holders: Vec<_> = self
                .links
                .keys()
                .filter(|(_, of)| *of == content)
                .map(|(at, _)| repository(REPOSITORIES[*at]))
                .collect();
            holders.sort();
            assert_eq!(catalog.holders(&digest(&[content])).unwrap(), holders);
            assert_eq!(catalog.is_held(&digest(&[content])).unwrap(), !holders.is_empty());
        }
        self.check_pages(catalog);
        for (at, name) in REPOSITORIES.iter().enumerate() {
            let repository = repository(name);
            let tags: Vec<_> = self.tags.keys().filter(|(of, _)| *of == at).map(|(_, tag)| tag.clone()).collect();
            assert_eq!(catalog.tags(&repository).unwrap(), tags);
            let records: Vec<_> = self.tags.iter().filter(|((of, _), _)| *of == at).map(|(_, record)| record).collect();
            assert!(catalog.tag_records(&repository).unwrap().iter().eq(records));
            let mut links: Vec<_> =
                self.links.iter().filter(|((of, _), _)| *of == at).map(|(_, record)| record).collect();
            links.sort_by_key(|record| record.digest);
            assert!(catalog.links(&repository).unwrap().iter().eq(links));
            assert_eq!(catalog.in_files().has_repository(&repository), self.is_here(at));
            for name in TAGS {
                let expected = self.tags.get(&(at, tag(name)));
                assert_eq!(catalog.tag(&repository, &tag(name)).unwrap().as_ref(), expected);
            }
            for content in 0..4 {
                let expected = self.links.get(&(at, content));
                assert_eq!(catalog.link(&repository, &digest(&[content])).unwrap().as_ref(), expected);
            }
        }
    }
}

fn subject_of(n: u8) -> Digest {
    digest(&[b's', n])
}

impl Model {
    /// Every page of two, walked to the end, and the whole.
    fn check_pages(&self, catalog: &Catalog) {
        let upstream = repository("a").namespace;
        let here: Vec<RepositoryName> = (0..REPOSITORIES.len())
            .filter(|at| self.is_here(*at))
            .map(|at| repository(REPOSITORIES[at]).name)
            .collect();
        assert_eq!(catalog.repositories(&upstream).unwrap(), here);
        let page = |last: Option<&RepositoryName>| catalog.repositories_after(&upstream, last, 2).unwrap();
        assert_eq!(walk(page), here);
        assert_eq!(catalog.repositories(&Namespace::Hosted).unwrap(), []);
        for (at, name) in REPOSITORIES.iter().enumerate() {
            let repository = repository(name);
            let page = |last: Option<&Tag>| catalog.tags_after(&repository, last.map(Tag::as_str), 2).unwrap();
            assert_eq!(walk(page), catalog.tags(&repository).unwrap());
            for subject in [0, 1].map(subject_of) {
                let of = self.links.iter().filter(|((of, _), link)| *of == at && link.subject == Some(subject));
                let mut referrers: Vec<_> = of.map(|(_, link)| link.clone()).collect();
                referrers.sort_by_key(|link| link.digest);
                let mut next = Some(None);
                let mut walked = Vec::new();
                while let Some(last) = next {
                    let last = last.map(|last: Digest| last.to_string());
                    let page = catalog.referrers_after(&repository, &subject, last.as_deref(), 2).unwrap();
                    walked.extend(page.0);
                    next = page.1.map(Some);
                }
                assert_eq!(walked, referrers);
            }
        }
    }
}

/// All pages, one behind the other.
fn walk<T>(page: impl Fn(Option<&T>) -> Vec<T>) -> Vec<T> {
    let mut all = Vec::new();
    loop {
        let next = page(all.last());
        if next.is_empty() {
            return all;
        }
        all.extend(next);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 50, ..ProptestConfig::default() })]

    /// The index, the files alone, and a map in memory give the same answers after any steps,
    /// crashes included.
    #[test]
    fn index_and_files_agree(steps in proptest::collection::vec(step(), 1..30)) {
        let dir = tempfile::tempdir().unwrap();
        let mut storage: Files = open_ready(dir.path());
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Put { repository: at, tag, content } => {
                    let record = tag_record(TAGS[tag], &[content]);
                    storage.catalog.put_tag(&repository(REPOSITORIES[at]), &record).unwrap();
                    model.tags.insert((at, record.tag.clone()), record);
                }
                Step::Delete { repository: at, tag: name } => {
                    let was = storage.catalog.delete_tag(&repository(REPOSITORIES[at]), &tag(TAGS[name])).unwrap();
                    prop_assert_eq!(was, model.tags.remove(&(at, tag(TAGS[name]))).is_some());
                }
                Step::Link { repository: at, content, fetched, subject } => {
                    let right = if fetched { LinkRight::Fetched } else { LinkRight::Named(digest(b"m")) };
                    let record = LinkRecord { right, subject: subject.map(subject_of), ..link_record(&[content]) };
                    storage.catalog.put_links(&repository(REPOSITORIES[at]), std::slice::from_ref(&record)).unwrap();
                    model.links.insert((at, content), record);
                }
                Step::Unlink { repository: at, content } => {
                    let at_name = repository(REPOSITORIES[at]);
                    let was = storage.catalog.delete_link(&at_name, &digest(&[content])).unwrap();
                    prop_assert_eq!(was, model.links.remove(&(at, content)).is_some());
                }
                Step::Crash => {
                    drop(storage);
                    storage = open(dir.path());
                }
                Step::Stop => {
                    storage.close();
                    drop(storage);
                    storage = open(dir.path());
                }
                // Again while sled, which may just be opening, puts files into it.
                Step::LoseIndex => eventually(|| match fs::remove_dir_all(dir.path().join("index")) {
                    Ok(()) => true,
                    Err(error) => error.kind() == io::ErrorKind::NotFound,
                }),
            }
            model.check(&storage.catalog);
        }
        // From the index, where it still is one, and from the files alone.
        model.check(&storage.catalog);
        storage.close();
        model.check(&storage.catalog);
        drop(storage);
        let storage = open_ready(dir.path());
        model.check(&storage.catalog);
    }
}
