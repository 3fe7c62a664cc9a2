//! The layout of `lanyard ls --digest`: every reason for one digest. Called by `ls.rs` alone.

use std::fmt::Write as _;

use super::{
    ls_table::{ago, time_in_words},
    manage::size,
};
use crate::admin::DigestReport;

/// The report in words. `now`: in seconds since 1970.
pub(super) fn text(report: &DigestReport, now: u64) -> String {
    let DigestReport { digest, why, repositories, promised_for, filling, parked, .. } = report;
    let here = match report.size {
        Some(bytes) => format!("{}, here", size(bytes)),
        None if filling.is_some() || parked.is_some() => "not here yet".to_owned(),
        None if repositories.iter().any(|repository| repository.held) => "not here: it was let go".to_owned(),
        None => "not here: it was never fetched".to_owned(),
    };
    let mut text = format!("{digest}\n              {here}\n");
    if let Some(used) = report.last_used {
        let (used, served) = (ago(now.saturating_sub(used)), size(report.served));
        let _ = writeln!(text, "used          {used}, {} times; {served} of it were given from here", report.uses);
    }
    let why: Vec<_> = why.iter().map(ToString::to_string).collect();
    let _ = writeln!(text, "why           {}", why.join(", "));
    for repository in repositories {
        let name = &repository.repository;
        let _ = writeln!(text, "in            {name}{}", if repository.held { "" } else { ", which only names it" });
        for tag in &repository.tags {
            let _ = writeln!(text, "  tagged      {name}:{tag}");
        }
        for manifest in &repository.named_by {
            let _ = writeln!(text, "  named by    {name}@{manifest}");
        }
    }
    if let Some(seconds) = promised_for {
        let _ = writeln!(text, "promised      to a client, for {} more", time_in_words(*seconds));
    }
    if let Some(fill) = filling {
        let of = fill.of.map_or_else(String::new, |of| format!(" of {}", size(of)));
        let (bytes, clients) = (size(fill.bytes), fill.clients);
        let _ = writeln!(text, "filling       {bytes}{of}, begun for {}, {clients} clients read it", fill.repository);
    }
    if let Some(bytes) = parked {
        let _ = writeln!(text, "parked        {} of an unfinished download", size(*bytes));
    }
    let _ = match &report.place {
        Some(place) => {
            let when =
                place.minutes.map_or_else(String::new, |left| format!(", in about {}", time_in_words(left * 60)));
            let before = size(place.bytes_before);
            writeln!(text, "evicted       would go as number {} of {}, after {before}{when}", place.place, place.of)
        }
        None if report.size.is_some() => writeln!(text, "evicted       not while this is so"),
        None => Ok(()),
    };
    text
}
