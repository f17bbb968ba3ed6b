//! What a host process shuts itself in with, before it touches anything of its guest.
//!
//! * **Files** (Landlock): none, but the folders that the manifest asks for and the node gives,
//!   read-only where the manifest says so; nothing can be executed. With sockets granted also the few
//!   files by which names of machines are looked up.
//! * **Network** (seccomp, and Landlock's rules for TCP): no socket at all. With `sockets` or `http`
//!   granted the process may connect and send to any address over IPv4 and IPv6, and the host
//!   functions inside it let the guest reach those of the manifest; nothing listens.
//! * **System calls** (seccomp): none that starts a program or a process, signals or inspects
//!   another, changes what files are owned by or how they may be used, mounts, or reaches parts of the
//!   kernel that no host needs and that have had holes. A list of what is denied and not of what is
//!   allowed: what the standard library, the allocator and the engine call differs from version to
//!   version and machine to machine, and a call forgotten in such a list would end good guests.
//! * **Privileges**: none can be gained (`no_new_privs`).
//! * **Amounts**: no core dumps; a number of open files; of private memory what the limits of the
//!   guest allow and what the process itself needs. Address space is not bounded, since a WebAssembly
//!   memory reserves more than it uses; nor the number of processes, which counts all of a user and
//!   is 0 here by the system calls. A machine without memory ends this process before its node.
//!
//! What the kernel lacks is left out, and told.

use std::{collections::BTreeMap, fs, path::PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

use crate::{
    firmware::{abi::wasi, setting::Setting},
    package::manifest::Manifest,
};

/// What is asked of Landlock: that of Linux 6.12, which also keeps signals in.
const LANDLOCK: ABI = ABI::V6;

/// Files that may be open: a guest's, and some of the host's.
const FILES: u64 = 1_024;

/// Private memory of the process itself, in bytes: stacks, the allocator's arenas, messages on their
/// way.
const OWN_MEMORY: u64 = 1 << 30;

/// By what a process is chosen when the machine has no memory left, from 0 to 1000. Source: proc(5),
/// `oom_score_adj`.
const FIRST_TO_END: &str = "500";

/// Where names of machines are looked up. Source: resolver(3), nsswitch.conf(5), gai.conf(5).
const NAMES: &[&str] = &[
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
];

/// What a guest of its manifest needs of the machine.
#[derive(Debug, Default)]
pub(super) struct Needs {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    network: bool,
    /// Bytes of the guests; `None` when they are not bounded.
    memory: Option<u64>,
}

impl Needs {
    /// What is asked for and not given is not needed: the guest's start will tell.
    pub(super) fn of(manifest: &Manifest, setting: &Setting, instances: u64) -> Self {
        let granted = &manifest.capabilities;
        let network = !granted.sockets.is_empty() || !granted.http.is_empty();
        let memory = Some(setting.limits.memory_bytes.saturating_mul(instances));
        let mut needs = Self { network, memory, ..Self::default() };
        for folder in &granted.folders {
            let Ok(host) = wasi::given(folder, &setting.grants) else { continue };
            match folder.read_only {
                true => needs.read.push(host),
                false => needs.write.push(host),
            }
        }
        if network {
            needs.read.extend(NAMES.iter().map(PathBuf::from));
        }
        needs
    }
}

/// Shuts the calling thread in, and all that it starts from then on; what the kernel cannot do.
pub(super) fn enter(needs: &Needs) -> Vec<String> {
    let mut lacks = Vec::new();
    let mut tell = |lack: Option<String>| lacks.extend(lack);
    // Before files are out of reach.
    tell(amounts(needs));
    tell(files(needs).unwrap_or_else(|error| Some(format!("files are not denied: {error}"))));
    tell(calls(needs).err().map(|error| format!("system calls are not denied: {error}")));
    lacks
}

fn amounts(needs: &Needs) -> Option<String> {
    let bound = |resource, most: u64| {
        let maximum = getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
        setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) })
    };
    let memory = needs.memory.zip(private_memory());
    let bounded = bound(Resource::Core, 0).and_then(|()| bound(Resource::Nofile, FILES));
    let bounded = bounded.and_then(|()| match memory {
        Some((guests, own)) => {
            bound(Resource::Data, own.saturating_add(guests).saturating_add(OWN_MEMORY))
        }
        None => Ok(()),
    });
    // Not told: it is a matter of which process is ended first.
    let _ = fs::write("/proc/self/oom_score_adj", FIRST_TO_END);
    bounded.err().map(|error| format!("amounts are not bounded: {error}"))
}

/// What this process has of what [`Resource::Data`] bounds, in bytes. Source: proc(5), `statm`.
fn private_memory() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(5)?.parse().ok()?;
    Some(pages.saturating_mul(rustix::param::page_size() as u64))
}

