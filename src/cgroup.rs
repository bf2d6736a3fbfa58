//! A control group for each run, where the system lets us make one: it holds every process of the run, whatever that
//! does, and the kernel kills all of it at once.
//!
//! Linux with cgroup version 2, below a group that was delegated to us (a systemd unit with `Delegate=yes`, a user
//! session). Never below the root group. Where there is none, the process tree and the marker serve.

use std::fs;
use std::path::{Path, PathBuf};

use crate::id::RunId;
use crate::store;

/// Makes the group of a run; `None` where that is not for us to do.
pub(crate) fn make(run: RunId) -> Option<PathBuf> {
    let own = own_group(
        &fs::read_to_string("/proc/self/cgroup").ok()?,
        &fs::read_to_string("/proc/self/mounts").ok()?,
    )?;
    let group = own.join(format!("gitspool-{run}"));
    // Not being allowed to is the common case, and no fault.
    store::make_one_dir(&group).ok()?;
    Some(group)
}

/// Puts the calling process into a group.
pub(crate) fn enter(group: &Path) -> Result<(), store::StoreError> {
    store::overwrite(&group.join("cgroup.procs"), b"0")
}

/// Kills all that is in a group.
pub(crate) fn kill(group: &Path) {
    // Gone already, or a kernel before 5.14: the process tree and the marker remain.
    let _ = store::overwrite(&group.join("cgroup.kill"), b"1");
}

/// Removes a group that is empty.
pub(crate) fn remove(group: &Path) {
    // What is left of it costs nothing, and goes with the group above it.
    let _ = store::remove_empty_dir(group);
}

/// The folder of our own group, from the texts of `/proc/self/cgroup` and `/proc/self/mounts`.
fn own_group(groups: &str, mounts: &str) -> Option<PathBuf> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    if own.is_empty() {
        return None;
    }
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mounted = fields.find(|fields| fields.get(2) == Some(&"cgroup2"))?;
    Some(Path::new(mounted[1]).join(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_group_is_found_and_the_root_group_is_never_ours() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let groups = "1:name=systemd:/\n0::/user.slice/app\n";
        assert_eq!(own_group(groups, mounts), Some("/sys/fs/cgroup/unified/user.slice/app".into()));
        assert_eq!(own_group("0::/\n", mounts), None);
        assert_eq!(own_group("1:name=systemd:/\n", mounts), None);
        assert_eq!(own_group(groups, "tmpfs /sys tmpfs rw 0 0\n"), None);
    }
}
