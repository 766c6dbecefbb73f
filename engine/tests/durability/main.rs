//! Nothing acknowledged is lost: a real server, killed, and on a full disk.

mod disk_full;
mod kill;
mod server;
