//! Figures as a page of Markdown.

use std::{fs, process::Command};

use crate::servers::version;

/// The tables stand between these two lines of the page; people write the text around them.
const BEGIN: &str = "<!-- the run writes from here -->";
const END: &str = "<!-- to here -->";

/// A table and its title.
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// The median, the least and the most of some figures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    pub(crate) fn push(&mut self, figure: f64) {
        self.0.push(figure);
        self.0.sort_by(f64::total_cmp);
    }

    pub(crate) fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// `1.23 (1.10–1.40)`
    pub(crate) fn text(&self, digits: usize) -> String {
        let (least, most) = (self.0.first().copied().unwrap_or(f64::NAN), self.0.last().copied().unwrap_or(f64::NAN));
        format!("{:.digits$} ({least:.digits$}–{most:.digits$})", self.median())
    }
}

/// A ratio with its goal: `1.04x met: ≥ 1`.
pub(crate) fn ratio(ours: f64, theirs: f64, goal: Goal) -> String {
    let ratio = ours / theirs;
    format!("{ratio:.2}x {}", goal.met(ratio))
}

/// The bound that a figure should keep.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    /// Whether the figure meets the goal, in words.
    pub(crate) fn met(self, figure: f64) -> String {
        let (met, sign, bound) = match self {
            Goal::AtLeast(bound) => (figure >= bound, "≥", bound),
            Goal::AtMost(bound) => (figure <= bound, "≤", bound),
        };
        format!("{} {sign} {bound}", if met { "met:" } else { "**missed**:" })
    }
}

/// The part of the page that the run writes.
pub(crate) fn page(sections: &[Section], cores: usize) -> String {
    let mut page = format!("{BEGIN}\n{}\n", machine(cores));
    for Section { title, head, rows } in sections {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule: Vec<_> = head.iter().map(|_| "---".to_owned()).collect();
        page.push_str(&format!("\n### {title}\n\n{}{}", line(head), line(&rule).replace(' ', "")));
        rows.iter().for_each(|row| page.push_str(&line(row)));
    }
    page + END
}

/// Replaces the tables of the page at `path`.
pub(crate) fn replace_tables(path: &str, page: &str) {
    let text = fs::read_to_string(path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the page has its first mark");
    let (_, after) = rest.split_once(END).expect("the page has its second mark");
    fs::write(path, format!("{before}{page}{after}")).unwrap();
}

fn machine(cores: usize) -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) >> 20;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "{}: {cores} cores of {}, {memory} GiB, Linux {}, load average {} at the end; nginx {}, docker-registry {}, reno.",
        said("date", &["+%Y-%m-%d"]),
        cpu.trim_start_matches([':', '\t', ' ']).trim(),
        said("uname", &["-r"]).split('-').next().unwrap_or_default(),
        load.split(' ').next().unwrap_or_default(),
        version("nginx", "-v").trim_start_matches("nginx/"),
        version("docker-registry", "--version"),
    )
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
