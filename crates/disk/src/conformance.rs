//! What every implementation of the port must do, as one suite that panics with a sentence where it does not.

use std::io::ErrorKind;
use std::path::Path;

use crate::{Advice, Disk, DiskError, File, OpenMode, read_all, replace};

/// Runs the suite in `root`, an existing empty directory; leaves files in it.
pub fn disk_conformance(disk: &dyn Disk, root: &Path) {
    opening(disk, root);
    reading_and_writing(disk, root);
    lengths(disk, root);
    names(disk, root);
    directories(disk, root);
    removal_of_trees(disk, root);
    handles_outlive_names(disk, root);
    looking(disk, root);
    locking(disk, root);
    replacing(disk, root);
}

fn expect<T>(result: std::io::Result<T>, kind: ErrorKind, what: &str) {
    let error = match result {
        Ok(_) => panic!("{what} must fail with {kind:?}"),
        Err(error) => error,
    };
    assert_eq!(error.kind(), kind, "{what}: {error}");
    assert!(
        DiskError::of(&error).is_some(),
        "{what}: the error names no path"
    );
}

fn all(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn opening(disk: &dyn Disk, root: &Path) {
    let path = root.join("opening");
    expect(
        disk.open(&path, OpenMode::Read),
        ErrorKind::NotFound,
        "Read",
    );
    expect(
        disk.open(&path, OpenMode::ReadWrite),
        ErrorKind::NotFound,
        "ReadWrite",
    );
    let file = disk.open(&path, OpenMode::CreateNew).unwrap();
    file.write_all_at(&[b"kept"], 0).unwrap();
    expect(
        disk.open(&path, OpenMode::CreateNew),
        ErrorKind::AlreadyExists,
        "CreateNew",
    );
    for mode in [OpenMode::Create, OpenMode::ReadWrite, OpenMode::Read] {
        let again = disk.open(&path, mode).unwrap();
        assert_eq!(all(&*again), b"kept", "{mode:?} keeps what is there");
    }
    let read_only = disk.open(&path, OpenMode::Read).unwrap();
    assert!(
        read_only.write_all_at(&[b"x"], 0).is_err(),
        "Read does not write"
    );
    assert!(read_only.set_len(0).is_err(), "Read does not cut");
    let below_nothing = root.join("absent/opening");
    expect(
        disk.open(&below_nothing, OpenMode::Create),
        ErrorKind::NotFound,
        "a missing parent",
    );
    expect(
        disk.open(&path.join("x"), OpenMode::Create),
        ErrorKind::NotADirectory,
        "a file as parent",
    );
}

fn reading_and_writing(disk: &dyn Disk, root: &Path) {
    let file = disk.open(&root.join("bytes"), OpenMode::Create).unwrap();
    assert!(file.is_empty().unwrap());
    file.write_all_at(&[], 0).unwrap();
    file.write_all_at(&[b"", b"he", b"", b"llo"], 0).unwrap();
    assert_eq!(all(&*file), b"hello");
    let mut buf = [b'?'; 8];
    assert_eq!(
        file.read_at(&mut buf, 2).unwrap(),
        3,
        "a read stops at the end"
    );
    assert_eq!(&buf[..3], b"llo");
    assert_eq!(file.read_at(&mut buf, 5).unwrap(), 0);
    assert_eq!(
        file.read_at(&mut buf, 1 << 40).unwrap(),
        0,
        "far past the end"
    );
    expect(
        file.read_exact_at(&mut buf, 0),
        ErrorKind::UnexpectedEof,
        "a read past the end",
    );
    file.write_all_at(&[&[7; 5000], &[8; 5000]], 10_000)
        .unwrap();
    assert_eq!(file.len().unwrap(), 20_000);
    let bytes = all(&*file);
    assert!(bytes[5..10_000].iter().all(|byte| *byte == 0), "a gap");
    assert_eq!(
        (bytes[10_000], bytes[14_999], bytes[15_000], bytes[19_999]),
        (7, 7, 8, 8)
    );
    for advice in [Advice::Sequential, Advice::WillNeed, Advice::DontNeed] {
        file.advise(0, 0, advice);
    }
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    assert_eq!(all(&*file), bytes, "syncing and advising change nothing");
}

fn lengths(disk: &dyn Disk, root: &Path) {
    let file = disk.open(&root.join("lengths"), OpenMode::Create).unwrap();
    file.write_all_at(&[&[9; 9000]], 0).unwrap();
    file.set_len(5000).unwrap();
    assert_eq!(all(&*file), [9; 5000]);
    file.set_len(9000).unwrap();
    let bytes = all(&*file);
    assert!(
        bytes[5000..].iter().all(|byte| *byte == 0),
        "what was cut off comes back as zeros"
    );
    file.set_len(1 << 30).unwrap();
    assert_eq!(file.len().unwrap(), 1 << 30, "long and sparse");
    file.set_len(0).unwrap();
    assert!(file.is_empty().unwrap());
}

fn names(disk: &dyn Disk, root: &Path) {
    let (from, to) = (root.join("from"), root.join("to"));
    let put = |path, bytes: &[u8]| {
        let file = disk.open(path, OpenMode::Create).unwrap();
        file.write_all_at(&[bytes], 0).unwrap();
    };
    put(&from, b"new");
    put(&to, b"old!");
    disk.rename(&from, &to).unwrap();
    assert_eq!(read_all(disk, &to, 10).unwrap().unwrap(), b"new");
    assert!(disk.stat(&from).unwrap().is_none());
    expect(
        disk.rename(&from, &to),
        ErrorKind::NotFound,
        "renaming nothing",
    );
    expect(
        disk.remove_file(&from),
        ErrorKind::NotFound,
        "removing nothing",
    );
    disk.remove_file(&to).unwrap();
    assert!(disk.stat(&to).unwrap().is_none());
    disk.sync_dir(root).unwrap();
    expect(
        disk.sync_dir(&root.join("absent")),
        ErrorKind::NotFound,
        "syncing no directory",
    );
}

fn directories(disk: &dyn Disk, root: &Path) {
    let deep = root.join("tree/a/b");
    disk.create_dir_all(&deep).unwrap();
    disk.create_dir_all(&deep).unwrap();
    drop(disk.open(&deep.join("z"), OpenMode::Create).unwrap());
    let file = disk.open(&deep.join("c"), OpenMode::Create).unwrap();
    file.write_all_at(&[b"12345"], 0).unwrap();
    let listed = disk.list(&deep).unwrap();
    let brief: Vec<_> = listed
        .iter()
        .map(|e| (e.name.as_str(), e.is_dir, e.len))
        .collect();
    assert_eq!(brief, [("c", false, 5), ("z", false, 0)], "sorted by name");
    let top = disk.list(&root.join("tree")).unwrap();
    assert_eq!(
        (top[0].name.as_str(), top[0].is_dir, top[0].len),
        ("a", true, 0)
    );
    expect(
        disk.list(&root.join("absent")),
        ErrorKind::NotFound,
        "listing nothing",
    );
    let moved = root.join("moved");
    disk.rename(&root.join("tree/a"), &moved).unwrap();
    assert_eq!(
        disk.list(&moved.join("b")).unwrap(),
        listed,
        "a directory moves whole"
    );
    disk.create_dir_all(&root.join("full/x")).unwrap();
    expect(
        disk.rename(&moved, &root.join("full")),
        ErrorKind::DirectoryNotEmpty,
        "a full target",
    );
    disk.create_dir_all(&root.join("empty")).unwrap();
    disk.rename(&moved, &root.join("empty")).unwrap();
}

fn removal_of_trees(disk: &dyn Disk, root: &Path) {
    let dir = root.join("doomed");
    disk.create_dir_all(&dir.join("x/y")).unwrap();
    drop(disk.open(&dir.join("x/f"), OpenMode::Create).unwrap());
    disk.remove_dir_all(&dir).unwrap();
    assert!(disk.stat(&dir).unwrap().is_none());
    expect(
        disk.remove_dir_all(&dir),
        ErrorKind::NotFound,
        "removing it twice",
    );
}

fn handles_outlive_names(disk: &dyn Disk, root: &Path) {
    let path = root.join("outlived");
    let file = disk.open(&path, OpenMode::Create).unwrap();
    file.write_all_at(&[b"before"], 0).unwrap();
    let reader = disk.open(&path, OpenMode::Read).unwrap();
    let renamed = root.join("outlived.deleted");
    disk.rename(&path, &renamed).unwrap();
    file.write_all_at(&[b"BE"], 0).unwrap();
    disk.remove_file(&renamed).unwrap();
    assert_eq!(all(&*reader), b"BEfore");
    let other = disk.open(&path, OpenMode::CreateNew).unwrap();
    other.write_all_at(&[b"other"], 0).unwrap();
    assert_eq!(
        all(&*reader),
        b"BEfore",
        "a new file of the name is another file"
    );
}

fn looking(disk: &dyn Disk, root: &Path) {
    let path = root.join("looked-at");
    let file = disk.open(&path, OpenMode::Create).unwrap();
    file.write_all_at(&[b"abc"], 0).unwrap();
    let stat = disk.stat(&path).unwrap().unwrap();
    assert_eq!((stat.is_dir, stat.len), (false, 3));
    let stat = disk.stat(root).unwrap().unwrap();
    assert_eq!((stat.is_dir, stat.len), (true, 0));
    assert!(disk.stat(&root.join("absent/x")).unwrap().is_none());
    let space = disk.space(root).unwrap();
    assert!(space.free <= space.total && space.total > 0);
    disk.set_read_only(&path).unwrap();
    file.write_all_at(&[b"x"], 0).unwrap();
    assert_eq!(
        read_all(disk, &path, 3).unwrap().unwrap(),
        b"xbc",
        "an open handle still writes"
    );
}

fn locking(disk: &dyn Disk, root: &Path) {
    let path = root.join(".lock");
    let first = disk.lock(&path).unwrap();
    expect(disk.lock(&path), ErrorKind::WouldBlock, "a second lock");
    expect(
        disk.lock(&path),
        ErrorKind::WouldBlock,
        "a third: the refusal did not release the first",
    );
    let other = disk.lock(&root.join(".lock2")).unwrap();
    drop(first);
    drop(disk.lock(&path).unwrap());
    drop(other);
}

fn replacing(disk: &dyn Disk, root: &Path) {
    let path = root.join("replaced");
    assert_eq!(read_all(disk, &path, 10).unwrap(), None);
    for bytes in [&b"a longer text"[..], b"short", b""] {
        replace(disk, &path, bytes).unwrap();
        assert_eq!(read_all(disk, &path, 100).unwrap().unwrap(), bytes);
    }
    let left = disk.list(root).unwrap();
    assert!(
        !left.iter().any(|entry| entry.name.ends_with(".tmp")),
        "no temporary file is left"
    );
    replace(disk, &path, b"12345").unwrap();
    expect(
        read_all(disk, &path, 4),
        ErrorKind::InvalidData,
        "a file longer than expected",
    );
}
