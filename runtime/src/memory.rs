//! How a process of ours has its memory from the system.

/// Has this process, and those that it starts, do without transparent huge pages. To be called first of
/// all.
///
/// Whoever first touches a huge page waits until the kernel has cleared 2 MiB, which took 5 ms where it
/// was measured: a virtual machine whose own memory comes page by page. On a thread that serves guests
/// all of them wait, and the allocator asks for such pages wherever it can. Where the system gives them to
/// everybody, the memory of a small guest takes 2 MiB, too.
///
/// The library does not do it by itself: a program that has actors in it decides for all that is in it.
pub fn without_huge_pages() {
    // A kernel that knows no such pages gives none.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_that_has_said_so_is_given_no_huge_pages() {
        super::without_huge_pages();
        // That of this thread is that of its process.
        assert_eq!(rustix::thread::transparent_huge_pages_are_disabled(), Ok(true));
    }
}
