//! The command: all of it is in the library beside, which the man pages and
//! completions are made from, too.

use std::process::ExitCode;

/// musl's own asks the kernel for each few pages and gives them back at once.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    podlet::main()
}
