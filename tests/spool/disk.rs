//! A disk of a test's own, an image on a loop device, whose power can be cut; and machines that live on it.
//!
//! A cut is real: `FS_IOC_SHUTDOWN` without flushing the log, then all processes of the machine die at once, and what
//! the image holds at that moment is all that the next boot gets.
//!
//! Without a journal a cut is milder: the kernel still writes folders and inodes that it has in memory when the file
//! system is unmounted, and only the contents of files that nobody synced are lost. The harder cut (`ext4-nojournal-hard`)
//! is no test of ours but of the kernel: there Linux 6.18 loses what was synced, since fsync does not write the block that
//! lists the extents of a file with more than four of them. A program of ten lines shows that without us.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::sandbox::{Sandbox, signal};

/// What a disk is formatted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ext4,
    Ext4NoJournal,
    /// The same, with nothing written after the cut; see above.
    Ext4NoJournalHard,
    Xfs,
}

impl FileSystem {
    /// Those that keep what they are told to keep.
    pub(crate) const ALL: [FileSystem; 3] = [FileSystem::Ext4, FileSystem::Ext4NoJournal, FileSystem::Xfs];

    pub(crate) fn called(name: &str) -> Option<FileSystem> {
        let all = FileSystem::ALL.into_iter().chain([FileSystem::Ext4NoJournalHard]);
        all.into_iter().find(|file_system| file_system.name() == name)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Ext4NoJournal => "ext4-nojournal",
            FileSystem::Ext4NoJournalHard => "ext4-nojournal-hard",
            FileSystem::Xfs => "xfs",
        }
    }

    fn megabytes(self) -> u64 {
        match self {
            FileSystem::Ext4 | FileSystem::Ext4NoJournal | FileSystem::Ext4NoJournalHard => 192,
            // Less is refused by mkfs.xfs.
            FileSystem::Xfs => 320,
        }
    }

    fn format(self, image: &Path) -> Result<String, String> {
        let mut command = match self {
            FileSystem::Ext4 => command("mkfs.ext4", &["-q", "-F"]),
            FileSystem::Ext4NoJournal | FileSystem::Ext4NoJournalHard => {
                command("mkfs.ext4", &["-q", "-F", "-O", "^has_journal"])
            }
            FileSystem::Xfs => command("mkfs.xfs", &["-q", "-f"]),
        };
        run(command.arg(image))
    }

    /// The older mount of the same file system may not be gone yet, which xfs would mind.
    fn options(self) -> &'static str {
        match self {
            FileSystem::Ext4 | FileSystem::Ext4NoJournal | FileSystem::Ext4NoJournalHard => "loop",
            FileSystem::Xfs => "loop,nouuid",
        }
    }
}

pub(crate) struct Disk {
    file_system: FileSystem,
    folder: tempfile::TempDir,
}

