//! Libraries that a process has in `LD_PRELOAD`: they stand between it and what it asks of the system.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// What such a process has in its environment.
pub(crate) type Environment = Vec<(&'static str, String)>;

/// Compiles one of the sources beside this file, into a folder.
fn library(source: &str, folder: &Path) -> (&'static str, String) {
    let library = folder.join(source).with_extension("so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support").join(source);
    let mut compiler = Command::new("c++");
    compiler.args(["-shared", "-fPIC", "-fno-threadsafe-statics", "-o"]).arg(&library).arg(source).arg("-ldl");
    let status = compiler.status().unwrap();
    assert!(status.success(), "{compiler:?}: {status}");
    ("LD_PRELOAD", library.display().to_string())
}

/// What is written below a folder goes to a slow disk; the file says that it was slow.
pub(crate) fn slow_disk(folder: &Path) -> (Environment, PathBuf) {
    let environment =
        vec![library("slow_disk.cc", folder.parent().unwrap()), ("SLOW_DISK", folder.display().to_string())];
    (environment, PathBuf::from(format!("{}.slowed", folder.display())))
}

/// The wall clock goes on from a time of the past; the library is put into a folder.
pub(crate) fn clock_from(then: SystemTime, folder: &Path) -> Environment {
    let behind = then.elapsed().unwrap().as_secs();
    vec![library("clock_behind.cc", folder), ("CLOCK_BEHIND_SECONDS", behind.to_string())]
}
