//! The program's own pages in memory.

/// Takes the pages of code and constants that were touched so far out of the process: starting touches twice as
/// many as serving does. They are in the system's cache, from which they come back when somebody needs them.
pub fn forget_start() {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    // SAFETY: the callback fits, and needs no data.
    unsafe {
        libc::dl_iterate_phdr(Some(forget_segments), std::ptr::null_mut());
    }
}

/// Of the first object, which is the program, and of no other.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
unsafe extern "C" fn forget_segments(info: *mut libc::dl_phdr_info, _: usize, _: *mut libc::c_void) -> libc::c_int {
    // SAFETY: takes a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(4096) as u64;
    // SAFETY: the caller's promise, of the structure and of the list in it.
    let (base, headers) =
        unsafe { ((*info).dlpi_addr, std::slice::from_raw_parts((*info).dlpi_phdr, usize::from((*info).dlpi_phnum))) };
    // What may be written to may differ from the file: such pages would be lost.
    let kept_as_in_file =
        |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0;
    for header in headers.iter().filter(kept_as_in_file) {
        let start = (base + header.p_vaddr).next_multiple_of(page);
        let end = (base + header.p_vaddr + header.p_memsz) / page * page;
        if start < end {
            // SAFETY: whole pages of a private mapping of a file, which nobody has written to: they read the same again.
            unsafe { libc::madvise(start as *mut libc::c_void, (end - start) as usize, libc::MADV_DONTNEED) };
        }
    }
    1
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_goes_on() {
        static CONSTANT: [u64; 4096] = [7; 4096];
        for _ in 0..3 {
            super::forget_start();
            assert_eq!(std::hint::black_box(&CONSTANT).iter().sum::<u64>(), 7 * 4096);
            assert_eq!(format!("{:?}", Some(1.5)), "Some(1.5)");
        }
    }
}
