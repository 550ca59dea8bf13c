//! Emptying a directory, whatever is in it.
//!
//! A container decides how deep its directories are. So nothing goes down with
//! them: what is found two levels down and is a directory itself is moved up, and
//! comes later. There is neither a path nor a stack, and no way up that could
//! lead elsewhere.

use crate::arch::{nr, syscall};

const PERM: isize = 1;
const EXIST: isize = 17;
const ENOTDIR: isize = 20;
const EISDIR: isize = 21;
const ENOTEMPTY: isize = 39;
const REMOVEDIR: usize = 0x200;
/// Read-only, a directory and no link, close-on-exec.
const DIRECTORY: usize = 0o2600000;

/// Removes everything in the open directory `top`.
pub fn empty(top: usize) -> isize {
    let (mut names, mut from, mut is_left) = (0, 0, false);
    loop {
        let below = clear(top, top, &mut names, &mut from);
        if below < 0 || below == 0 && !is_left {
            return below;
        }
        // At the end of the listing; what was opened on the way is still there.
        if below == 0 {
            (from, is_left) = (0, false);
            continue;
        }
        is_left = true;
        let cleared = clear(below as usize, top, &mut names, &mut 0);
        // SAFETY: a number.
        unsafe { syscall(nr::CLOSE, [below as usize, 0, 0, 0, 0, 0]) };
        if cleared < 0 {
            return cleared;
        }
    }
}

/// Removes what the listing of `dir` has from an offset on. Of the top, a
/// directory that is not empty is opened: the result, and the offset is behind it.
/// Of others it is moved to the top.
fn clear(dir: usize, top: usize, names: &mut u32, from: &mut usize) -> isize {
    // struct linux_dirent64: inode, offset, length at 16, type, name at 19.
    let mut entries = [0u64; 256];
    let at = &raw mut entries as usize;
    // SAFETY: numbers.
    unsafe { syscall(nr::LSEEK, [dir, *from, 0, 0, 0, 0]) };
    loop {
        // SAFETY: as much as there is room for.
        let size = unsafe { syscall(nr::GETDENTS64, [dir, at, size_of_val(&entries), 0, 0, 0]) };
        if size <= 0 {
            return size;
        }
        let mut entry = at;
        while entry < at + size as usize {
            // SAFETY: the kernel wrote whole entries, each with its length and a
            // name that ends with a null byte.
            let (next, length, first, second, third) = unsafe {
                let name = (entry + 19) as *const u8;
                let next = ((entry + 8) as *const usize).read_unaligned();
                let length = ((entry + 16) as *const u16).read_unaligned();
                (next, length, *name, *name.add(1), if *name.add(1) == 0 { 0 } else { *name.add(2) })
            };
            let name = entry + 19;
            entry += usize::from(length);
            let is_dots = first == b'.' && (second == 0 || second == b'.' && third == 0);
            if is_dots {
                continue;
            }
            match remove(dir, name) {
                0 => {}
                full if full != -ENOTEMPTY && full != -EXIST => return full,
                _ if dir == top => {
                    *from = next;
                    // SAFETY: the name is still in the buffer.
                    return unsafe { syscall(nr::OPENAT, [dir, name, DIRECTORY, 0, 0, 0]) };
                }
                _ => {
                    let moved = move_up(dir, name, top, names);
                    if moved < 0 {
                        return moved;
                    }
                }
            }
        }
    }
}

/// Removes a file or an empty directory.
fn remove(dir: usize, name: usize) -> isize {
    // SAFETY: the caller gives a name that ends with a null byte.
    let unlink = |how| unsafe { syscall(nr::UNLINKAT, [dir, name, how, 0, 0, 0]) };
    match unlink(0) {
        // Of a directory POSIX has EPERM, as of a file that must not be removed.
        file if file == -EISDIR || file == -PERM => match unlink(REMOVEDIR) {
            kind if kind == -ENOTDIR => file,
            removed => removed,
        },
        file => file,
    }
}

/// Moves a directory to the top, under a number that is no name there.
fn move_up(dir: usize, name: usize, top: usize, names: &mut u32) -> isize {
    loop {
        let mut number = [0u8; 9];
        for (place, digit) in number[..8].iter_mut().enumerate() {
            *digit = b'a' + (*names >> (4 * place) & 15) as u8;
        }
        *names += 1;
        // SAFETY: two names that end with a null byte.
        let moved = unsafe { syscall(nr::RENAMEAT, [dir, name, top, number.as_ptr() as usize, 0, 0]) };
        if ![-EXIST, -ENOTEMPTY, -ENOTDIR, -EISDIR].contains(&moved) {
            return moved;
        }
    }
}