fn files(needs: &Needs) -> Result<Option<String>, RulesetError> {
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = read
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::Refer
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSym
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir;
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?;
    if !needs.network {
        ruleset = ruleset.handle_access(AccessNet::from_all(LANDLOCK))?;
    }
    let status = ruleset
        .create()?
        .add_rules(path_beneath_rules(&needs.read, read))?
        .add_rules(path_beneath_rules(&needs.write, write))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => None,
        RulesetStatus::PartiallyEnforced => Some(
            "some uses of files and sockets are not denied: this kernel has an earlier Landlock than \
             Linux 6.12"
                .to_owned(),
        ),
        RulesetStatus::NotEnforced => Some(
            "files are not denied: this kernel has no Landlock (Linux 5.13), or it is not among the \
             `lsm=` that it was started with"
                .to_owned(),
        ),
    })
}

/// Why a filter of system calls cannot be had.
#[derive(Debug, thiserror::Error)]
enum FilterError {
    #[error("{0}")]
    Backend(#[from] seccompiler::BackendError),
    #[error("{0}")]
    Install(#[from] seccompiler::Error),
}

fn calls(needs: &Needs) -> Result<(), FilterError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = |rules: Rules, errno: i32| -> Result<BpfProgram, FilterError> {
        let action = SeccompAction::Errno(errno.cast_unsigned());
        Ok(SeccompFilter::new(rules, SeccompAction::Allow, action, arch)?.try_into()?)
    };
    // Its flags are behind a pointer, which a filter cannot follow. C libraries take the older call
    // when there is no such one.
    let newest = Rules::from([(libc::SYS_clone3, Vec::new())]);
    apply_filter(&filter(newest, libc::ENOSYS)?)?;
    apply_filter(&filter(denied(needs)?, libc::EPERM)?)?;
    Ok(())
}

/// Numbers of system calls, and when each is denied; always without a rule.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn denied(needs: &Needs) -> Result<Rules, FilterError> {
    let mut rules: Rules =
        ALWAYS.iter().chain(OF_X86).map(|number| (*number, Vec::new())).collect();
    let argument =
        |number, op, value: u64| SeccompCondition::new(number, SeccompCmpArgLen::Qword, op, value);
    let word = |number, op, value: i32| {
        SeccompCondition::new(number, SeccompCmpArgLen::Dword, op, u64::from(value.cast_unsigned()))
    };
    let all = |conditions| SeccompRule::new(conditions);
    // Threads are started by it, and processes.
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    let no_thread = argument(0, SeccompCmpOp::MaskedEq(thread), 0)?;
    rules.insert(libc::SYS_clone, vec![all(vec![no_thread])?]);
    // To itself, as `abort` does.
    let pid = std::process::id().cast_signed();
    rules.insert(libc::SYS_tgkill, vec![all(vec![word(0, SeccompCmpOp::Ne, pid)?])?]);
    // Of others.
    rules.insert(libc::SYS_prlimit64, vec![all(vec![word(0, SeccompCmpOp::Ne, 0)?])?]);
    let socket = match needs.network {
        false => Vec::new(),
        true => {
            let others = [libc::AF_INET, libc::AF_INET6];
            let others = others.map(|family| word(0, SeccompCmpOp::Ne, family));
            let others = others.into_iter().collect::<Result<Vec<_>, _>>()?;
            let kind = SeccompCmpOp::MaskedEq(0xf);
            vec![all(others)?, all(vec![word(1, kind, libc::SOCK_RAW)?])?]
        }
    };
    rules.insert(libc::SYS_socket, socket);
    if needs.write.is_empty() {
        rules.extend(TIMES.iter().map(|number| (*number, Vec::new())));
    }
    Ok(rules)
}

/// Those that no host needs.
const ALWAYS: &[i64] = &[
    // Programs and other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pidfd_getfd,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_setpriority,
    libc::SYS_setns,
    libc::SYS_unshare,
    // Others connect to it.
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // Files as such: Landlock is about what is in them.
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_mknodat,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    // Parts of the kernel.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_personality,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
];

/// Those that only x86 still has.
#[cfg(target_arch = "x86_64")]
const OF_X86: &[i64] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_mknod,
    libc::SYS_modify_ldt,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_uselib,
];
#[cfg(not(target_arch = "x86_64"))]
const OF_X86: &[i64] = &[];

/// Those that set the times of files, which Landlock lets pass: for guests with a folder to write.
#[cfg(target_arch = "x86_64")]
const TIMES: &[i64] =
    &[libc::SYS_utimensat, libc::SYS_utime, libc::SYS_utimes, libc::SYS_futimesat];
#[cfg(not(target_arch = "x86_64"))]
const TIMES: &[i64] = &[libc::SYS_utimensat];
