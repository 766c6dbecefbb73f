//! The simulated twin: files in memory that forget what was not synced, a clock that is told the time.
//!
//! The model is a strict POSIX file system. A file's content survives a crash up to its last sync, plus a random
//! prefix of what was appended after it (a torn write). A name survives as of the last `sync_dir` of its directory;
//! a later creation, rename or removal may or may not have reached the disk, by chance, each on its own.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::real::splitmix64;
use super::{AppendFile, Clock, DirLock, Env, Files, Random};

/// A simulated machine. Clones share it.
#[derive(Debug, Clone)]
pub struct Sim(Arc<Machine>);

#[derive(Debug)]
struct Machine {
    disk: Mutex<Disk>,
    now_ms: AtomicI64,
    random: AtomicU64,
}

#[derive(Debug)]
struct Disk {
    /// Names as running programs see them.
    names: BTreeMap<PathBuf, usize>,
    /// Names as a crash leaves them at the least.
    durable_names: BTreeMap<PathBuf, usize>,
    inodes: Vec<Inode>,
    locked: Vec<PathBuf>,
    /// Handles of an earlier life no longer write.
    life: u64,
    capacity_bytes: u64,
    /// Calls that change the disk, so far.
    calls: u64,
    fault: Option<Fault>,
}

#[derive(Debug, Default)]
struct Inode {
    content: Vec<u8>,
    synced_len: usize,
    /// A truncation below the synced length that is itself not synced yet.
    truncated_from: Option<Vec<u8>>,
    /// A failed sync: dirty pages are gone from the cache, as on Linux, and no later sync brings them back.
    lost_from: Option<usize>,
}

/// What goes wrong, and at which call that changes the disk (counted from 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub at_call: u64,
    pub kind: FaultKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The call fails with EIO and does nothing (an append may leave a part).
    Error,
    /// The machine stops: this and all later calls fail until [`Sim::crash`].
    PowerCut,
}

impl Sim {
    /// An empty disk without limit at time zero; everything random follows from `seed`.
    pub fn new(seed: u64) -> Sim {
        let disk = Disk {
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            inodes: Vec::new(),
            locked: Vec::new(),
            life: 0,
            capacity_bytes: u64::MAX,
            calls: 0,
            fault: None,
        };
        Sim(Arc::new(Machine { disk: Mutex::new(disk), now_ms: AtomicI64::new(0), random: AtomicU64::new(seed) }))
    }

    pub fn env(&self) -> Env {
        Env { files: Arc::new(self.clone()), clock: Arc::new(self.clone()), random: Arc::new(self.clone()) }
    }

    pub fn set_now_ms(&self, now_ms: i64) {
        self.0.now_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Limits the sum of all files; what is there stays.
    pub fn set_capacity_bytes(&self, bytes: u64) {
        self.0.disk.lock().capacity_bytes = bytes;
    }

    /// Bytes of all files together.
    pub fn used_bytes(&self) -> u64 {
        self.0.disk.lock().used_bytes()
    }

    /// Plans one fault; the count goes on from [`Sim::calls`].
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.0.disk.lock().fault = fault;
    }

    /// Calls so far that change the disk.
    pub fn calls(&self) -> u64 {
        self.0.disk.lock().calls
    }

