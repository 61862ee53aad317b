//! C's `errno`: the library may take an old value for an error of its own.

use core::ffi::c_int;

unsafe extern "C" {
    // The function returns this thread's variable; it exists in glibc and in musl.
    safe fn __errno_location() -> *mut c_int;
}

/// Clears the error of this thread's last failed call. Motr's `sock` transport reads `errno` after parsing a
/// number of an `inet:stream:` name, whether that failed or not (`net/sock/sock.c`).
pub fn clear_errno() {
    // SAFETY: this is a variable of this thread, which always exists.
    unsafe { __errno_location().write(0) };
}

#[cfg(test)]
mod tests {
    use std::io;

    #[test]
    fn what_a_call_has_left_is_forgotten() {
        std::fs::File::open("/nonexistent").unwrap_err();
        assert_ne!(io::Error::last_os_error().raw_os_error(), Some(0));
        super::clear_errno();
        assert_eq!(io::Error::last_os_error().raw_os_error(), Some(0));
    }
}
