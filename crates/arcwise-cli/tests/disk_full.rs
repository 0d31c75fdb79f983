//! A disk that is really full: a small file system in memory, which takes root to mount.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Home, noise, program, until};

/// A file system of a few mebibytes, unmounted with this.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf, mebibytes: u32) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let size = format!("size={mebibytes}m");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&at).output();
        mount.is_ok_and(|done| done.status.success()).then_some(Self(at))
    }

    fn grow(&self, mebibytes: u32) {
        let size = format!("remount,size={mebibytes}m");
        let mount = Command::new("mount").args(["-o", &size]).arg(&self.0).status();
        assert!(mount.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_node_with_a_full_disk_goes_on_when_there_is_room() {
    let (alice, bob) = (Home::new(), Home::empty());
    let Some(disk) = Disk::mount(bob.path("disk"), 24) else {
        eprintln!("SKIPPED: no file system can be mounted here");
        return;
    };
    let data = disk.0.join("node");
    let bobs =
        |args: &[&str]| -> common::Done { program(&data).args(args).output().unwrap().into() };
    let source = alice.path("source");
    fs::write(&source, noise(1, 40 << 20)).unwrap();
    let _alices = alice.serve();
    alice.run(["space", "create", "notes"]).ok();
    let address = alice.put(&source);
    let ticket = alice.run(["ticket"]).ok();

    bobs(&["init"]).ok();
    let listen = ["--listen", "127.0.0.1:0", "--min-free", "2000000"];
    let mut daemon = bob.serve_on(&data, listen);
    bobs(&["join", ticket.trim_end()]).ok();
    let full = daemon.event("full");
    assert!(full["reason"].as_str().unwrap().contains("the disk is full"), "{full}");
    let (told, _) = bobs(&["sync"]).exit(8);
    assert!(told.contains("the disk is full"), "{told}");
    assert!(bobs(&["status"]).ok().contains("TAKES NOTHING NEW: the disk is full"));
    let held = daemon.aspects();

    // Killed, it comes back with what it had; with more room it takes the rest by itself.
    daemon.kill();
    let mut daemon = bob.serve_on(&data, listen);
    assert!(daemon.aspects() >= held);
    daemon.event("full");
    disk.grow(400);
    daemon.event("room");
    until("all is there", || bobs(&["sync", "-q"]).code == Some(0));
    let out = bob.path("out");
    bobs(&["get", &address, out.to_str().unwrap()]).ok();
    assert!(same(&source, &out));
}

fn same(one: &Path, other: &Path) -> bool {
    fs::read(one).unwrap() == fs::read(other).unwrap()
}
