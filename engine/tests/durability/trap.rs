//! A process whose file-system calls wait for our word.
//!
//! A filter in the kernel (seccomp with user notification) hands every call that may change files, of all threads and
//! in one order, to a thread of the test. It lets the call go on, fails it, carries half of it out, or kills the
//! process in its place. Nothing is loaded into the process.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::JoinHandle;

/// A call that touches a file below the watched directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub name: &'static str,
    /// Relative to the watched directory; for a rename the old name.
    pub path: PathBuf,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// It does nothing and fails with this error number.
    Fail(i32),
    /// A write that writes half; any other call passes.
    Half,
    /// SIGKILL instead.
    Kill,
}

const CALLS: [(i64, &str); 16] = [
    (libc::SYS_openat, "open"),
    (libc::SYS_write, "write"),
    (libc::SYS_pwrite64, "pwrite"),
    (libc::SYS_writev, "writev"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_ftruncate, "ftruncate"),
    (libc::SYS_rename, "rename"),
    (libc::SYS_renameat, "renameat"),
    (libc::SYS_renameat2, "renameat2"),
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_mkdirat, "mkdirat"),
    (libc::SYS_link, "link"),
    (libc::SYS_linkat, "linkat"),
];

#[repr(C)]
#[derive(Clone, Copy)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    arch: u32,
    ip: u64,
    args: [u64; 6],
}

#[repr(C)]
struct Reply {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const RECEIVE: u64 = 0xc050_2100;
const SEND: u64 = 0xc018_2101;
const CONTINUE: u32 = 1;

/// Starts `command` and asks `judge` about its calls below `dir` until it ends. The thread gives back all of them.
pub fn spawn(
    command: &mut Command,
    dir: &Path,
    mut judge: impl FnMut(&Call) -> Verdict + Send + 'static,
) -> (Child, JoinHandle<Vec<Call>>) {
    let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let (theirs_fd, dir) = (theirs.as_raw_fd(), dir.to_owned());
    // SAFETY: between fork and exec only system calls are made, with memory of this stack.
    unsafe {
        command.pre_exec(move || install_filter().and_then(|listener| send_descriptor(theirs_fd, listener)));
    }
    let watcher = std::thread::spawn(move || {
        let listener = receive_descriptor(ours.as_raw_fd());
        let mut calls = Vec::new();
        while let Some(notification) = next(&listener) {
            let call = call_of(&notification, &dir);
            let verdict = call.as_ref().map_or(Verdict::Pass, &mut judge);
            answer(&listener, &notification, verdict);
            calls.extend(call);
        }
        calls
    });
    let child = command.spawn().unwrap();
    drop(theirs);
    (child, watcher)
}

/// Sends all of [`CALLS`] to the listener that is returned.
fn install_filter() -> std::io::Result<RawFd> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut program = [statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW); CALLS.len() + 3];
    program[0] = statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0);
    for (index, (number, _)) in CALLS.iter().enumerate() {
        let jump = statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *number as u32);
        program[1 + index] = libc::sock_filter { jt: (CALLS.len() - index) as u8, ..jump };
    }
    program[CALLS.len() + 2] = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_USER_NOTIF);
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program outlives the calls; the flags ask for a descriptor and nothing else.
    let listener = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    if listener < 0 { Err(std::io::Error::last_os_error()) } else { Ok(listener as RawFd) }
}

#[repr(C, align(8))]
struct Control([u8; 24]);

fn send_descriptor(socket: RawFd, descriptor: RawFd) -> std::io::Result<()> {
    let (mut byte, mut control) = (0u8, Control([0; 24]));
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: the message points to the values above, which outlive the call; the control space holds one descriptor.
    let sent = unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as usize;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(descriptor);
        libc::sendmsg(socket, &raw const message, 0)
    };
    if sent < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn receive_descriptor(socket: RawFd) -> OwnedFd {
    let (mut byte, mut control) = (0u8, Control([0; 24]));
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: as above; the kernel writes a descriptor of ours into the control space, which nobody else owns.
    unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len();
        assert!(libc::recvmsg(socket, &raw mut message, 0) >= 0, "{}", std::io::Error::last_os_error());
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        assert!(!header.is_null(), "no descriptor came");
        OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned())
    }
}

