//! Which calls are stopped: those that change files or tell of it.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Calls that are stopped whatever their arguments are.
const ALWAYS: &[i64] = &[
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    libc::SYS_splice,
    libc::SYS_openat2,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_sync_file_range,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_flock,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_execve,
    libc::SYS_execveat,
];

/// The same calls in their older forms, which newer machines do not have.
#[cfg(target_arch = "x86_64")]
const ALWAYS_OLD: &[i64] = &[
    libc::SYS_creat,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_unlink,
    libc::SYS_rmdir,
    libc::SYS_mkdir,
    libc::SYS_mknod,
    libc::SYS_chmod,
    libc::SYS_fork,
    libc::SYS_vfork,
];
#[cfg(not(target_arch = "x86_64"))]
const ALWAYS_OLD: &[i64] = &[];

/// Calls that open a file, and which argument says what for.
#[cfg(target_arch = "x86_64")]
const OPENING: &[(i64, u8)] = &[(libc::SYS_openat, 2), (libc::SYS_open, 1)];
#[cfg(not(target_arch = "x86_64"))]
const OPENING: &[(i64, u8)] = &[(libc::SYS_openat, 2)];

/// The filter's program; what it stops waits for an answer.
pub(super) fn program() -> io::Result<Vec<libc::sock_filter>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALWAYS.iter().chain(ALWAYS_OLD).map(|number| (*number, vec![])).collect();
    for (number, argument) in OPENING {
        rules.insert(*number, opening_to_write(*argument)?);
    }
    let architecture = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Trace(0), architecture);
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(io::Error::other)?;
    // The crate has no word for the action that we want; so another one stands in its place until here.
    let notify = |code: u16, k: u32| {
        let is_return = u32::from(code) == libc::BPF_RET | libc::BPF_K;
        if is_return && k == libc::SECCOMP_RET_TRACE { libc::SECCOMP_RET_USER_NOTIF } else { k }
    };
    let instructions = program.into_iter();
    Ok(instructions
        .map(|it| libc::sock_filter { code: it.code, jt: it.jt, jf: it.jf, k: notify(it.code, it.k) })
        .collect())
}

/// Any of: for writing, for both, to be made, to be emptied.
fn opening_to_write(argument: u8) -> io::Result<Vec<SeccompRule>> {
    let masks = [
        (libc::O_ACCMODE, libc::O_WRONLY),
        (libc::O_ACCMODE, libc::O_RDWR),
        (libc::O_CREAT, libc::O_CREAT),
        (libc::O_TRUNC, libc::O_TRUNC),
    ];
    let rule = |(mask, value): (i32, i32)| {
        let bits = |flags: i32| u64::from(flags.unsigned_abs());
        let equal = SeccompCmpOp::MaskedEq(bits(mask));
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, equal, bits(value));
        SeccompRule::new(vec![condition.map_err(io::Error::other)?]).map_err(io::Error::other)
    };
    masks.into_iter().map(rule).collect()
}
