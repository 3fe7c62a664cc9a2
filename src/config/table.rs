//! The types of a table of keys, and the macro `keys!` that declares one. `keys.rs` and
//! `storage_keys.rs` are its only callers.
//!
//! One entry of `keys!` is one key. These follow from it: the field and its documentation, the
//! key in the schema, its default, the reading of its value, its place in `config show`, and its
//! lines in `config.example.toml` (the test in `example.rs` compares them).

use figment::value::Value;

/// One key of a table.
pub(super) struct ConfigKey {
    /// The name in the file.
    pub(super) name: &'static str,
    /// The lines of its documentation. Those before the first empty one are the operator's, and
    /// stand in `config.example.toml`.
    #[cfg_attr(not(test), expect(dead_code, reason = "config.example.toml is tested against it"))]
    pub(super) about: &'static [&'static str],
    /// The kind of its content.
    pub(super) kind: KeyKind,
}

/// The kind of a key, by its content.
pub(super) enum KeyKind {
    /// A value with a default, as TOML.
    Default(&'static str),
    /// A value without a default: an example of one, as TOML.
    #[cfg_attr(not(test), expect(dead_code, reason = "config.example.toml is tested against it"))]
    Example(&'static str),
    /// A table of keys, `[…]`.
    Table(&'static [ConfigKey]),
    /// A list of tables, `[[…]]`.
    Tables(&'static [ConfigKey]),
    /// A function that is designed and not in this version. The text names the function.
    NotBuilt(&'static str),
}

/// The kinds of entries in `keys!` by their names.
impl KeyKind {
    pub(super) const fn value(default: &'static str) -> KeyKind {
        KeyKind::Default(default)
    }

    pub(super) const fn list(default: &'static str) -> KeyKind {
        KeyKind::Default(default)
    }

    pub(super) const fn optional_list(example: &'static str) -> KeyKind {
        KeyKind::Example(example)
    }

    pub(super) const fn option(example: &'static str) -> KeyKind {
        KeyKind::Example(example)
    }

    pub(super) const fn redacted(example: &'static str) -> KeyKind {
        KeyKind::Example(example)
    }

    pub(super) const fn required(example: &'static str) -> KeyKind {
        KeyKind::Example(example)
    }
}

/// The value of TOML text from the table of keys. A test holds that every default is TOML.
pub(super) fn value_of(written: &str) -> Option<Value> {
    let value: toml::Value = written.parse().ok()?;
    Value::serialize(value).ok()
}

/// The message for a key or a value whose function is not in this version.
pub(super) fn not_in_this_version(what: &str) -> String {
    format!("{what} is not in this version; remove it")
}

/// Declares a table: a struct, its keys, and the function that reads them.
///
/// The entries of the struct, each with its documentation above it:
/// - `name: Type = KIND(WRITTEN, PARSE),` is a key and a field. KIND is a method of
///   [`Reader`](super::reader::Reader): `value` and `list` have the default WRITTEN, the others
///   show WRITTEN as an example.
/// - `name: Type = given(WRITTEN),` is a key and a field that a check file reads, because the
///   value depends on other keys. WRITTEN is an example.
/// - `name: Type = table(Table),` is a table below this one; `optional_table` may be absent.
/// - `field: Type = tables(name: Table),` is a list of tables, which a check file reads.
/// - `field: Type,` is a field without a key of its own. A check file makes it.
/// - `name = key(WRITTEN),` is a key without a field. A check file reads it.
/// - `name = not_built(WHAT),` is a key of a later version.
///
/// `read` takes the fields that a check file makes in the order of the entries, as `Option`s.
/// It returns `None` if a problem was noted, or if a `required` key is absent.
macro_rules! keys {
    ($(#[$about:meta])* pub struct $Table:ident { $($entries:tt)* }) => {
        keys! { @next { $(#[$about])* $Table } [] $($entries)* }
    };

    // One entry after the other becomes its parts: field, key, made by a check file, reading.
    (@next $head:tt [$($done:tt)*]
        $(#[doc = $doc:literal])* $name:ident: $Type:ty = given($written:tt), $($rest:tt)*) => {
        keys! { @next $head [$($done)* {
            field { $(#[doc = $doc])* $name: $Type }
            key { stringify!($name), [$($doc),*], KeyKind::Example(stringify!($written)) }
            made { $name: $Type }
            read {}
        }] $($rest)* }
    };
    (@next $head:tt [$($done:tt)*]
        $(#[doc = $doc:literal])* $name:ident: $Type:ty = $kind:ident($written:tt, $parse:expr), $($rest:tt)*) => {
        keys! { @next $head [$($done)* {
            field { $(#[doc = $doc])* $name: $Type }
            key { stringify!($name), [$($doc),*], KeyKind::$kind(stringify!($written)) }
            made {}
            read { $name $kind (stringify!($name), stringify!($written), $parse) }
        }] $($rest)* }
    };
    (@next $head:tt [$($done:tt)*]
        $(#[doc = $doc:literal])* $name:ident: $Type:ty = $kind:ident($Table:ident), $($rest:tt)*) => {
        keys! { @next $head [$($done)* {
            field { $(#[doc = $doc])* $name: $Type }
            key { stringify!($name), [$($doc),*], KeyKind::Table($Table::KEYS) }
            made {}
            read { $name $kind (stringify!($name), $Table::read) }
        }] $($rest)* }
    };
    (@next $head:tt [$($done:tt)*]
        $(#[doc = $doc:literal])* $field:ident: $Type:ty = tables($name:ident: $Table:ident), $($rest:tt)*) => {
        keys! { @next $head [$($done)* {
            field { $(#[doc = $doc])* $field: $Type }
            key { stringify!($name), [$($doc),*], KeyKind::Tables($Table::KEYS) }
            made { $field: $Type }
            read {}
        }] $($rest)* }
    };
    (@next $head:tt [$($done:tt)*]
        $(#[doc = $doc:literal])* $field:ident: $Type:ty, $($rest:tt)*) => {
        keys! { @next $head [$($done)* {
            field { $(#[doc = $doc])* $field: $Type }
            key {}
            made { $field: $Type }
            read {}
        }] $($rest)* }
    };
    (@next $head:tt [$($done:tt)*]
        $(#[doc = $doc:literal])* $name:ident = key($written:tt), $($rest:tt)*) => {
        keys! { @next $head [$($done)* {
            field {}
            key { stringify!($name), [$($doc),*], KeyKind::Example(stringify!($written)) }
            made {}
            read {}
        }] $($rest)* }
    };
    (@next $head:tt [$($done:tt)*]
        $name:ident = not_built($what:literal), $($rest:tt)*) => {
        keys! { @next $head [$($done)* {
            field {}
            key { stringify!($name), [], KeyKind::NotBuilt($what) }
            made {}
            read {}
        }] $($rest)* }
    };

    // The parts of all entries become the struct and its functions.
    (@next { $(#[$about:meta])* $Table:ident } [$({
        field { $($(#[doc = $doc:literal])* $field:ident: $Type:ty)? }
        key { $($name:expr, [$($line:literal),*], $holds:expr)? }
        made { $($made:ident: $Made:ty)? }
        read { $($read:ident $kind:ident ($($argument:tt)*))? }
    })*]) => {
        $(#[$about])*
        pub struct $Table {
            $($($(#[doc = $doc])* pub $field: $Type,)?)*
        }

        impl $Table {
            /// The keys of this table, in the order of `config show`.
            pub(super) const KEYS: &[ConfigKey] = &[
                $($(ConfigKey { name: $name, about: &[$($line),*], kind: $holds },)?)*
            ];

            /// Reads every key, whatever is wrong with the others.
            pub(super) fn read(
                reader: &mut Reader<'_>,
                section: &mut Section<'_>,
                $($($made: Option<$Made>,)?)*
            ) -> Option<Self> {
                $($(let $read = reader.$kind(section, $($argument)*);)?)*
                Some(Self { $($($field: $field?,)?)* })
            }
        }
    };
}
pub(super) use keys;
