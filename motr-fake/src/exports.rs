//! The functions with the names that a program looks up.

use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::LazyLock;

use motr_sys::abi;

use crate::play::functions;

macro_rules! export {
    ($table:ident; $($field:ident: $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)?;)*) => {$(
        /// # Safety
        ///
        /// The contract of the library's function of this name.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($arg: $type),*) $(-> $ret)? {
            // SAFETY: guaranteed by the caller.
            unsafe { (functions().$table.$field)($($arg),*) }
        }
    )*};
}

type Hi = *mut abi::m0_halon_interface;
type Link = *mut abi::m0_ha_link;
type Message = *const abi::m0_ha_msg;

export! {
    ha;
    init: m0_halon_interface_init(
        hi_out: *mut Hi,
        git_rev_id: *const c_char,
        configure_opts: *const c_char,
        debug_options: *const c_char,
        node_uuid: *const c_char,
    ) -> c_int;
    fini: m0_halon_interface_fini(hi: Hi);
    start: m0_halon_interface_start(
        hi: Hi,
        endpoint: *const c_char,
        process: *const abi::m0_fid,
        ha_service: *const abi::m0_fid,
        rm_service: *const abi::m0_fid,
        entrypoint_request: abi::hax_entrypoint_request_cb,
        msg_received: abi::hax_msg_received_cb,
        msg_is_delivered: abi::hax_msg_settled_cb,
        msg_is_not_delivered: abi::hax_msg_settled_cb,
        link_connected: abi::hax_link_made_cb,
        link_reused: abi::hax_link_made_cb,
        link_absent: abi::hax_link_absent_cb,
        link_is_disconnecting: abi::hax_link_gone_cb,
        link_disconnected: abi::hax_link_gone_cb,
    ) -> c_int;
    stop: m0_halon_interface_stop(hi: Hi);
    entrypoint_reply: m0_halon_interface_entrypoint_reply(
        hi: Hi,
        req_id: *const abi::m0_uint128,
        rc: c_int,
        confd_nr: u32,
        confd_fids: *const abi::m0_fid,
        confd_endpoints: *mut *const c_char,
        quorum: u32,
        rm_service: *const abi::m0_fid,
        rm_endpoint: *const c_char,
    );
    send: m0_halon_interface_send(hi: Hi, link: Link, msg: Message, tag: *mut u64);
    delivered: m0_halon_interface_delivered(hi: Hi, link: Link, msg: Message);
    disconnect: m0_halon_interface_disconnect(hi: Hi, link: Link);
    thread_adopt: m0_halon_interface_thread_adopt(
        hi: Hi,
        thread: *mut abi::m0_thread,
    ) -> c_int;
    thread_shun: m0_halon_interface_thread_shun();
    spiel: m0_halon_interface_spiel(hi: Hi) -> *mut abi::m0_spiel;
}

struct Info(abi::m0_build_info);

// SAFETY: the pointers point to texts that are never freed.
unsafe impl Sync for Info {}
// SAFETY: as above, the texts are never freed.
unsafe impl Send for Info {}

static INFO: LazyLock<Info> = LazyLock::new(|| {
    let version = std::env::var(crate::VERSION).unwrap_or_else(|_| "2.0.0-fake".into());
    let version = CString::new(version).expect("no zero in it");
    Info(abi::m0_build_info {
        bi_version: 0,
        bi_version_string: version.into_raw(),
        bi_git_rev_id: c"fake".as_ptr(),
    })
});

/// Returns the version. A program calls this before `init`, so there is no script yet.
#[unsafe(no_mangle)]
extern "C" fn m0_build_info_get() -> *const abi::m0_build_info {
    &raw const INFO.0
}

type Spiel = *mut abi::m0_spiel;
type Fid = *const abi::m0_fid;
type Statuses = *mut *mut abi::m0_spiel_repreb_status;
type Counter = abi::m0_proc_counter;

// Commands are refused, since there is no cluster.
export! {
    spiel;
    rconfc_start: m0_spiel_rconfc_start(spiel: Spiel, expired: abi::hax_rconfc_cb) -> c_int;
    rconfc_stop: m0_spiel_rconfc_stop(spiel: Spiel);
    cmd_profile_set: m0_spiel_cmd_profile_set(spiel: Spiel, profile: *const c_char) -> c_int;
    repair_start: m0_spiel_sns_repair_start(spiel: Spiel, pool: Fid) -> c_int;
    repair_continue: m0_spiel_sns_repair_continue(spiel: Spiel, pool: Fid) -> c_int;
    repair_quiesce: m0_spiel_sns_repair_quiesce(spiel: Spiel, pool: Fid) -> c_int;
    repair_abort: m0_spiel_sns_repair_abort(spiel: Spiel, pool: Fid) -> c_int;
    repair_status: m0_spiel_sns_repair_status(
        spiel: Spiel,
        pool: Fid,
        statuses: Statuses,
    ) -> c_int;
    rebalance_start: m0_spiel_sns_rebalance_start(spiel: Spiel, pool: Fid) -> c_int;
    rebalance_continue: m0_spiel_sns_rebalance_continue(spiel: Spiel, pool: Fid) -> c_int;
    rebalance_quiesce: m0_spiel_sns_rebalance_quiesce(spiel: Spiel, pool: Fid) -> c_int;
    rebalance_abort: m0_spiel_sns_rebalance_abort(spiel: Spiel, pool: Fid) -> c_int;
    rebalance_status: m0_spiel_sns_rebalance_status(
        spiel: Spiel,
        pool: Fid,
        statuses: Statuses,
    ) -> c_int;
    filesystem_stats: m0_spiel_filesystem_stats_fetch(
        spiel: Spiel,
        stats: *mut abi::m0_fs_stats,
    ) -> c_int;
    count_stats_init: m0_spiel_count_stats_init(stats: *mut *mut Counter) -> c_int;
    count_stats_fini: m0_spiel_count_stats_fini(stats: *mut Counter);
    proc_counters: m0_spiel_proc_counters_fetch(
        spiel: Spiel,
        process: *mut abi::m0_fid,
        stats: *mut Counter,
    ) -> c_int;
    pver_status: m0_spiel_conf_pver_status(
        spiel: Spiel,
        pver: *mut abi::m0_fid,
        info: *mut abi::m0_conf_pver_info,
    ) -> c_int;
    free: m0_free(data: *mut c_void);
}