/// The next call that waits; `None` when the process and all its threads are gone.
fn next(listener: &OwnedFd) -> Option<Notification> {
    loop {
        let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which outlives the call.
        unsafe { libc::poll(&raw mut poll, 1, -1) };
        if poll.revents & libc::POLLIN == 0 {
            if poll.revents & (libc::POLLHUP | libc::POLLERR) != 0 {
                return None;
            }
            continue;
        }
        // SAFETY: the kernel fills the structure, which it wants zeroed; on an error (the thread died) it is not used.
        let (received, notification) = unsafe {
            let mut notification: Notification = zeroed();
            (libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut notification), notification)
        };
        if received == 0 {
            return Some(notification);
        }
    }
}

fn answer(listener: &OwnedFd, notification: &Notification, verdict: Verdict) {
    let mut reply = Reply { id: notification.id, value: 0, error: 0, flags: CONTINUE };
    match verdict {
        Verdict::Pass => {}
        Verdict::Fail(error) => (reply.error, reply.flags) = (-error, 0),
        Verdict::Half => {
            if let Some(written) = write_half(notification) {
                (reply.value, reply.flags) = (written as i64, 0);
            }
        }
        // SAFETY: the process has not been waited for by anybody while its call waits here.
        Verdict::Kill => unsafe {
            libc::kill(notification.pid as i32, libc::SIGKILL);
        },
    }
    // SAFETY: the reply outlives the call. It fails where the process is gone, which is as good.
    unsafe { libc::ioctl(listener.as_raw_fd(), SEND, &raw const reply) };
}

/// Appends the first half of what a write brings, in the place of the process; files are written at their end only.
fn write_half(notification: &Notification) -> Option<usize> {
    if i64::from(notification.number) != libc::SYS_write || notification.args[2] < 2 {
        return None;
    }
    let mut bytes = vec![0; notification.args[2] as usize / 2];
    let memory = File::open(format!("/proc/{}/mem", notification.pid)).ok()?;
    memory.read_exact_at(&mut bytes, notification.args[1]).ok()?;
    let link = format!("/proc/{}/fd/{}", notification.pid, notification.args[0]);
    OpenOptions::new().append(true).open(link).ok()?.write_all(&bytes).ok()?;
    Some(bytes.len())
}

fn call_of(notification: &Notification, dir: &Path) -> Option<Call> {
    let (_, name) = CALLS.iter().find(|(number, _)| *number == i64::from(notification.number))?;
    let args = &notification.args;
    let path = match *name {
        "write" | "pwrite" | "writev" | "fsync" | "fdatasync" | "ftruncate" => {
            std::fs::read_link(format!("/proc/{}/fd/{}", notification.pid, args[0])).ok()?
        }
        "rename" | "unlink" | "mkdir" | "link" => path_at(notification.pid, args[0])?,
        _ => path_at(notification.pid, args[1])?,
    };
    Some(Call { name, path: path.strip_prefix(dir).ok()?.to_owned() })
}

/// The text at an address of a process, up to its zero byte.
fn path_at(pid: u32, address: u64) -> Option<PathBuf> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = Vec::new();
    while bytes.len() < 4096 {
        // Not across the end of a page, behind which nothing may be.
        let at = address + bytes.len() as u64;
        let mut piece = vec![0; (4096 - at % 4096) as usize];
        memory.read_exact_at(&mut piece, at).ok()?;
        if let Some(end) = piece.iter().position(|&byte| byte == 0) {
            bytes.extend_from_slice(&piece[..end]);
            return Some(PathBuf::from(String::from_utf8(bytes).ok()?));
        }
        bytes.extend_from_slice(&piece);
    }
    None
}
