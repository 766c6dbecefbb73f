//! A small file system of its own whose power can be cut.
//!
//! Cutting uses what ext4 offers for such tests: from one moment on the file system takes nothing any more and forgets
//! what had not reached the disk. Mounted again it recovers from its journal, as after a real power cut. Torn and
//! reordered sectors are beyond it: the simulated disk of `storage` has those.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Disk {
    own: tempfile::TempDir,
    mounted: bool,
}

const EXT4_IOC_SHUTDOWN: u64 = 0x8004_587d;
/// Not even the journal is written out.
const WITHOUT_FLUSH: u32 = 2;

impl Disk {
    /// An empty ext4 of so many bytes; `None` where this machine does not let us mount one.
    pub fn create(bytes: u64) -> Option<Disk> {
        let own = tempfile::tempdir().unwrap();
        let image = File::create(own.path().join("image")).unwrap();
        image.set_len(bytes).unwrap();
        std::fs::create_dir(own.path().join("disk")).unwrap();
        let mut disk = Disk { own, mounted: false };
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(disk.own.path().join("image")).output();
        if !made.is_ok_and(|output| output.status.success()) || !disk.mount() {
            return None;
        }
        Some(disk)
    }

    pub fn path(&self) -> PathBuf {
        self.own.path().join("disk")
    }

    pub fn mount(&mut self) -> bool {
        let (image, path) = (self.own.path().join("image"), self.path());
        let mounted = Command::new("mount").args(["-o", "loop"]).arg(image).arg(path).output();
        self.mounted = mounted.is_ok_and(|output| output.status.success());
        self.mounted
    }

    /// What is not on the disk now never gets there.
    pub fn cut_power(&self) {
        let root = File::open(self.path()).unwrap();
        let how = WITHOUT_FLUSH;
        // SAFETY: the call reads one number, which outlives it.
        let result = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const how) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    /// Takes the disk out, which nobody may use any more, and mounts it again.
    pub fn power_on(&mut self) {
        self.unmount();
        assert!(self.mount(), "the disk can be mounted after a power cut");
    }

    /// The file system finds itself broken and takes no more writes, open files or not.
    pub fn become_read_only(&self) -> bool {
        run("mount", &["-o", "remount,ro,abort"], &self.path())
    }

    fn unmount(&mut self) {
        if self.mounted {
            let path = self.path();
            // A server that was killed may take a moment to let go.
            let done = (0..100).any(|_| {
                run("umount", &[], &path) || {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    false
                }
            });
            assert!(done, "the disk cannot be unmounted");
            self.mounted = false;
        }
    }
}

fn run(program: &str, args: &[&str], path: &Path) -> bool {
    Command::new(program).args(args).arg(path).output().is_ok_and(|output| output.status.success())
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            run("umount", &["-l"], &self.path());
        }
    }
}
