//! The allocator of every binary. A payload's buffer that is mapped, faulted in and unmapped again costs more
//! than any copy or checksum of it; mimalloc keeps freed pages.

pub use mimalloc::MiMalloc;

/// Makes mimalloc the allocator of a binary. Stands once in each `main.rs`:
///
/// ```
/// store_shell::use_allocator!();
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! use_allocator {
    () => {
        #[global_allocator]
        static ALLOCATOR: $crate::alloc::MiMalloc = $crate::alloc::MiMalloc;
    };
}

/// Tells the kernel not to back memory with huge pages: the allocator's arenas are sparse, and a service at
/// rest would hold twenty times what it uses. Called by [`crate::telemetry::init`], which services call first;
/// a program that logs by itself calls it before it does anything large. Where the kernel refuses, memory is only larger.
pub fn disable_huge_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "transparent huge pages stay on");
    }
}
