//! The library's functions as tables of pointers.

use libloading::os::unix;

use crate::abi;

/// A pointer to a function without the `Option` of C's pointers.
pub trait Function {
    /// The pointer.
    type Pointer: Copy;
}

impl<P: Copy> Function for Option<P> {
    type Pointer = P;
}

type Pointer<F> = <F as Function>::Pointer;

/// Returns a message of zeros, to be filled in.
#[must_use]
pub fn message() -> Box<abi::m0_ha_msg> {
    let mut message = Box::<abi::m0_ha_msg>::new_uninit();
    // SAFETY: the box has the size of a message; zero is a valid value of all its fields, which are numbers.
    unsafe {
        message.as_mut_ptr().write_bytes(0, 1);
        message.assume_init()
    }
}

macro_rules! table {
    ($(#[$doc:meta])* $table:ident { $($(#[$field_doc:meta])* $field:ident: $name:ident $type:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $table {
            $($(#[$field_doc])* pub $field: Pointer<abi::$type>,)*
        }

        impl $table {
            /// Looks up all functions.
            ///
            /// # Errors
            ///
            /// The name of a function that the library does not have.
            ///
            /// # Safety
            ///
            /// `library` must be Motr's: its functions of these names have these types. The table must not be
            /// used after the library is closed.
            pub(crate) unsafe fn of(library: &unix::Library) -> Result<Self, &'static str> {
                Ok(Self {
                    // SAFETY: the caller guarantees that the symbol is a function of the field's type.
                    $($field: unsafe { *library.get(stringify!($name)).map_err(|_| stringify!($name))? },)*
                })
            }
        }
    };
}

table! {
    /// The HA interface (`ha/halon/interface.h`), and the functions to start it.
    ///
    /// A process may have one interface at a time. `init`, `start`, `stop` and `fini` must be called on one
    /// thread, which they block. The other functions may be called on any thread, also inside callbacks, and
    /// do not block. Callbacks run on the library's threads. `link_connected`, `link_reused` and
    /// `link_absent` run on the thread that is inside `entrypoint_reply`. Callbacks must not wait for
    /// anything.
    Ha {
        /// Creates the interface: threads, trace file, signal handlers.
        init: m0_halon_interface_init m0_halon_interface_init_fn,
        /// Destroys the interface, after `stop`.
        fini: m0_halon_interface_fini m0_halon_interface_fini_fn,
        /// Listens, and connects to itself. It returns when the resulting entrypoint request has been
        /// answered with rc 0. Errors are negative errnos.
        start: m0_halon_interface_start m0_halon_interface_start_fn,
        /// Disconnects all links; returns when each is disconnected.
        stop: m0_halon_interface_stop m0_halon_interface_stop_fn,
        /// Replies to a request; must be called exactly once for each. It copies its arguments.
        entrypoint_reply: m0_halon_interface_entrypoint_reply m0_halon_interface_entrypoint_reply_fn,
        /// Sends a copy of a message; the tag identifies it on its link.
        send: m0_halon_interface_send m0_halon_interface_send_fn,
        /// Acknowledges a message, exactly once; the message belongs to the library again.
        delivered: m0_halon_interface_delivered m0_halon_interface_delivered_fn,
        /// Gives a link back, after `link_is_disconnecting`, when all received messages are acknowledged.
        /// Nothing may be sent or acknowledged over the link after this.
        disconnect: m0_halon_interface_disconnect m0_halon_interface_disconnect_fn,
        /// Gives a thread of ours the library's context. This is not needed: a foreign thread gets a context
        /// by itself. An adopted thread has to be shunned before it ends.
        thread_adopt: m0_halon_interface_thread_adopt m0_halon_interface_thread_adopt_fn,
        /// Reverts `thread_adopt`.
        thread_shun: m0_halon_interface_thread_shun m0_halon_interface_thread_shun_fn,
        /// Returns the handle for [`Spiel`], while started.
        spiel: m0_halon_interface_spiel m0_halon_interface_spiel_fn,
        /// Returns the build information of the library.
        build_info: m0_build_info_get m0_build_info_get_fn,
    }
}

table! {
    /// Commands to the cluster (`spiel/spiel.h`). Each blocks its thread, for minutes if a service does not
    /// respond. Errors are negative errnos.
    Spiel {
        /// Begins to read the configuration; requests an entrypoint from ourselves.
        rconfc_start: m0_spiel_rconfc_start m0_spiel_rconfc_start_fn,
        /// Releases the configuration; must be called before the interface is stopped.
        rconfc_stop: m0_spiel_rconfc_stop m0_spiel_rconfc_stop_fn,
        /// Sets the profile of the commands.
        cmd_profile_set: m0_spiel_cmd_profile_set m0_spiel_cmd_profile_set_fn,
        /// Starts the repair of a pool.
        repair_start: m0_spiel_sns_repair_start m0_spiel_sns_repair_start_fn,
        /// Continues a paused repair.
        repair_continue: m0_spiel_sns_repair_continue m0_spiel_sns_repair_continue_fn,
        /// Pauses a repair.
        repair_quiesce: m0_spiel_sns_repair_quiesce m0_spiel_sns_repair_quiesce_fn,
        /// Aborts a repair.
        repair_abort: m0_spiel_sns_repair_abort m0_spiel_sns_repair_abort_fn,
        /// Returns the progress of each service: their number, and an array for [`Spiel::free`].
        repair_status: m0_spiel_sns_repair_status m0_spiel_sns_repair_status_fn,
        /// Starts the rebalance of a pool.
        rebalance_start: m0_spiel_sns_rebalance_start m0_spiel_sns_rebalance_start_fn,
        /// Continues a paused rebalance.
        rebalance_continue: m0_spiel_sns_rebalance_continue m0_spiel_sns_rebalance_continue_fn,
        /// Pauses a rebalance.
        rebalance_quiesce: m0_spiel_sns_rebalance_quiesce m0_spiel_sns_rebalance_quiesce_fn,
        /// Aborts a rebalance.
        rebalance_abort: m0_spiel_sns_rebalance_abort m0_spiel_sns_rebalance_abort_fn,
        /// Returns the progress of a rebalance, like `repair_status`.
        rebalance_status: m0_spiel_sns_rebalance_status m0_spiel_sns_rebalance_status_fn,
        /// Returns the free and the total space.
        filesystem_stats: m0_spiel_filesystem_stats_fetch m0_spiel_filesystem_stats_fetch_fn,
        /// Allocates the result of `proc_counters`.
        count_stats_init: m0_spiel_count_stats_init m0_spiel_count_stats_init_fn,
        /// Frees the result of `proc_counters`.
        count_stats_fini: m0_spiel_count_stats_fini m0_spiel_count_stats_fini_fn,
        /// Returns the byte counts of one I/O service.
        proc_counters: m0_spiel_proc_counters_fetch m0_spiel_proc_counters_fetch_fn,
        /// Returns the state of a pool version.
        pver_status: m0_spiel_conf_pver_status m0_spiel_conf_pver_status_fn,
        /// Frees memory that the library allocated.
        free: m0_free m0_free_fn,
    }
}
