//! A plight: a file system of its own for a data folder, small or about to fail.
//!
//! The file system is mounted in a private mount namespace, which a process of ours holds open for
//! as long as the value lives. `nsenter` puts a server into it, and the test reaches into it
//! through `/proc`. When the test ends, also by a panic or a kill, the holder's standard input
//! closes, it ends, and the kernel removes the mount and the loop device.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
};

use super::left_out;
use crate::lanyard::Lanyard;

/// FS_IOC_SHUTDOWN by its number, with the flag "do not flush the journal".
const CUT: &str =
    r#"perl -e 'open(F, "<", $ARGV[0]) or die $!; my $now = pack("L", 2); ioctl(F, 0x8004587d, $now) or die $!'"#;

/// A mounted file system that only the processes inside see.
pub(super) struct Plight {
    holder: Child,
    input: Option<ChildStdin>,
    /// The mount point.
    folder: PathBuf,
    _image: Option<tempfile::NamedTempFile>,
}

impl Plight {
    /// An empty tmpfs of `size` bytes as the data folder of `lanyard`. None where this machine
    /// cannot make one; the test then says so.
    pub(super) fn tmpfs(lanyard: &mut Lanyard, size: u64) -> Option<Plight> {
        Plight::tmpfs_of_files(lanyard, size, 1 << 20)
    }

    /// The same, of so many files (inodes).
    pub(super) fn tmpfs_of_files(lanyard: &mut Lanyard, size: u64, files: u64) -> Option<Plight> {
        let folder = lanyard.data_dir();
        let mount = format!("mount -t tmpfs -o size={size},nr_inodes={files},mode=0755 lanyard {}", folder.display());
        Plight::hold(lanyard, &mount, ":", None)
    }

    /// An NTFS of `size` bytes on a loop device, as strict as Windows: names that differ only in
    /// case are the same, and a name that Windows does not accept is refused.
    pub(super) fn ntfs(lanyard: &mut Lanyard, size: u64) -> Option<Plight> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(size).unwrap();
        let made = Command::new("mkntfs").args(["-q", "-F", "-f"]).arg(image.path()).output();
        if !made.is_ok_and(|output| output.status.success()) {
            left_out("mkntfs does not run (Debian package ntfs-3g)");
            return None;
        }
        let (file, folder) = (image.path().display().to_string(), lanyard.data_dir());
        let folder = folder.display();
        // A process serves it and ends when it is unmounted; the loop device goes with it.
        let mount = format!(
            "device=$(losetup --find --show {file}) && \
             {{ lowntfs-3g -o no_detach,ignore_case,windows_names \"$device\" {folder} >&2 & }} && \
             until mountpoint -q {folder}; do kill -0 $! || exit 1; done && losetup -d \"$device\""
        );
        Plight::hold(lanyard, &mount, &format!("umount -l {folder}"), Some(image))
    }

    /// An ext4 of `size` bytes on a loop device, which turns read-only at its first error.
    pub(super) fn ext4(lanyard: &mut Lanyard, size: u64) -> Option<Plight> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(size).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image.path()).output();
        if !made.is_ok_and(|output| output.status.success()) {
            left_out("mkfs.ext4 does not run (Debian package e2fsprogs)");
            return None;
        }
        let (file, folder) = (image.path().display().to_string(), lanyard.data_dir());
        let mount = format!("mount -t ext4 -o loop,errors=remount-ro {file} {}", folder.display());
        Plight::hold(lanyard, &mount, ":", Some(image))
    }

    /// A btrfs of `size` bytes on a loop device, mounted with these options.
    pub(super) fn btrfs(lanyard: &mut Lanyard, size: u64, options: &str) -> Option<Plight> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(size).unwrap();
        let made = Command::new("mkfs.btrfs").args(["-q", "-f"]).arg(image.path()).output();
        if !made.is_ok_and(|output| output.status.success()) {
            left_out("mkfs.btrfs does not run (Debian package btrfs-progs)");
            return None;
        }
        let (file, folder) = (image.path().display().to_string(), lanyard.data_dir());
        let mount = format!("mount -t btrfs -o loop,{options} {file} {}", folder.display());
        Plight::hold(lanyard, &mount, ":", Some(image))
    }

    fn hold(
        lanyard: &mut Lanyard,
        mount: &str,
        unmount: &str,
        image: Option<tempfile::NamedTempFile>,
    ) -> Option<Plight> {
        if !rustix::process::geteuid().is_root() {
            left_out("a mount namespace needs root");
            return None;
        }
        let folder = lanyard.data_dir();
        std::fs::create_dir_all(&folder).unwrap();
        let script = format!("{mount} && echo held && cat; {unmount}");
        let held = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        let Ok(mut holder) = held else {
            left_out("unshare does not run (Debian package util-linux)");
            return None;
        };
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said.trim() != "held" {
            let _ = holder.wait();
            left_out(&format!("this machine refuses `{mount}` in a mount namespace"));
            return None;
        }
        let input = holder.stdin.take();
        let plight = Plight { holder, input, folder, _image: image };
        lanyard.through(&["nsenter", "-m", "-t", &plight.pid(), "--"]);
        Some(plight)
    }

    /// The data folder, as seen from outside.
    pub(super) fn data(&self) -> PathBuf {
        Path::new("/proc").join(self.pid()).join("root").join(self.folder.strip_prefix("/").unwrap())
    }

    /// The data folder, as seen from inside.
    pub(super) fn inside(&self) -> String {
        self.folder.display().to_string()
    }

    /// Runs a script inside.
    pub(super) fn run(&self, script: &str) -> Output {
        Command::new("nsenter").args(["-m", "-t", &self.pid(), "--", "sh", "-c", script]).output().unwrap()
    }

    /// The same for a script that must succeed. Returns its output.
    pub(super) fn must(&self, script: &str) -> String {
        let output = self.run(script);
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The power switch of an ext4. None where this machine has no tool for it; the test then says
    /// so.
    pub(super) fn power(&self) -> Option<Power> {
        if !self.run("perl -e 1").status.success() {
            left_out("perl is not installed (Debian package perl)");
            return None;
        }
        let source = self.must(&format!("findmnt -n -o SOURCE --target {}", self.inside()));
        Some(Power { file: self.must(&format!("losetup -n -O BACK-FILE {source}")) })
    }

    fn pid(&self) -> String {
        self.holder.id().to_string()
    }
}

/// Cuts the power of a file system, and brings it back.
pub(super) struct Power {
    file: String,
}

impl Power {
    /// From now on nothing reaches the disk, and bytes that have not reached it are lost.
    pub(super) fn cut(&self, plight: &Plight) {
        plight.must(&format!("{CUT} {}", plight.inside()));
    }

    /// Mounts it again. No process may have a file open in it.
    pub(super) fn back(&self, plight: &Plight) {
        let (file, folder) = (&self.file, plight.inside());
        plight.must(&format!("umount {folder} && mount -t ext4 -o loop,errors=remount-ro {file} {folder}"));
    }
}

impl Drop for Plight {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.holder.wait();
    }
}
