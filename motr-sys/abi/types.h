/*
 * The data that pass between hax and Motr's library: the ABI on x86-64, stated by its names, sizes
 * and order. check.c holds it against Motr's own headers where they are installed.
 */
#ifndef HAX_MOTR_TYPES_H
#define HAX_MOTR_TYPES_H

#include <stdint.h>

/* m0_ha_msg::hm_data.hed_type */
#define M0_HA_MSG_INVALID 0
#define M0_HA_MSG_STOB_IOQ 1
#define M0_HA_MSG_NVEC 2
#define M0_HA_MSG_FAILURE_VEC_REQ 3
#define M0_HA_MSG_FAILURE_VEC_REP 4
#define M0_HA_MSG_KEEPALIVE_REQ 5
#define M0_HA_MSG_KEEPALIVE_REP 6
#define M0_HA_MSG_EVENT_PROCESS 7
#define M0_HA_MSG_EVENT_SERVICE 8
#define M0_HA_MSG_EVENT_RPC 9
#define M0_HA_MSG_BE_IO_ERR 10
#define M0_HA_MSG_SNS_ERR 11

/** How many notes fit in one message; more are not refused, the receiver reads past the array. */
#define M0_HA_STATE_UPDATE_LIMIT 1024

struct m0_uint128 {
	uint64_t u_hi;
	uint64_t u_lo;
};

struct m0_fid {
	uint64_t f_container;
	uint64_t f_key;
};

struct m0_cookie {
	uint64_t co_addr;
	uint64_t co_generation;
};

struct m0_ha_note {
	struct m0_fid no_id;
	uint32_t no_state;
};

struct m0_ha_msg_nvec_array {
	struct m0_ha_note hmna_arr[M0_HA_STATE_UPDATE_LIMIT];
};

struct m0_ha_msg_nvec {
	uint64_t hmnv_type;
	uint64_t hmnv_id_of_get;
	uint64_t hmnv_ignore_same_state;
	uint64_t hmnv_nr;
	struct m0_ha_msg_nvec_array hmnv_arr;
};

struct m0_ha_msg_failure_vec_req {
	struct m0_fid mfq_pool;
	struct m0_cookie mfq_cookie;
};

struct m0_ha_msg_failure_vec_rep {
	struct m0_fid mfp_pool;
	struct m0_cookie mfp_cookie;
	uint32_t mfp_nr;
	struct m0_ha_msg_nvec_array mfp_vec;
};

struct m0_ha_msg_keepalive_req {
	struct m0_uint128 kaq_id;
};

struct m0_ha_msg_keepalive_rep {
	struct m0_uint128 kap_id;
	uint64_t kap_counter;
};

struct m0_ha_msg_rpc {
	uint64_t hmr_attempts;
	uint64_t hmr_state;
};

struct m0_conf_ha_process {
	uint64_t chp_event;
	uint64_t chp_type;
	uint64_t chp_pid;
};

struct m0_conf_ha_service {
	uint64_t chs_event;
	uint64_t chs_type;
	uint64_t chs_pid;
};

struct m0_stob_id {
	struct m0_fid si_domain_fid;
	struct m0_fid si_fid;
};

struct m0_stob_ioq_error {
	struct m0_fid sie_conf_sdev;
	struct m0_stob_id sie_stob_id;
	int64_t sie_fd;
	int64_t sie_opcode;
	int64_t sie_rc;
	uint64_t sie_offset;
	uint64_t sie_size;
	uint32_t sie_bshift;
};

struct m0_be_io_err {
	uint32_t ber_errcode;
	uint8_t ber_location;
	uint8_t ber_io_opcode;
};

struct m0_ha_sns_err {
	uint32_t hse_errcode;
	uint8_t hse_opcode;
};

/** Which member of `u` is meant is told by `hed_type`. */
struct m0_ha_msg_data {
	uint64_t hed_type;
	union {
		struct m0_stob_ioq_error hed_stob_ioq;
		struct m0_ha_msg_nvec hed_nvec;
		struct m0_ha_msg_failure_vec_req hed_fvec_req;
		struct m0_ha_msg_failure_vec_rep hed_fvec_rep;
		struct m0_ha_msg_keepalive_req hed_keepalive_req;
		struct m0_ha_msg_keepalive_rep hed_keepalive_rep;
		struct m0_conf_ha_process hed_event_process;
		struct m0_conf_ha_service hed_event_service;
		struct m0_ha_msg_rpc hed_event_rpc;
		struct m0_be_io_err hed_be_io_err;
		struct m0_ha_sns_err hed_ha_sns_err;
	} u;
};

/** One message, 24 KiB whatever it says: never on a small stack. `hm_tag` is the library's. */
struct m0_ha_msg {
	struct m0_fid hm_fid;
	struct m0_fid hm_source_process;
	struct m0_fid hm_source_service;
	uint64_t hm_time;
	uint64_t hm_epoch;
	struct m0_ha_msg_data hm_data;
	uint64_t hm_tag;
};

/** The beginning of what m0_build_info_get() points to; the rest is not ours to read. */
struct m0_build_info {
	uint32_t bi_version;
	const char *bi_version_string;
	const char *bi_git_rev_id;
};

/** A thread that was adopted; stays where it is until it is shunned. */
struct m0_thread {
	uint64_t opaque[23];
};

struct m0_halon_interface;
struct m0_ha_link;
struct m0_net_xprt;
struct m0_spiel;
struct m0_rconfc;

struct m0_spiel_repreb_status {
	struct m0_fid srs_fid;
	uint32_t srs_state;
	uint32_t srs_progress;
};

/** What the library calls free space; all in bytes, the last two in services. */
struct m0_fs_stats {
	uint64_t fs_free_seg;
	uint64_t fs_total_seg;
	uint64_t fs_free_disk;
	uint64_t fs_avail_disk;
	uint64_t fs_total_disk;
	uint32_t fs_svc_total;
	uint32_t fs_svc_replied;
};

/** Whose bytes: the pool version and the user. */
struct m0_spiel_bckey {
	struct m0_fid sbk_fid;
	uint64_t sbk_user_id;
};

struct m0_spiel_bcrec {
	uint64_t sbr_byte_count;
	uint64_t sbr_object_count;
};

/** As many keys as records, each in memory of its own. */
struct m0_proc_counter {
	int pc_rc;
	uint32_t pc_cnt;
	struct m0_fid pc_proc_fid;
	struct m0_spiel_bckey **pc_bckey;
	struct m0_spiel_bcrec **pc_bcrec;
};

struct m0_pdclust_attr {
	uint32_t pa_N;
	uint32_t pa_K;
	uint32_t pa_S;
	uint32_t pa_P;
	uint64_t pa_unit_size;
	struct m0_uint128 pa_seed;
};

struct m0_conf_pver_info {
	struct m0_fid cpi_fid;
	struct m0_pdclust_attr cpi_attr;
	uint32_t cpi_state;
};

#endif