impl Disk {
    /// Makes a disk and mounts it.
    ///
    /// # Errors
    /// When this system does not let us: what it lacks, and how to get that.
    pub(crate) fn new(file_system: FileSystem) -> Result<Disk, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can mount a disk image".to_owned());
        }
        for (tool, package) in [
            ("xfs_io", "xfsprogs"),
            ("mkfs.xfs", "xfsprogs"),
            ("mkfs.ext4", "e2fsprogs"),
            ("unshare", "util-linux"),
        ] {
            run(&mut command(tool, &["-V"]))
                .map_err(|_| format!("no {tool}; apt-get install {package} brings it"))?;
        }
        run(&mut command("unshare", &["--mount", "--pid", "--fork", "--mount-proc", "true"]))?;
        // In memory: the cut is what is tested, and a disk that others use would only make it slow.
        let place = Some(Path::new("/dev/shm")).filter(|place| place.is_dir());
        let place = place.map_or_else(std::env::temp_dir, Path::to_owned);
        let folder = tempfile::Builder::new().prefix("gitspool-disk-").tempdir_in(place);
        let disk = Disk { file_system, folder: folder.map_err(|error| error.to_string())? };
        let image = fs::File::create(disk.image()).map_err(|error| error.to_string())?;
        image.set_len(file_system.megabytes() << 20).map_err(|error| error.to_string())?;
        file_system.format(&disk.image())?;
        fs::create_dir(disk.root()).map_err(|error| error.to_string())?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn mount(&self) -> Result<(), String> {
        let mut mount = command("mount", &["-o", self.file_system.options()]);
        run(mount.arg(self.image()).arg(self.root())).map(drop)
    }

    /// Makes all that is on it durable.
    pub(crate) fn sync(&self) {
        run(command("sync", &["-f"]).arg(self.root())).unwrap();
    }

    /// From now on nothing reaches it any more, and nobody can read it.
    pub(crate) fn cut(&self) {
        let device = |path: &Path| fs::metadata(path).map(|meta| std::os::unix::fs::MetadataExt::dev(&meta));
        // Another file system than ours must never be shut down.
        assert_ne!(device(&self.root()).unwrap(), device(self.folder.path()).unwrap(), "the disk is mounted");
        run(command("xfs_io", &["-x", "-c", "shutdown"]).arg(self.root())).unwrap();
    }

    /// Mounts what had reached it before the cut; all who used it must be gone.
    pub(crate) fn mount_again(&self) {
        let found = self.folder.path().join("found");
        run(command("cp", &["--sparse=always"]).arg(self.image()).arg(&found)).unwrap();
        self.unmount();
        if self.file_system == FileSystem::Ext4NoJournal {
            // Its device holds what unmounting has written.
            fs::remove_file(found).unwrap();
        } else {
            fs::rename(found, self.image()).unwrap();
        }
        if matches!(self.file_system, FileSystem::Ext4NoJournal | FileSystem::Ext4NoJournalHard) {
            let checked = command("e2fsck", &["-f", "-y"]).arg(self.image()).output().unwrap();
            // 1: something was wrong and is not any more. That is what it is for without a journal.
            assert!(checked.status.code().is_some_and(|code| code <= 1), "e2fsck: {checked:?}");
        }
        self.mount().unwrap();
    }

    fn unmount(&self) {
        let unmounted = patiently(|| run(command("umount", &[]).arg(self.root())).is_ok());
        assert!(unmounted, "{} is in use", self.root().display());
        // The folders of a machine that has just ended may keep the file system for a moment.
        let used = || run(command("losetup", &["-j"]).arg(self.image()));
        let is_free = patiently(|| used().is_ok_and(|used| used.is_empty()));
        assert!(is_free, "{} is still mounted somewhere", self.image().display());
    }
}

fn patiently(mut holds: impl FnMut() -> bool) -> bool {
    (0..3000).any(|_| {
        holds() || {
            thread::sleep(Duration::from_millis(10));
            false
        }
    })
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Of a test that fails too nothing may stay mounted.
        let _ = run(command("umount", &["--lazy"]).arg(self.root()));
    }
}

/// A machine: processes with numbers of their own and one boot id, all of which end together.
pub(crate) struct Machine {
    child: Child,
}

impl Machine {
    /// Boots a machine that carries out a script of sh.
    pub(crate) fn boot(sandbox: &Sandbox, boot_id: &Path, script: &str, arguments: &[&str]) -> Machine {
        fs::write(boot_id, format!("{}\n", uuid::Uuid::new_v4())).unwrap();
        let own = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let script =
            format!("mount --bind \"$1\" /proc/sys/kernel/random/boot_id || exit 99\nshift\n{script}");
        let mut command = sandbox.command("unshare");
        command.args(own).args(["/bin/sh", "-c", &script, "machine"]).arg(boot_id).args(arguments);
        let said =
            fs::File::options().create(true).append(true).open(boot_id.with_extension("said")).unwrap();
        let child = command.stdin(Stdio::piped()).stderr(said.try_clone().unwrap()).stdout(said);
        Machine { child: child.spawn().unwrap() }
    }

    /// Whether it has ended, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Ends all its processes; none is left on return.
    pub(crate) fn kill(&mut self) {
        let children = format!("/proc/{0}/task/{0}/children", self.child.id());
        let first = fs::read_to_string(children).unwrap_or_default();
        // The first process takes all others of its machine with it, and is waited for by unshare.
        if let Ok(first) = first.trim().parse() {
            signal(first, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))
}