    /// Cuts the power and switches the machine on again: open handles are dead, locks free, unsynced data gone or torn.
    pub fn crash(&self) {
        let disk = &mut *self.0.disk.lock();
        disk.life += 1;
        disk.locked.clear();
        disk.fault = None;
        for inode in &mut disk.inodes {
            if let Some(before) = inode.truncated_from.take()
                && splitmix64(&self.0.random).is_multiple_of(2)
            {
                inode.content = before;
            }
            let end = inode.lost_from.take().unwrap_or(inode.content.len()).min(inode.content.len());
            let unsynced = end.saturating_sub(inode.synced_len);
            let kept = splitmix64(&self.0.random) as usize % (unsynced + 1);
            inode.content.truncate(inode.synced_len.min(end) + kept);
            inode.synced_len = inode.content.len();
        }
        let mut names = disk.durable_names.clone();
        let changed: Vec<PathBuf> = disk.names.keys().chain(disk.durable_names.keys()).cloned().collect();
        // A rename moves a name in one step: a file never has two names after a crash, nor none.
        for path in changed {
            let (now, durable) = (disk.names.get(&path), disk.durable_names.get(&path));
            if now != durable && splitmix64(&self.0.random).is_multiple_of(2) {
                match now {
                    Some(&inode) => {
                        let old = names.iter().find(|(_, other)| **other == inode).map(|(path, _)| path.clone());
                        if let Some(old) = old {
                            names.remove(&old);
                        }
                        names.insert(path, inode);
                    }
                    None if !disk.names.values().any(|inode| Some(inode) == durable) => {
                        names.remove(&path);
                    }
                    None => {}
                }
            }
        }
        disk.names = names.clone();
        disk.durable_names = names;
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.0.disk.lock().is_off()
    }

    /// Counts a call to another machine; fails where the power goes.
    pub(super) fn remote_call(&self) -> io::Result<()> {
        let disk = &mut *self.0.disk.lock();
        let changed = disk.change();
        if disk.is_off() { changed } else { Ok(()) }
    }

    /// Flips one bit of a file, as failing media do. Nothing where the file is shorter.
    pub fn flip_bit(&self, path: &Path, byte: usize, bit: u8) {
        let disk = &mut *self.0.disk.lock();
        if let Some(&inode) = disk.names.get(path)
            && let Some(byte) = disk.inodes[inode].content.get_mut(byte)
        {
            *byte ^= 1 << (bit & 7);
        }
    }

    /// Cuts a file's tail off on the disk itself.
    pub fn cut(&self, path: &Path, len: usize) {
        let disk = &mut *self.0.disk.lock();
        if let Some(&inode) = disk.names.get(path) {
            let inode = &mut disk.inodes[inode];
            inode.content.truncate(len);
            inode.synced_len = inode.synced_len.min(len);
        }
    }
}

impl Disk {
    fn used_bytes(&self) -> u64 {
        self.names.values().map(|&inode| self.inodes[inode].content.len() as u64).sum()
    }

