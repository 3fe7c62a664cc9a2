//! Bars are for terminals that can draw them, and for nothing else.

use std::{fs::File, io::Read as _, os::fd::OwnedFd};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use super::*;

const ESCAPE: char = '\u{1b}';
const ROWS: u16 = 8;

/// Runs it with standard error on a terminal with these variables; what was written to that.
fn on_a_terminal(server: &Lanyard, more: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    tcsetwinsize(&slave, Winsize { ws_row: ROWS, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanyard"));
    command.args(words(server, more)).env_clear().envs(variables.iter().copied());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(slave).spawn().unwrap();
    // The command's own copy of the terminal is closed, so that the reading ends with the child.
    drop(command);
    let screen = read(master);
    (child.wait().unwrap().code().unwrap(), screen)
}

/// Everything until the last writer has gone, which Linux tells by an error.
fn read(master: OwnedFd) -> String {
    let (mut master, mut all, mut piece) = (File::from(master), Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = master.read(&mut piece) {
        all.extend_from_slice(&piece[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// A hub whose blobs take about a second, and a lanyard in front of it.
fn slow(images: usize) -> (Hub, Lanyard, Vec<String>) {
    let hub = Hub::start();
    let names: Vec<_> = (0..images).map(|n| format!("library/image-{n}")).collect();
    for name in &names {
        let image = hub.image(name, "latest").layer(100_000).publish();
        hub.fault(On::blob(image.layer(0)), Fault::Slow { bytes_per_second: 100_000 });
    }
    let server = mirror(&hub);
    (hub, server, names)
}

#[test]
fn bars_are_drawn_on_a_terminal_and_never_more_than_it_has_lines() {
    let (_hub, server, names) = slow(12);
    let words: Vec<_> = names.iter().map(String::as_str).chain(["--jobs", "12"]).collect();
    let (code, screen) = on_a_terminal(&server, &words, &[("TERM", "xterm")]);
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains(ESCAPE) && screen.contains("of 12 images done"), "{screen:?}");
    for name in &names {
        assert!(screen.contains(&format!("docker.io/{name}:latest: whole, ")), "{name} is told: {screen:?}");
    }
    let up = regex::Regex::new("\u{1b}\\[(\\d+)A").unwrap();
    let highest = up.captures_iter(&screen).map(|up| up[1].parse::<u16>().unwrap()).max().unwrap_or(0);
    assert!(highest < ROWS, "the cursor went {highest} lines up");
}

#[test]
fn no_color_is_honoured() {
    let colour = regex::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
    for (variables, coloured) in [(&[("TERM", "xterm")][..], true), (&[("TERM", "xterm"), ("NO_COLOR", "1")], false)] {
        let (_hub, server, names) = slow(1);
        let (code, screen) = on_a_terminal(&server, &[&names[0]], variables);
        assert_eq!(code, 0, "{screen}");
        assert!(screen.contains(ESCAPE), "{variables:?}: {screen:?}");
        assert_eq!(colour.is_match(&screen), coloured, "{variables:?}: {screen:?}");
    }
}

#[test]
fn without_a_terminal_that_draws_there_are_lines() {
    for (words, variables) in [(&[][..], &[("TERM", "dumb")][..]), (&[], &[]), (&["--json"], &[("TERM", "xterm")])] {
        let (_hub, server, names) = slow(1);
        let words: Vec<_> = [names[0].as_str()].iter().chain(words).copied().collect();
        let (code, screen) = on_a_terminal(&server, &words, variables);
        assert_eq!((code, screen.lines().count()), (0, 1), "{words:?}, {variables:?}: {screen:?}");
        assert!(!screen.contains(ESCAPE), "{screen:?}");
    }
    let (_hub, server, names) = slow(1);
    let output = pull(&server, &[&names[0]]);
    assert!(!(stderr(&output) + &stdout(&output)).contains(ESCAPE), "a pipe gets no codes");
}
