//! Platforms as an operator names them, and the images of an index that they mean. Pure.
//!
//! | the operator names | of an index is taken |
//! |---|---|
//! | nothing | Linux on the architecture of this machine |
//! | `all` | everything |
//! | `linux/arm64` | the default variant (v8; v7 of arm, v1 of amd64), or else all variants |
//! | `linux/amd64/v3` | that variant |
//!
//! An index that names no platform is no image of several platforms, and all of it is taken.
//! Callers: the prefetch, the command line.

use std::{collections::HashSet, fmt, str::FromStr};

use super::{Descriptor, Manifest, Platform, is_index};

/// Which platforms of an image are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Platforms {
    /// Linux on the architecture of this machine.
    #[default]
    Machine,
    /// Every platform.
    All,
    /// These, at least one.
    Only(Vec<PlatformName>),
}

/// A platform by its name: `linux/arm64`, `linux/amd64/v3`. The words are Go's, and those of other
/// tools for the same architecture are understood.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PlatformName {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// A text names no platform.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is no platform: write one like `linux/amd64` or `linux/arm/v7`, or `all` alone")]
pub struct NotAPlatform(String);

/// An index lacks platforms that are wanted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it has no image for {}; it has {}", missing.join(", "), if has.is_empty() { "none".to_owned() } else { has.join(", ") })]
pub struct MissingPlatforms {
    /// The wanted ones that are not there.
    pub missing: Vec<String>,
    /// Those that are there.
    pub has: Vec<String>,
}

impl Platforms {
    /// Reads the names that an operator gave; none of them means this machine's.
    ///
    /// # Errors
    /// One of them is no platform, or `all` stands among others.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Platforms, NotAPlatform> {
        let names: Vec<_> = names.into_iter().collect();
        match names.as_slice() {
            [] => Ok(Platforms::Machine),
            ["all"] => Ok(Platforms::All),
            names => names.iter().map(|name| name.parse()).collect::<Result<_, _>>().map(Platforms::Only),
        }
    }

    /// Their names; none: all platforms.
    pub fn names(&self) -> Vec<PlatformName> {
        match self {
            Platforms::Machine => vec![PlatformName::of_this_machine()],
            Platforms::All => Vec::new(),
            Platforms::Only(names) => names.clone(),
        }
    }

    /// Whether the operator named them one by one: then an image of another platform is no answer.
    pub fn are_named(&self) -> bool {
        matches!(self, Platforms::Only(_))
    }

    /// The children of `index` that are wanted, each once, in the order of the index.
    ///
    /// # Errors
    /// A wanted platform is not there.
    pub fn choose<'m>(&self, index: &'m Manifest) -> Result<Vec<&'m Descriptor>, MissingPlatforms> {
        let mut seen = HashSet::new();
        let children: Vec<_> = index.children().filter(|child| seen.insert(child.digest)).collect();
        let names = self.names();
        if names.is_empty() || children.iter().all(|child| child.platform.is_none()) {
            return Ok(children);
        }
        // An index inside an index may have any platform.
        let is_nested = |child: &&Descriptor| child.platform.is_none() && is_index(&child.media_type);
        let has_nested = children.iter().any(is_nested);
        let (mut taken, mut missing) = (HashSet::new(), Vec::new());
        for wanted in &names {
            let found = wanted.find(&children);
            if found.is_empty() && !has_nested {
                missing.push(wanted.to_string());
            }
            taken.extend(found);
        }
        if !missing.is_empty() {
            return Err(MissingPlatforms { missing, has: names_of(&children) });
        }
        Ok(children.into_iter().filter(|child| is_nested(child) || taken.contains(&child.digest)).collect())
    }

    /// Whether an image of this platform, without an index, is what is wanted.
    pub fn take(&self, platform: &Platform) -> bool {
        match self {
            Platforms::Machine | Platforms::All => true,
            Platforms::Only(wanted) => wanted.iter().all(|wanted| wanted.is(platform)),
        }
    }
}

impl PlatformName {
    /// Linux on the architecture of this machine.
    fn of_this_machine() -> PlatformName {
        let architecture = architecture(std::env::consts::ARCH).to_owned();
        PlatformName { os: "linux".to_owned(), architecture, variant: None }
    }

    /// The digests of the children that this name means.
    fn find(&self, children: &[&Descriptor]) -> Vec<super::Digest> {
        let of = |takes: &dyn Fn(&Platform) -> bool| -> Vec<_> {
            let fitting = children.iter().filter(|child| child.platform.as_ref().is_some_and(takes));
            fitting.map(|child| child.digest).collect()
        };
        match of(&|platform| self.is(platform)) {
            none if none.is_empty() && self.variant.is_none() => of(&|platform| self.is_of_kind(platform)),
            found => found,
        }
    }

    fn is_of_kind(&self, platform: &Platform) -> bool {
        platform.os == self.os && architecture(&platform.architecture) == self.architecture
    }

    fn is(&self, platform: &Platform) -> bool {
        let default = default_variant(&self.architecture);
        let variant = |told: Option<&String>| told.map_or(default, String::as_str).to_owned();
        self.is_of_kind(platform) && variant(self.variant.as_ref()) == variant(platform.variant.as_ref())
    }
}

impl FromStr for PlatformName {
    type Err = NotAPlatform;

