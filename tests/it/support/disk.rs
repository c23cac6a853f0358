//! A state folder on a small disk of its own, in memory, which outlives the daemons that work on it. Only they, and who goes there on
//! purpose, see it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A disk; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
    /// Sits among the mounts that have it.
    holder: Child,
}

impl Disk {
    /// Puts a disk at a folder that is there, with options of the file system, `size=8m`.
    pub(crate) fn at(folder: &Path, options: &str) -> Self {
        let mounted =
            "mount -t tmpfs -o \"$0\" tmpfs \"$1\" && echo there && exec setpriv --pdeathsig KILL sleep infinity";
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "sh", "-c", mounted, options]).arg(folder).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut holder = holder.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "there\n", "a file system is mounted at {}", folder.display());
        Self { folder: folder.to_owned(), holder }
    }

    /// A command that sees the disk.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.holder.id().to_string(), program]);
        command
    }

    /// Changes its options.
    pub(crate) fn remount(&self, options: &str) {
        self.run(self.command("mount").args(["-o", &format!("remount,{options}")]).arg(&self.folder));
    }

    /// Leaves no room on it.
    pub(crate) fn fill(&self) {
        // What is wanted is that it fails.
        let filler = format!("of={}", self.folder.join(FILLER).display());
        let filled = self.command("dd").args(["if=/dev/zero", &filler, "bs=64k", "status=none"]).output().unwrap();
        let said = String::from_utf8_lossy(&filled.stderr);
        assert!(said.contains("No space left on device"), "{said}");
    }

    /// Makes the room again that was there.
    pub(crate) fn make_room(&self) {
        self.run(self.command("rm").arg(self.folder.join(FILLER)));
    }

    fn run(&self, command: &mut Command) {
        let status = command.status().unwrap();
        assert!(status.success(), "{command:?}: {status}");
    }
}

/// The file that fills it.
const FILLER: &str = "filler";

impl Drop for Disk {
    fn drop(&mut self) {
        self.holder.kill().unwrap();
        self.holder.wait().unwrap();
    }
}
