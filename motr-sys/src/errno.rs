//! C's `errno`, where the library takes a stale one for its own.

use core::ffi::c_int;

unsafe extern "C" {
    // This thread's; there is one in glibc and in musl.
    safe fn __errno_location() -> *mut c_int;
}

/// Forgets what this thread's last failed call has left. Motr's `sock` transport looks at it after
/// parsing a number of an `inet:stream:` name, whether that failed or not (`net/sock/sock.c`).
pub fn clear_errno() {
    // SAFETY: a variable of this thread, which it always has.
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