    /// Counts a call that changes the disk, and fails it where that is planned.
    fn change(&mut self) -> io::Result<()> {
        self.calls += 1;
        match self.fault {
            Some(Fault { at_call, kind: FaultKind::Error }) if at_call == self.calls => {
                Err(io::Error::from_raw_os_error(libc::EIO))
            }
            Some(Fault { at_call, kind: FaultKind::PowerCut }) if at_call <= self.calls => {
                Err(io::Error::other("the power is off"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn is_off(&self) -> bool {
        self.fault.is_some_and(|fault| fault.kind == FaultKind::PowerCut && fault.at_call <= self.calls)
    }

    fn inode(&self, path: &Path) -> io::Result<&Inode> {
        self.names.get(path).map(|&inode| &self.inodes[inode]).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[derive(Debug)]
struct SimFile {
    sim: Sim,
    inode: usize,
    life: u64,
}

impl SimFile {
    fn with<T>(&mut self, act: impl FnOnce(&mut Disk, usize) -> io::Result<T>) -> io::Result<T> {
        let disk = &mut *self.sim.0.disk.lock();
        if disk.life != self.life {
            return Err(io::Error::other("handle of a life before the crash"));
        }
        act(disk, self.inode)
    }
}

impl AppendFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let part = splitmix64(&self.sim.0.random) as usize % (bytes.len() + 1);
        self.with(|disk, inode| {
            let fault = disk.change();
            let room = disk.capacity_bytes.saturating_sub(disk.used_bytes()) as usize;
            let content = &mut disk.inodes[inode].content;
            match fault {
                Err(error) => {
                    content.extend_from_slice(&bytes[..part.min(room)]);
                    Err(error)
                }
                Ok(()) if bytes.len() > room => {
                    content.extend_from_slice(&bytes[..room]);
                    Err(io::ErrorKind::StorageFull.into())
                }
                Ok(()) => {
                    content.extend_from_slice(bytes);
                    Ok(())
                }
            }
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(|disk, inode| {
            let fault = disk.change();
            let inode = &mut disk.inodes[inode];
            if fault.is_err() {
                inode.lost_from.get_or_insert(inode.synced_len);
            } else if inode.lost_from.is_none() {
                inode.synced_len = inode.content.len();
                inode.truncated_from = None;
            }
            fault
        })
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.with(|disk, inode| {
            disk.change()?;
            let inode = &mut disk.inodes[inode];
            let len = len as usize;
            if len < inode.synced_len {
                inode.truncated_from.get_or_insert_with(|| inode.content[..inode.synced_len].to_vec());
                inode.synced_len = len;
            }
            inode.content.truncate(len);
            Ok(())
        })
    }
}

#[derive(Debug)]
struct SimLock {
    sim: Sim,
    dir: PathBuf,
    life: u64,
}

impl DirLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let disk = &mut *self.sim.0.disk.lock();
        if disk.life == self.life {
            disk.locked.retain(|dir| *dir != self.dir);
        }
    }
}

impl Files for Sim {
    fn create(&self, path: &Path) -> io::Result<Box<dyn AppendFile>> {
        let disk = &mut *self.0.disk.lock();
        disk.change()?;
        // A new inode even over an existing name: the old content survives a crash until the directory is synced.
        disk.inodes.push(Inode::default());
        let inode = disk.inodes.len() - 1;
        disk.names.insert(path.to_owned(), inode);
        Ok(Box::new(SimFile { sim: self.clone(), inode, life: disk.life }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.disk.lock().inode(path)?.content.clone())
    }

    fn read_range(&self, path: &Path, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let disk = self.0.disk.lock();
        let content = &disk.inode(path)?.content;
        let end = (offset as usize).checked_add(len).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(content.get(offset as usize..end).ok_or(io::ErrorKind::UnexpectedEof)?.to_vec())
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(self.0.disk.lock().inode(path)?.content.len() as u64)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let disk = &mut *self.0.disk.lock();
        disk.change()?;
        let inode = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let disk = &mut *self.0.disk.lock();
        disk.change()?;
        disk.names.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.0.disk.lock().names.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn list_tree(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.0.disk.lock().names.keys().filter(|path| path.starts_with(dir)).cloned().collect())
    }

    /// Directories are not simulated: they exist.
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let disk = &mut *self.0.disk.lock();
        disk.change()?;
        disk.durable_names.retain(|path, _| path.parent() != Some(dir));
        let current: Vec<_> =
            disk.names.iter().filter(|(path, _)| path.parent() == Some(dir)).map(|(p, i)| (p.clone(), *i)).collect();
        disk.durable_names.extend(current);
        Ok(())
    }

    fn lock(&self, dir: &Path) -> io::Result<Box<dyn DirLock>> {
        let disk = &mut *self.0.disk.lock();
        if disk.locked.iter().any(|locked| locked == dir) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        disk.locked.push(dir.to_owned());
        Ok(Box::new(SimLock { sim: self.clone(), dir: dir.to_owned(), life: disk.life }))
    }

    fn total_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.0.disk.lock().capacity_bytes)
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let disk = self.0.disk.lock();
        Ok(disk.capacity_bytes.saturating_sub(disk.used_bytes()))
    }
}

impl Clock for Sim {
    fn now_ms(&self) -> i64 {
        self.0.now_ms.load(Ordering::Relaxed)
    }
}

impl Random for Sim {
    fn next_u64(&self) -> u64 {
        splitmix64(&self.0.random)
    }
}
