//! The library's functions as tables of pointers.

use libloading::os::unix;

use crate::abi;

/// A pointer to a function without the `Option` that C's pointers have.
pub trait Function {
    /// The pointer.
    type Pointer: Copy;
}

impl<P: Copy> Function for Option<P> {
    type Pointer = P;
}

type Pointer<F> = <F as Function>::Pointer;

/// A message of zeros, which is no message yet.
#[must_use]
pub fn message() -> Box<abi::m0_ha_msg> {
    let mut message = Box::<abi::m0_ha_msg>::new_uninit();
    // SAFETY: the box is that large; zero is a value of all its fields, which are numbers.
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
            /// Looks all functions up.
            ///
            /// # Errors
            ///
            /// With the name of the function that the library does not have.
            ///
            /// # Safety
            ///
            /// `library` is Motr's: its functions of these names have these types. The table is not
            /// used after the library is closed.
            pub(crate) unsafe fn of(library: &unix::Library) -> Result<Self, &'static str> {
                Ok(Self {
                    // SAFETY: the caller says that the symbol is a function of the field's type.
                    $($field: unsafe { *library.get(stringify!($name)).map_err(|_| stringify!($name))? },)*
                })
            }
        }
    };
}

table! {
    /// The HA interface (`ha/halon/interface.h`), and what it takes to start it.
    ///
    /// One interface in a process at a time. `init`, `start`, `stop` and `fini` on one thread, which
    /// they block; the others on any thread, inside callbacks too, and they do not block. Callbacks run
    /// on the library's threads, `link_connected`, `link_reused` and `link_absent` on the thread that is
    /// inside `entrypoint_reply`; they may not wait for anything.
    Ha {
        /// Makes the interface: threads, trace file, signal handlers.
        init: m0_halon_interface_init m0_halon_interface_init_fn,
        /// Ends it, after `stop`.
        fini: m0_halon_interface_fini m0_halon_interface_fini_fn,
        /// Listens, and connects to itself: returns when the entrypoint request that this makes has
        /// been answered with rc 0. Negative errno.
        start: m0_halon_interface_start m0_halon_interface_start_fn,
        /// Ends all links: returns when each is disconnected.
        stop: m0_halon_interface_stop m0_halon_interface_stop_fn,
        /// Answers a request, exactly once. Copies its arguments.
        entrypoint_reply: m0_halon_interface_entrypoint_reply m0_halon_interface_entrypoint_reply_fn,
        /// Sends a copy of a message; the tag names it on its link.
        send: m0_halon_interface_send m0_halon_interface_send_fn,
        /// Acknowledges a message, exactly once; it is the library's again.
        delivered: m0_halon_interface_delivered m0_halon_interface_delivered_fn,
        /// After `link_is_disconnecting`, when all that was received is acknowledged: nothing is sent
        /// or acknowledged over the link any more.
        disconnect: m0_halon_interface_disconnect m0_halon_interface_disconnect_fn,
        /// Gives a thread of ours the library's context. Not needed: a thread that the library does
        /// not know gets one by itself. One that was adopted has to be shunned before it ends.
        thread_adopt: m0_halon_interface_thread_adopt m0_halon_interface_thread_adopt_fn,
        /// Undoes `thread_adopt`.
        thread_shun: m0_halon_interface_thread_shun m0_halon_interface_thread_shun_fn,
        /// The handle for [`Spiel`], while started.
        spiel: m0_halon_interface_spiel m0_halon_interface_spiel_fn,
        /// Which library this is.
        build_info: m0_build_info_get m0_build_info_get_fn,
    }
}

table! {
    /// Commands to the cluster (`spiel/spiel.h`). Each blocks its thread, for minutes where a service
    /// does not answer. Negative errno.
    Spiel {
        /// Begins to read the configuration; asks ourselves for an entrypoint.
        rconfc_start: m0_spiel_rconfc_start m0_spiel_rconfc_start_fn,
        /// Ends that; before the interface is stopped.
        rconfc_stop: m0_spiel_rconfc_stop m0_spiel_rconfc_stop_fn,
        /// Names the profile that commands are about.
        cmd_profile_set: m0_spiel_cmd_profile_set m0_spiel_cmd_profile_set_fn,
        /// Begins to repair a pool.
        repair_start: m0_spiel_sns_repair_start m0_spiel_sns_repair_start_fn,
        /// Goes on after a pause.
        repair_continue: m0_spiel_sns_repair_continue m0_spiel_sns_repair_continue_fn,
        /// Pauses.
        repair_quiesce: m0_spiel_sns_repair_quiesce m0_spiel_sns_repair_quiesce_fn,
        /// Gives up.
        repair_abort: m0_spiel_sns_repair_abort m0_spiel_sns_repair_abort_fn,
        /// How far each service is: the number of them, and an array for [`Spiel::free`].
        repair_status: m0_spiel_sns_repair_status m0_spiel_sns_repair_status_fn,
        /// Begins to rebalance a pool.
        rebalance_start: m0_spiel_sns_rebalance_start m0_spiel_sns_rebalance_start_fn,
        /// Goes on after a pause.
        rebalance_continue: m0_spiel_sns_rebalance_continue m0_spiel_sns_rebalance_continue_fn,
        /// Pauses.
        rebalance_quiesce: m0_spiel_sns_rebalance_quiesce m0_spiel_sns_rebalance_quiesce_fn,
        /// Gives up.
        rebalance_abort: m0_spiel_sns_rebalance_abort m0_spiel_sns_rebalance_abort_fn,
        /// As `repair_status`.
        rebalance_status: m0_spiel_sns_rebalance_status m0_spiel_sns_rebalance_status_fn,
        /// Free and total space.
        filesystem_stats: m0_spiel_filesystem_stats_fetch m0_spiel_filesystem_stats_fetch_fn,
        /// Makes room for `proc_counters`.
        count_stats_init: m0_spiel_count_stats_init m0_spiel_count_stats_init_fn,
        /// Frees it.
        count_stats_fini: m0_spiel_count_stats_fini m0_spiel_count_stats_fini_fn,
        /// The byte counts of one I/O service.
        proc_counters: m0_spiel_proc_counters_fetch m0_spiel_proc_counters_fetch_fn,
        /// The state of a pool version.
        pver_status: m0_spiel_conf_pver_status m0_spiel_conf_pver_status_fn,
        /// Frees what the library allocated.
        free: m0_free m0_free_fn,
    }
}