    fn from_str(text: &str) -> Result<Self, NotAPlatform> {
        let wrong = || NotAPlatform(text.chars().take(100).collect());
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
        let words: Vec<_> = text.split('/').collect();
        if words.iter().any(|part| part.is_empty() || part.len() > 64 || !part.bytes().all(word)) {
            return Err(wrong());
        }
        let (os, told, variant) = match words.as_slice() {
            [os, told] => (*os, *told, None),
            [os, told, variant] => (*os, *told, Some((*variant).to_owned())),
            _ => return Err(wrong()),
        };
        Ok(PlatformName { os: os.to_owned(), architecture: architecture(told).to_owned(), variant })
    }
}

impl fmt::Display for PlatformName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().filter(|variant| !variant.is_empty()).try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// Go's word for an architecture.
fn architecture(word: &str) -> &str {
    match word {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        word => word,
    }
}

/// The variant that is meant where none is named.
fn default_variant(architecture: &str) -> &'static str {
    match architecture {
        "amd64" => "v1",
        "arm64" => "v8",
        "arm" => "v7",
        _ => "",
    }
}

/// The platforms of an index, each once. Attestations are listed as `unknown/unknown`, and are no
/// platform.
fn names_of(children: &[&Descriptor]) -> Vec<String> {
    let mut names: Vec<_> =
        children.iter().filter_map(|child| child.platform.as_ref()).map(Platform::to_string).collect();
    names.retain(|name| !name.starts_with("unknown/"));
    names.sort();
    names.dedup();
    names.truncate(50);
    names
}

#[cfg(test)]
mod tests {
    use super::{super::OCI_INDEX, *};

    /// An index with these platforms; `-` is a child without one.
    fn index(platforms: &[&str]) -> Manifest {
        let children = platforms.iter().enumerate().map(|(n, platform)| {
            let words: Vec<_> = platform.split('/').collect();
            let platform = match words.as_slice() {
                [os, architecture] => format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"}}"#),
                [os, architecture, variant] => {
                    format!(r#","platform":{{"os":"{os}","architecture":"{architecture}","variant":"{variant}"}}"#)
                }
                _ => String::new(),
            };
            format!(r#"{{"mediaType":"{OCI_INDEX}","digest":"sha256:{n:064x}","size":1{platform}}}"#)
        });
        let json = format!(r#"{{"manifests":[{}]}}"#, children.collect::<Vec<_>>().join(","));
        Manifest::parse(OCI_INDEX, json.as_bytes()).unwrap()
    }

    fn chosen(wanted: &str, of: &[&str]) -> Result<Vec<String>, String> {
        let platforms = Platforms::parse(wanted.split(',').filter(|name| !name.is_empty())).unwrap();
        let index = index(of);
        let chosen = platforms.choose(&index).map_err(|missing| missing.to_string())?;
        let name = |child: &&Descriptor| child.platform.as_ref().map_or("-".to_owned(), Platform::to_string);
        Ok(chosen.iter().map(name).collect())
    }

    #[test]
    fn names_mean_what_clients_mean_by_them() {
        let usual = ["linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8", "unknown/unknown"];
        for (wanted, of, takes) in [
            ("linux/amd64", &usual[..], &["linux/amd64"][..]),
            ("linux/x86_64", &usual, &["linux/amd64"]),
            ("linux/amd64/v1", &usual, &["linux/amd64"]),
            ("linux/arm64,linux/amd64", &usual, &["linux/amd64", "linux/arm64/v8"]),
            ("linux/arm", &usual, &["linux/arm/v7"]),
            ("linux/arm/v6", &usual, &["linux/arm/v6"]),
            ("linux/arm", &["linux/arm/v6", "linux/arm/v5"], &["linux/arm/v6", "linux/arm/v5"]),
            ("linux/amd64", &["linux/amd64", "linux/amd64/v3"], &["linux/amd64"]),
            ("linux/amd64/v3", &["linux/amd64", "linux/amd64/v3"], &["linux/amd64/v3"]),
            ("windows/amd64", &["windows/amd64", "windows/amd64"], &["windows/amd64", "windows/amd64"]),
            ("all", &usual, &usual),
            ("linux/s390x", &["-", "-"], &["-", "-"]),
            ("linux/s390x", &["-", "linux/amd64"], &["-"]),
        ] {
            assert_eq!(chosen(wanted, of).unwrap(), takes, "{wanted} of {of:?}");
        }
        let machine = format!("linux/{}", architecture(std::env::consts::ARCH));
        assert_eq!(chosen("", &["linux/other", &machine]).unwrap(), [machine]);
    }

    #[test]
    fn what_is_missing_is_told_with_what_there_is() {
        let of = ["linux/amd64", "linux/arm64/v8", "linux/amd64", "unknown/unknown"];
        let told = chosen("linux/amd64,linux/s390x,linux/amd64/v4", &of).unwrap_err();
        assert_eq!(told, "it has no image for linux/s390x, linux/amd64/v4; it has linux/amd64, linux/arm64/v8");
        assert!(chosen("linux/amd64", &["unknown/unknown"]).unwrap_err().ends_with("it has none"));
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for wrong in ["", "linux", "linux/", "/amd64", "linux/amd64/v1/x", "Linux/amd64", "linux/am d64", "all/x/y/z"] {
            assert!(Platforms::parse([wrong]).is_err(), "{wrong:?}");
        }
        assert!(Platforms::parse(["all", "linux/amd64"]).is_err(), "all stands alone");
        assert_eq!(Platforms::parse([]), Ok(Platforms::Machine));
    }
}
