//! Which pages of a memory were written to, as the kernel notes it.
//!
//! The memory is registered with `userfaultfd` for asynchronous write protection: the first write
//! to a page lifts its protection, without anybody being asked, and `PAGEMAP_SCAN` says which pages
//! have none and protects them again, in one go. A look at 64 MiB takes a tenth of a millisecond,
//! where comparing them takes ten.
//!
//! All that it needs of the system is given to every process since Linux 6.7, but a container
//! may refuse it; then pages are compared ([`super::pages`]).
//!
//! Source: Linux, `Documentation/admin-guide/mm/pagemap.rst` and `userfaultfd.rst`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};

use linux_raw_sys::general::{
    _UFFDIO_WRITEPROTECT, PAGE_IS_WRITTEN, PM_SCAN_CHECK_WPASYNC, PM_SCAN_WP_MATCHING, UFFD_API,
    UFFD_FEATURE_WP_ASYNC, UFFD_FEATURE_WP_UNPOPULATED, UFFD_USER_MODE_ONLY, page_region,
    pm_scan_arg, uffdio_api, uffdio_range, uffdio_register, uffdio_writeprotect,
};
use linux_raw_sys::ioctl::{UFFDIO_API, UFFDIO_REGISTER, UFFDIO_WRITEPROTECT};
use rustix::mm::UserfaultfdFlags;

use super::pages::PAGE;

/// `_IOWR('f', 16, struct pm_scan_arg)`: no crate has it.
const PAGEMAP_SCAN: u32 = rustix::ioctl::opcode::read_write::<pm_scan_arg>(b'f', 16);

/// Runs of pages that one question to the kernel tells at most.
const RUNS: usize = 256;

/// Watches one memory. When it is dropped the memory is as any other again.
#[derive(Debug)]
pub(super) struct Written {
    faults: OwnedFd,
    map: File,
    /// The address of its first byte.
    base: usize,
    /// How much of it is watched, in bytes.
    length: usize,
}

impl Written {
    /// Watches `memory` from now on, which begins with a page.
    ///
    /// # Errors
    /// When the kernel does not offer that, or refuses it.
    pub(super) fn watch(memory: &[u8]) -> io::Result<Self> {
        let only_user = UserfaultfdFlags::from_bits_retain(UFFD_USER_MODE_ONLY);
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK | only_user;
        #[expect(unsafe_code, reason = "the descriptor changes how memory behaves")]
        // SAFETY: it stays in here, where it is used for nothing but to note writes.
        let faults = unsafe { rustix::mm::userfaultfd(flags) }?;
        let features = u64::from(UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED);
        let mut api = uffdio_api { api: u64::from(UFFD_API), features, ioctls: 0 };
        control(&faults, UFFDIO_API, &mut api)?;
        let map = File::open("/proc/self/pagemap")?;
        let mut written = Self { faults, map, base: memory.as_ptr().addr(), length: 0 };
        written.watch_all(memory)?;
        Ok(written)
    }

    /// Whether it watches that memory: it may have been moved when it grew.
    pub(super) fn is_of(&self, memory: &[u8]) -> bool {
        self.base == memory.as_ptr().addr()
    }

    /// Watches what has been added to the memory since, too.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub(super) fn watch_all(&mut self, memory: &[u8]) -> io::Result<()> {
        let length = memory.len().next_multiple_of(PAGE);
        if length <= self.length {
            return Ok(());
        }
        let (start, len) = ((self.base + self.length) as u64, (length - self.length) as u64);
        let range = || uffdio_range { start, len };
        // UFFDIO_REGISTER_MODE_WP
        let mut register = uffdio_register { range: range(), mode: 1 << 1, ioctls: 0 };
        control(&self.faults, UFFDIO_REGISTER, &mut register)?;
        if register.ioctls & 1 << _UFFDIO_WRITEPROTECT == 0 {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // UFFDIO_WRITEPROTECT_MODE_WP
        let mut protect = uffdio_writeprotect { range: range(), mode: 1 << 0 };
        control(&self.faults, UFFDIO_WRITEPROTECT, &mut protect)?;
        self.length = length;
        Ok(())
    }

    /// The pages of `range`, in bytes of the memory from page to page, that were written to since they were
    /// watched or taken last.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(super) fn take(&mut self, range: Range<usize>) -> io::Result<Vec<Range<usize>>> {
        let end = (self.base + range.end.next_multiple_of(PAGE)) as u64;
        let (mut from, mut taken) = ((self.base + range.start) as u64, Vec::new());
        let mut runs = [page_region { start: 0, end: 0, categories: 0 }; RUNS];
        while from < end {
            let mut scan = pm_scan_arg {
                size: size_of::<pm_scan_arg>() as u64,
                flags: u64::from(PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC),
                start: from,
                end,
                walk_end: 0,
                vec: runs.as_mut_ptr().expose_provenance() as u64,
                vec_len: RUNS as u64,
                max_pages: 0,
                category_inverted: 0,
                category_mask: u64::from(PAGE_IS_WRITTEN),
                category_anyof_mask: 0,
                return_mask: u64::from(PAGE_IS_WRITTEN),
            };
            let count = control(&self.map, PAGEMAP_SCAN, &mut scan)?;
            if scan.walk_end <= from {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            from = scan.walk_end;
            let offset = |address: u64| usize::try_from(address).unwrap_or_default() - self.base;
            let told = runs.iter().take(count).map(|run| offset(run.start)..offset(run.end));
            taken.extend(told.map(|run| run.start..run.end.min(range.end)));
        }
        Ok(taken)
    }
}

/// Asks the kernel; what it returns.
fn control<T>(file: &impl AsRawFd, request: u32, argument: &mut T) -> io::Result<usize> {
    let (file, argument) = (file.as_raw_fd(), std::ptr::from_mut(argument));
    #[expect(unsafe_code, reason = "no crate has these requests")]
    // SAFETY: each request of this module is made with the structure that the kernel's own headers
    // have for it, which lives until the call returns, as does what it points to.
    let returned = unsafe { libc::ioctl(file, request.into(), argument) };
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}
