mod os;
mod sim;

use std::path::Path;

use milena_disk::{Disk, OsDisk, SimDisk, disk_conformance};

#[test]
fn both_disks_do_what_the_port_says() {
    let dir = tempfile::tempdir().unwrap();
    disk_conformance(&OsDisk, dir.path());
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        disk.create_dir_all(Path::new("/data")).unwrap();
        disk_conformance(&disk, Path::new("/data"));
    }
}
