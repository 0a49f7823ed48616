//! What only the real disk can show.

use std::io::ErrorKind;

use milena_disk::{
    Advice, Disk, DiskError, FileSlice, Generation, Op, OpenMode, OsDisk, read_all, replace,
};

#[test]
fn a_lock_is_refused_to_a_second_taker_of_this_process_until_it_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".lock");
    let first = OsDisk.lock(&path).unwrap();
    let refused = OsDisk.lock(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    drop(first);
    drop(OsDisk.lock(&path).unwrap());
}

#[test]
fn an_error_names_operation_and_path() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("absent");
    let error = OsDisk.open(&path, OpenMode::Read).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(DiskError::of(&error).unwrap().op, Op::Open);
    assert!(error.to_string().starts_with("cannot open /"), "{error}");
}

#[test]
fn replacing_leaves_the_new_bytes_and_no_temporary_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("meta.properties");
    replace(&OsDisk, &path, b"long ago").unwrap();
    replace(&OsDisk, &path, b"now").unwrap();
    assert_eq!(read_all(&OsDisk, &path, 100).unwrap().unwrap(), b"now");
    assert_eq!(OsDisk.list(dir.path()).unwrap().len(), 1);
    let too_long = read_all(&OsDisk, &path, 2).unwrap_err();
    assert_eq!(too_long.kind(), ErrorKind::InvalidData);
}

#[test]
fn more_parts_than_one_system_call_takes_are_all_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = OsDisk
        .open(&dir.path().join("f"), OpenMode::CreateNew)
        .unwrap();
    let parts: Vec<Vec<u8>> = (0..5000_usize).map(|i| vec![i as u8; i % 7]).collect();
    let slices: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
    file.write_all_at(&slices, 3).unwrap();
    let mut back = vec![0; parts.concat().len()];
    file.read_exact_at(&mut back, 3).unwrap();
    assert_eq!(back, parts.concat());
}

const LOCK_TO_TRY: &str = "MILENA_TEST_LOCK_TO_TRY";

/// Not a test of its own: what the other process of the next test runs.
#[test]
#[ignore = "run by a_lock_is_refused_to_another_process"]
fn the_other_process() {
    let path = std::env::var(LOCK_TO_TRY).unwrap();
    let refused = OsDisk.lock(std::path::Path::new(&path)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_lock_is_refused_to_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".lock");
    let other_is_refused = || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "os::the_other_process", "--ignored"])
            .env(LOCK_TO_TRY, &path)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap()
            .success()
    };
    let lock = OsDisk.lock(&path).unwrap();
    assert!(other_is_refused());
    drop(lock);
    assert!(!other_is_refused(), "dropping it frees it");
}

/// Where the file system keeps nothing but the cache (tmpfs), bytes are never cold, and only the first half holds.
#[test]
fn bytes_that_left_the_page_cache_are_told_and_brought_back() {
    const BYTES: usize = 3 << 20;
    let dir = tempfile::tempdir().unwrap();
    let file = OsDisk
        .open(&dir.path().join("cold"), OpenMode::CreateNew)
        .unwrap();
    file.write_all_at(&[&vec![7; BYTES]], 0).unwrap();
    let generation = Generation::new();
    let slice = FileSlice::new(file.clone(), 100, BYTES as u32 - 100, &generation, 0);
    assert!(slice.is_cached(), "just written");
    file.sync_all().unwrap();
    file.advise(0, 0, Advice::DontNeed);
    let left = !slice.is_cached();
    slice.bring_in();
    assert!(slice.is_cached(), "brought in");
    assert_eq!(slice.head(5).read().unwrap(), [7; 5]);
    println!("left the cache: {left}");
}
