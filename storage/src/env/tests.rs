//! The simulator must be as cruel as it claims, and the real files as kind.

use super::sim::{Fault, FaultKind, Sim};
use super::*;

fn append(files: &dyn Files, path: &Path, pieces: &[(&[u8], bool)]) -> io::Result<()> {
    let mut file = files.create(path)?;
    for (bytes, sync) in pieces {
        file.append(bytes)?;
        if *sync {
            file.sync()?;
        }
    }
    Ok(())
}

#[test]
fn a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest() {
    let path = Path::new("/d/f");
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let sim = Sim::new(seed);
        append(&sim, path, &[(b"safe", true), (b"torn", false)]).unwrap();
        sim.sync_dir(Path::new("/d")).unwrap();
        sim.crash();
        let content = sim.read(path).unwrap();
        assert!(b"safetorn".starts_with(&content) && content.len() >= 4);
        lengths.insert(content.len());
    }
    assert_eq!(lengths.len(), 5, "every tear must occur");
}

#[test]
fn a_name_without_a_synced_directory_may_vanish() {
    let path = Path::new("/d/f");
    let survived = |seed| {
        let sim = Sim::new(seed);
        append(&sim, path, &[(b"x", true)]).unwrap();
        sim.crash();
        sim.read(path).is_ok()
    };
    let kept = (0..100).filter(|&seed| survived(seed)).count();
    assert!(0 < kept && kept < 100);
}

#[test]
fn an_atomic_write_leaves_the_old_content_or_the_new_at_every_call() {
    let path = Path::new("/d/f");
    for seed in 0..50 {
        for at in 1..8 {
            let sim = Sim::new(seed);
            atomic_write(&sim, path, b"old").unwrap();
            sim.set_fault(Some(Fault { at_call: sim.calls() + at, kind: FaultKind::PowerCut }));
            let done = atomic_write(&sim, path, b"new").is_ok();
            sim.crash();
            let content = sim.read(path).unwrap();
            assert!(content == b"new" || (content == b"old" && !done), "seed {seed} call {at}: {content:?}");
        }
    }
}

#[test]
fn a_failed_sync_loses_data_that_a_second_sync_claims() {
    let sim = Sim::new(1);
    let path = Path::new("/d/f");
    let mut file = sim.create(path).unwrap();
    sim.sync_dir(Path::new("/d")).unwrap();
    file.append(b"x").unwrap();
    sim.set_fault(Some(Fault { at_call: sim.calls() + 1, kind: FaultKind::Error }));
    assert!(file.sync().is_err());
    assert!(file.sync().is_ok());
    sim.crash();
    assert_eq!(sim.read(path).unwrap(), b"");
}

#[test]
fn a_full_disk_takes_a_part_and_says_so() {
    let sim = Sim::new(1);
    sim.set_capacity_bytes(3);
    let mut file = sim.create(Path::new("/d/f")).unwrap();
    assert_eq!(file.append(b"12345").unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(sim.read(Path::new("/d/f")).unwrap(), b"123");
    file.truncate(1).unwrap();
    file.append(b"45").unwrap();
    assert_eq!(sim.read(Path::new("/d/f")).unwrap(), b"145");
}

#[test]
fn real_files_do_what_the_trait_says() {
    let dir = tempfile::tempdir().unwrap();
    let files = Env::real().files;
    let deep = dir.path().join("a/b");
    files.create_dir_all(&deep).unwrap();
    let path = deep.join("f");
    atomic_write(&*files, &path, b"12345").unwrap();
    assert_eq!(files.read_range(&path, 1, 3).unwrap(), b"234");
    assert_eq!(files.read_range(&path, 4, 2).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(files.list(&deep).unwrap(), vec![path.clone()]);
    assert!(files.list(&dir.path().join("none")).unwrap().is_empty());
    let lock = files.lock(&deep).unwrap();
    assert_eq!(files.lock(&deep).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(lock);
    files.lock(&deep).unwrap();
    assert!(files.free_bytes(&deep).unwrap() > 0);
}
