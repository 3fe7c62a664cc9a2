//! Another host: a network namespace with one end of a cable in it, and the other end on this
//! machine.
//!
//! A connection from the far end does not come from this machine itself, so lanyard gives it only
//! the rights of any host of the LAN. A process of ours holds the namespace for as long as the
//! value lives. When the test ends, also by a panic or a kill, the holder's standard input closes,
//! it ends, and the kernel removes the namespace and both ends of the cable.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

/// Connects the cable. Names of interfaces are unique, so that two links never have the same
/// addresses.
const PLUG_IN: &str = r#"set -e
ip link add "$NAME" type veth peer name eth0 netns "$HOLDER"
ip address add "$NEAR/30" dev "$NAME"
ip link set "$NAME" up
nsenter --net --target "$HOLDER" sh -ec "ip address add $FAR/30 dev eth0; ip link set lo up; ip link set eth0 up""#;

/// See the module.
pub(crate) struct Link {
    holder: Child,
    number: u16,
}

impl Link {
    /// A host of its own for one client. The error says why this machine cannot make one.
    pub(crate) fn make() -> Result<Link, String> {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo held && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut said = String::new();
        let out = holder.stdout.take().expect("its standard output is a pipe");
        BufReader::new(out).read_line(&mut said).map_err(|error| error.to_string())?;
        if said.trim() != "held" {
            let output = holder.wait_with_output().map_err(|error| error.to_string())?;
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
        let mut link = Link { holder, number: 0 };
        let mut refused = String::new();
        for _ in 0..10 {
            link.number = rand::random::<u16>() >> 2;
            match link.plug_in() {
                Ok(()) => return Ok(link),
                Err(said) => refused = said,
            }
        }
        Err(refused)
    }

    /// The address of this machine that the far end sees.
    pub(crate) fn near(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// The address of the host at the far end.
    pub(crate) fn far(&self) -> Ipv4Addr {
        self.address(2)
    }

    /// The far end's network namespace, as a path for `nsenter`.
    pub(crate) fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// An address of 198.18.0.0/16, which RFC 2544 reserves for tests.
    fn address(&self, which: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + 4 * u32::from(self.number) + which)
    }

    fn name(&self) -> String {
        format!("lanyard{}", self.number)
    }

    fn plug_in(&self) -> Result<(), String> {
        let output = Command::new("sh")
            .args(["-c", PLUG_IN])
            .env("PATH", super::cell::search_path())
            .env("NAME", self.name())
            .env("HOLDER", self.holder.id().to_string())
            .env("NEAR", self.near().to_string())
            .env("FAR", self.far().to_string())
            .output()
            .map_err(|error| format!("sh: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::{available_elsewhere, child::PATIENCE, child::eventually};

    #[test]
    fn a_link_goes_with_its_value() {
        if !available_elsewhere(&[("ip", "iproute2")]) {
            return;
        }
        let link = Link::make().unwrap();
        let interface = std::path::PathBuf::from(format!("/sys/class/net/{}", link.name()));
        assert!(interface.exists());
        assert_ne!(link.near(), link.far());
        drop(link);
        assert!(eventually(PATIENCE, || (!interface.exists()).then_some(())).is_some(), "the cable was left behind");
    }
}
