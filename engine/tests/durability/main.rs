//! Nothing acknowledged is lost: a real server, killed, on disks that tear, flip, fill up, fail and lose power.
//!
//! The short sets run with all tests; the long ones by environment variables:
//!
//! ```text
//! PILASTER_KILLS=1000      SIGKILLs under remote write and scraping, some during recovery
//! PILASTER_POWER_CUTS=200  power cuts of an ext4 file system (needs root and a loop device)
//! PILASTER_SYSCALLS=all    a kill and each error at every file-system call of a scripted life
//! PILASTER_TEARS=1000      cuts and additions at the end of the log; PILASTER_FLIPS=1000 for flipped bits
//! PILASTER_UNDER_TEST=path another build of the server than that of this test
//! ```

mod damage;
mod disk;
mod disk_full;
mod kill;
mod ledger;
mod life;
mod load;
mod power_cut;
mod read_only;
mod server;
mod syscalls;
mod target;
mod torn;
mod trap;
