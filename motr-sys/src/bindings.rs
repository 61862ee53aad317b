//! Made by `scripts/bindings` from `motr-sys/abi`: change that.
pub const M0_HA_MSG_INVALID: u32 = 0;
pub const M0_HA_MSG_STOB_IOQ: u32 = 1;
pub const M0_HA_MSG_NVEC: u32 = 2;
pub const M0_HA_MSG_FAILURE_VEC_REQ: u32 = 3;
pub const M0_HA_MSG_FAILURE_VEC_REP: u32 = 4;
pub const M0_HA_MSG_KEEPALIVE_REQ: u32 = 5;
pub const M0_HA_MSG_KEEPALIVE_REP: u32 = 6;
pub const M0_HA_MSG_EVENT_PROCESS: u32 = 7;
pub const M0_HA_MSG_EVENT_SERVICE: u32 = 8;
pub const M0_HA_MSG_EVENT_RPC: u32 = 9;
pub const M0_HA_MSG_BE_IO_ERR: u32 = 10;
pub const M0_HA_MSG_SNS_ERR: u32 = 11;
pub const M0_HA_STATE_UPDATE_LIMIT: u32 = 1024;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_uint128 {
    pub u_hi: u64,
    pub u_lo: u64,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_fid {
    pub f_container: u64,
    pub f_key: u64,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_cookie {
    pub co_addr: u64,
    pub co_generation: u64,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_ha_note {
    pub no_id: m0_fid,
    pub no_state: u32,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_ha_msg_nvec_array {
    pub hmna_arr: [m0_ha_note; 1024usize],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_ha_msg_nvec {
    pub hmnv_type: u64,
    pub hmnv_id_of_get: u64,
    pub hmnv_ignore_same_state: u64,
    pub hmnv_nr: u64,
    pub hmnv_arr: m0_ha_msg_nvec_array,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_ha_msg_failure_vec_req {
    pub mfq_pool: m0_fid,
    pub mfq_cookie: m0_cookie,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_ha_msg_failure_vec_rep {
    pub mfp_pool: m0_fid,
    pub mfp_cookie: m0_cookie,
    pub mfp_nr: u32,
    pub mfp_vec: m0_ha_msg_nvec_array,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_ha_msg_keepalive_req {
    pub kaq_id: m0_uint128,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_ha_msg_keepalive_rep {
    pub kap_id: m0_uint128,
    pub kap_counter: u64,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_ha_msg_rpc {
    pub hmr_attempts: u64,
    pub hmr_state: u64,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_conf_ha_process {
    pub chp_event: u64,
    pub chp_type: u64,
    pub chp_pid: u64,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_conf_ha_service {
    pub chs_event: u64,
    pub chs_type: u64,
    pub chs_pid: u64,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_stob_id {
    pub si_domain_fid: m0_fid,
    pub si_fid: m0_fid,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_stob_ioq_error {
    pub sie_conf_sdev: m0_fid,
    pub sie_stob_id: m0_stob_id,
    pub sie_fd: i64,
    pub sie_opcode: i64,
    pub sie_rc: i64,
    pub sie_offset: u64,
    pub sie_size: u64,
    pub sie_bshift: u32,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_be_io_err {
    pub ber_errcode: u32,
    pub ber_location: u8,
    pub ber_io_opcode: u8,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_ha_sns_err {
    pub hse_errcode: u32,
    pub hse_opcode: u8,
}
#[doc = " Which member of `u` is meant is told by `hed_type`."]
#[repr(C)]
#[derive(Copy, Clone)]
pub struct m0_ha_msg_data {
    pub hed_type: u64,
    pub u: m0_ha_msg_data__bindgen_ty_1,
}
#[repr(C)]
#[derive(Copy, Clone)]
pub union m0_ha_msg_data__bindgen_ty_1 {
    pub hed_stob_ioq: m0_stob_ioq_error,
    pub hed_nvec: m0_ha_msg_nvec,
    pub hed_fvec_req: m0_ha_msg_failure_vec_req,
    pub hed_fvec_rep: m0_ha_msg_failure_vec_rep,
    pub hed_keepalive_req: m0_ha_msg_keepalive_req,
    pub hed_keepalive_rep: m0_ha_msg_keepalive_rep,
    pub hed_event_process: m0_conf_ha_process,
    pub hed_event_service: m0_conf_ha_service,
    pub hed_event_rpc: m0_ha_msg_rpc,
    pub hed_be_io_err: m0_be_io_err,
    pub hed_ha_sns_err: m0_ha_sns_err,
}
#[doc = " One message, 24 KiB whatever it says: never on a small stack. `hm_tag` is the library's."]
#[repr(C)]
#[derive(Copy, Clone)]
pub struct m0_ha_msg {
    pub hm_fid: m0_fid,
    pub hm_source_process: m0_fid,
    pub hm_source_service: m0_fid,
    pub hm_time: u64,
    pub hm_epoch: u64,
    pub hm_data: m0_ha_msg_data,
    pub hm_tag: u64,
}
#[doc = " The beginning of what m0_build_info_get() points to; the rest is not ours to read."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_build_info {
    pub bi_version: u32,
    pub bi_version_string: *const core::ffi::c_char,
    pub bi_git_rev_id: *const core::ffi::c_char,
}
#[doc = " A thread that was adopted; stays where it is until it is shunned."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_thread {
    pub opaque: [u64; 23usize],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_halon_interface {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_ha_link {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_net_xprt {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_spiel {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_rconfc {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_spiel_repreb_status {
    pub srs_fid: m0_fid,
    pub srs_state: u32,
    pub srs_progress: u32,
}
#[doc = " What the library calls free space; all in bytes, the last two in services."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_fs_stats {
    pub fs_free_seg: u64,
    pub fs_total_seg: u64,
    pub fs_free_disk: u64,
    pub fs_avail_disk: u64,
    pub fs_total_disk: u64,
    pub fs_svc_total: u32,
    pub fs_svc_replied: u32,
}
#[doc = " Whose bytes: the pool version and the user."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_spiel_bckey {
    pub sbk_fid: m0_fid,
    pub sbk_user_id: u64,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_spiel_bcrec {
    pub sbr_byte_count: u64,
    pub sbr_object_count: u64,
}
#[doc = " As many keys as records, each in memory of its own."]
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_proc_counter {
    pub pc_rc: core::ffi::c_int,
    pub pc_cnt: u32,
    pub pc_proc_fid: m0_fid,
    pub pc_bckey: *mut *mut m0_spiel_bckey,
    pub pc_bcrec: *mut *mut m0_spiel_bcrec,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_pdclust_attr {
    pub pa_N: u32,
    pub pa_K: u32,
    pub pa_S: u32,
    pub pa_P: u32,
    pub pa_unit_size: u64,
    pub pa_seed: m0_uint128,
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct m0_conf_pver_info {
    pub cpi_fid: m0_fid,
    pub cpi_attr: m0_pdclust_attr,
    pub cpi_state: u32,
}
pub type m0_halon_interface_init_fn = ::core::option::Option<
    unsafe extern "C" fn(
        hi_out: *mut *mut m0_halon_interface,
        git_rev_id: *const core::ffi::c_char,
        configure_opts: *const core::ffi::c_char,
        debug_options: *const core::ffi::c_char,
        node_uuid: *const core::ffi::c_char,
    ) -> core::ffi::c_int,
>;
pub type m0_halon_interface_fini_fn =
    ::core::option::Option<unsafe extern "C" fn(hi: *mut m0_halon_interface)>;
pub type hax_entrypoint_request_cb = ::core::option::Option<
    unsafe extern "C" fn(
        hi: *mut m0_halon_interface,
        req_id: *const m0_uint128,
        endpoint: *const core::ffi::c_char,
        process: *const m0_fid,
        git_rev_id: *const core::ffi::c_char,
        pid: u64,
        first_request: bool,
    ),
>;
pub type hax_msg_received_cb = ::core::option::Option<
    unsafe extern "C" fn(
        hi: *mut m0_halon_interface,
        link: *mut m0_ha_link,
        msg: *const m0_ha_msg,
        tag: u64,
    ),
>;
pub type hax_msg_settled_cb = ::core::option::Option<
    unsafe extern "C" fn(hi: *mut m0_halon_interface, link: *mut m0_ha_link, tag: u64),
>;
pub type hax_link_made_cb = ::core::option::Option<
    unsafe extern "C" fn(
        hi: *mut m0_halon_interface,
        req_id: *const m0_uint128,
        link: *mut m0_ha_link,
    ),
>;
pub type hax_link_absent_cb = ::core::option::Option<
    unsafe extern "C" fn(hi: *mut m0_halon_interface, req_id: *const m0_uint128),
>;
pub type hax_link_gone_cb = ::core::option::Option<
    unsafe extern "C" fn(hi: *mut m0_halon_interface, link: *mut m0_ha_link),
>;
pub type m0_halon_interface_start_fn = ::core::option::Option<
    unsafe extern "C" fn(
        hi: *mut m0_halon_interface,
        endpoint: *const core::ffi::c_char,
        process: *const m0_fid,
        ha_service: *const m0_fid,
        rm_service: *const m0_fid,
        entrypoint_request: hax_entrypoint_request_cb,
        msg_received: hax_msg_received_cb,
        msg_is_delivered: hax_msg_settled_cb,
        msg_is_not_delivered: hax_msg_settled_cb,
        link_connected: hax_link_made_cb,
        link_reused: hax_link_made_cb,
        link_absent: hax_link_absent_cb,
        link_is_disconnecting: hax_link_gone_cb,
        link_disconnected: hax_link_gone_cb,
    ) -> core::ffi::c_int,
>;
pub type m0_halon_interface_stop_fn =
    ::core::option::Option<unsafe extern "C" fn(hi: *mut m0_halon_interface)>;
pub type m0_halon_interface_entrypoint_reply_fn = ::core::option::Option<
    unsafe extern "C" fn(
        hi: *mut m0_halon_interface,
        req_id: *const m0_uint128,
        rc: core::ffi::c_int,
        confd_nr: u32,
        confd_fids: *const m0_fid,
        confd_endpoints: *mut *const core::ffi::c_char,
        confd_quorum: u32,
        rm_service: *const m0_fid,
        rm_endpoint: *const core::ffi::c_char,
    ),
>;
pub type m0_halon_interface_send_fn = ::core::option::Option<
    unsafe extern "C" fn(
        hi: *mut m0_halon_interface,
        link: *mut m0_ha_link,
        msg: *const m0_ha_msg,
        tag: *mut u64,
    ),
>;
pub type m0_halon_interface_delivered_fn = ::core::option::Option<
    unsafe extern "C" fn(hi: *mut m0_halon_interface, link: *mut m0_ha_link, msg: *const m0_ha_msg),
>;
pub type m0_halon_interface_disconnect_fn = ::core::option::Option<
    unsafe extern "C" fn(hi: *mut m0_halon_interface, link: *mut m0_ha_link),
>;
pub type m0_halon_interface_thread_adopt_fn = ::core::option::Option<
    unsafe extern "C" fn(hi: *mut m0_halon_interface, thread: *mut m0_thread) -> core::ffi::c_int,
>;
pub type m0_halon_interface_thread_shun_fn = ::core::option::Option<unsafe extern "C" fn()>;
pub type m0_halon_interface_spiel_fn =
    ::core::option::Option<unsafe extern "C" fn(hi: *mut m0_halon_interface) -> *mut m0_spiel>;
pub type m0_net_xprt_default_set_fn =
    ::core::option::Option<unsafe extern "C" fn(xprt: *const m0_net_xprt)>;
pub type m0_build_info_get_fn =
    ::core::option::Option<unsafe extern "C" fn() -> *const m0_build_info>;
pub type hax_rconfc_cb = ::core::option::Option<unsafe extern "C" fn(rconfc: *mut m0_rconfc)>;
pub type m0_spiel_rconfc_start_fn = ::core::option::Option<
    unsafe extern "C" fn(spiel: *mut m0_spiel, expired: hax_rconfc_cb) -> core::ffi::c_int,
>;
pub type m0_spiel_rconfc_stop_fn =
    ::core::option::Option<unsafe extern "C" fn(spiel: *mut m0_spiel)>;
pub type m0_spiel_cmd_profile_set_fn = ::core::option::Option<
    unsafe extern "C" fn(
        spiel: *mut m0_spiel,
        profile: *const core::ffi::c_char,
    ) -> core::ffi::c_int,
>;
pub type hax_spiel_pool_fn = ::core::option::Option<
    unsafe extern "C" fn(spiel: *mut m0_spiel, pool: *const m0_fid) -> core::ffi::c_int,
>;
pub type hax_spiel_status_fn = ::core::option::Option<
    unsafe extern "C" fn(
        spiel: *mut m0_spiel,
        pool: *const m0_fid,
        statuses: *mut *mut m0_spiel_repreb_status,
    ) -> core::ffi::c_int,
>;
pub type m0_spiel_sns_repair_start_fn = hax_spiel_pool_fn;
pub type m0_spiel_sns_repair_continue_fn = hax_spiel_pool_fn;
pub type m0_spiel_sns_repair_quiesce_fn = hax_spiel_pool_fn;
pub type m0_spiel_sns_repair_abort_fn = hax_spiel_pool_fn;
pub type m0_spiel_sns_repair_status_fn = hax_spiel_status_fn;
pub type m0_spiel_sns_rebalance_start_fn = hax_spiel_pool_fn;
pub type m0_spiel_sns_rebalance_continue_fn = hax_spiel_pool_fn;
pub type m0_spiel_sns_rebalance_quiesce_fn = hax_spiel_pool_fn;
pub type m0_spiel_sns_rebalance_abort_fn = hax_spiel_pool_fn;
pub type m0_spiel_sns_rebalance_status_fn = hax_spiel_status_fn;
pub type m0_spiel_filesystem_stats_fetch_fn = ::core::option::Option<
    unsafe extern "C" fn(spiel: *mut m0_spiel, stats: *mut m0_fs_stats) -> core::ffi::c_int,
>;
pub type m0_spiel_count_stats_init_fn = ::core::option::Option<
    unsafe extern "C" fn(stats: *mut *mut m0_proc_counter) -> core::ffi::c_int,
>;
pub type m0_spiel_count_stats_fini_fn =
    ::core::option::Option<unsafe extern "C" fn(stats: *mut m0_proc_counter)>;
pub type m0_spiel_proc_counters_fetch_fn = ::core::option::Option<
    unsafe extern "C" fn(
        spiel: *mut m0_spiel,
        process: *mut m0_fid,
        stats: *mut m0_proc_counter,
    ) -> core::ffi::c_int,
>;
pub type m0_spiel_conf_pver_status_fn = ::core::option::Option<
    unsafe extern "C" fn(
        spiel: *mut m0_spiel,
        pver: *mut m0_fid,
        info: *mut m0_conf_pver_info,
    ) -> core::ffi::c_int,
>;
pub type m0_free_fn = ::core::option::Option<unsafe extern "C" fn(data: *mut core::ffi::c_void)>;
const _: () = assert!(size_of::<m0_uint128>() == 16);
const _: () = assert!(size_of::<m0_fid>() == 16);
const _: () = assert!(size_of::<m0_cookie>() == 16);
const _: () = assert!(size_of::<m0_ha_note>() == 24);
const _: () = assert!(core::mem::offset_of!(m0_ha_note, no_state) == 16);
const _: () = assert!(size_of::<m0_ha_msg_nvec>() == 24608);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg_nvec, hmnv_type) == 0);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg_nvec, hmnv_id_of_get) == 8);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg_nvec, hmnv_ignore_same_state) == 16);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg_nvec, hmnv_nr) == 24);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg_nvec, hmnv_arr) == 32);
const _: () = assert!(size_of::<m0_ha_msg_failure_vec_req>() == 32);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg_failure_vec_req, mfq_cookie) == 16);
const _: () = assert!(size_of::<m0_ha_msg_failure_vec_rep>() == 24616);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg_failure_vec_rep, mfp_cookie) == 16);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg_failure_vec_rep, mfp_nr) == 32);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg_failure_vec_rep, mfp_vec) == 40);
const _: () = assert!(size_of::<m0_ha_msg_keepalive_req>() == 16);
const _: () = assert!(size_of::<m0_ha_msg_keepalive_rep>() == 24);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg_keepalive_rep, kap_counter) == 16);
const _: () = assert!(size_of::<m0_ha_msg_rpc>() == 16);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg_rpc, hmr_state) == 8);
const _: () = assert!(size_of::<m0_conf_ha_process>() == 24);
const _: () = assert!(core::mem::offset_of!(m0_conf_ha_process, chp_type) == 8);
const _: () = assert!(core::mem::offset_of!(m0_conf_ha_process, chp_pid) == 16);
const _: () = assert!(size_of::<m0_conf_ha_service>() == 24);
const _: () = assert!(core::mem::offset_of!(m0_conf_ha_service, chs_type) == 8);
const _: () = assert!(core::mem::offset_of!(m0_conf_ha_service, chs_pid) == 16);
const _: () = assert!(size_of::<m0_stob_ioq_error>() == 96);
const _: () = assert!(core::mem::offset_of!(m0_stob_ioq_error, sie_stob_id) == 16);
const _: () = assert!(core::mem::offset_of!(m0_stob_ioq_error, sie_fd) == 48);
const _: () = assert!(core::mem::offset_of!(m0_stob_ioq_error, sie_opcode) == 56);
const _: () = assert!(core::mem::offset_of!(m0_stob_ioq_error, sie_rc) == 64);
const _: () = assert!(core::mem::offset_of!(m0_stob_ioq_error, sie_offset) == 72);
const _: () = assert!(core::mem::offset_of!(m0_stob_ioq_error, sie_size) == 80);
const _: () = assert!(core::mem::offset_of!(m0_stob_ioq_error, sie_bshift) == 88);
const _: () = assert!(size_of::<m0_be_io_err>() == 8);
const _: () = assert!(core::mem::offset_of!(m0_be_io_err, ber_location) == 4);
const _: () = assert!(core::mem::offset_of!(m0_be_io_err, ber_io_opcode) == 5);
const _: () = assert!(size_of::<m0_ha_sns_err>() == 8);
const _: () = assert!(core::mem::offset_of!(m0_ha_sns_err, hse_opcode) == 4);
const _: () = assert!(size_of::<m0_ha_msg_data>() == 24624);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg_data, u) == 8);
const _: () = assert!(size_of::<m0_ha_msg>() == 24696);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg, hm_source_process) == 16);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg, hm_source_service) == 32);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg, hm_time) == 48);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg, hm_epoch) == 56);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg, hm_data) == 64);
const _: () = assert!(core::mem::offset_of!(m0_ha_msg, hm_tag) == 24688);
const _: () = assert!(size_of::<m0_thread>() == 184);
const _: () = assert!(core::mem::offset_of!(m0_build_info, bi_version_string) == 8);
const _: () = assert!(core::mem::offset_of!(m0_build_info, bi_git_rev_id) == 16);
const _: () = assert!(size_of::<m0_spiel_repreb_status>() == 24);
const _: () = assert!(core::mem::offset_of!(m0_spiel_repreb_status, srs_state) == 16);
const _: () = assert!(core::mem::offset_of!(m0_spiel_repreb_status, srs_progress) == 20);
const _: () = assert!(size_of::<m0_fs_stats>() == 48);
const _: () = assert!(core::mem::offset_of!(m0_fs_stats, fs_total_seg) == 8);
const _: () = assert!(core::mem::offset_of!(m0_fs_stats, fs_free_disk) == 16);
const _: () = assert!(core::mem::offset_of!(m0_fs_stats, fs_avail_disk) == 24);
const _: () = assert!(core::mem::offset_of!(m0_fs_stats, fs_total_disk) == 32);
const _: () = assert!(core::mem::offset_of!(m0_fs_stats, fs_svc_total) == 40);
const _: () = assert!(core::mem::offset_of!(m0_fs_stats, fs_svc_replied) == 44);
const _: () = assert!(size_of::<m0_spiel_bckey>() == 24);
const _: () = assert!(core::mem::offset_of!(m0_spiel_bckey, sbk_user_id) == 16);
const _: () = assert!(size_of::<m0_spiel_bcrec>() == 16);
const _: () = assert!(core::mem::offset_of!(m0_spiel_bcrec, sbr_object_count) == 8);
const _: () = assert!(size_of::<m0_proc_counter>() == 40);
const _: () = assert!(core::mem::offset_of!(m0_proc_counter, pc_cnt) == 4);
const _: () = assert!(core::mem::offset_of!(m0_proc_counter, pc_proc_fid) == 8);
const _: () = assert!(core::mem::offset_of!(m0_proc_counter, pc_bckey) == 24);
const _: () = assert!(core::mem::offset_of!(m0_proc_counter, pc_bcrec) == 32);
const _: () = assert!(size_of::<m0_conf_pver_info>() == 64);
const _: () = assert!(core::mem::offset_of!(m0_conf_pver_info, cpi_attr) == 16);
const _: () = assert!(core::mem::offset_of!(m0_conf_pver_info, cpi_state) == 56);
const _: () = assert!(M0_HA_MSG_STOB_IOQ == 1);
const _: () = assert!(M0_HA_MSG_NVEC == 2);
const _: () = assert!(M0_HA_MSG_FAILURE_VEC_REQ == 3);
const _: () = assert!(M0_HA_MSG_FAILURE_VEC_REP == 4);
const _: () = assert!(M0_HA_MSG_KEEPALIVE_REQ == 5);
const _: () = assert!(M0_HA_MSG_KEEPALIVE_REP == 6);
const _: () = assert!(M0_HA_MSG_EVENT_PROCESS == 7);
const _: () = assert!(M0_HA_MSG_EVENT_SERVICE == 8);
const _: () = assert!(M0_HA_MSG_EVENT_RPC == 9);
const _: () = assert!(M0_HA_MSG_BE_IO_ERR == 10);
const _: () = assert!(M0_HA_MSG_SNS_ERR == 11);
const _: () = assert!(M0_HA_STATE_UPDATE_LIMIT == 1024);
