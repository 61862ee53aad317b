/*
 * The functions of Motr's library that hax calls, as types: `NAME_fn` is the type of the function
 * NAME, so that a table of pointers can be filled at run time, and check.c can declare each function
 * a second time, which a compiler takes only if both declarations say the same.
 */
#ifndef HAX_MOTR_FUNCTIONS_H
#define HAX_MOTR_FUNCTIONS_H

/* ---- the HA interface: ha/halon/interface.h ---- */

typedef int m0_halon_interface_init_fn(struct m0_halon_interface **hi_out, const char *git_rev_id,
				       const char *configure_opts, const char *debug_options,
				       const char *node_uuid);
typedef void m0_halon_interface_fini_fn(struct m0_halon_interface *hi);

typedef void hax_entrypoint_request_cb(struct m0_halon_interface *hi,
				       const struct m0_uint128 *req_id, const char *endpoint,
				       const struct m0_fid *process, const char *git_rev_id,
				       uint64_t pid, _Bool first_request);
typedef void hax_msg_received_cb(struct m0_halon_interface *hi, struct m0_ha_link *link,
				 const struct m0_ha_msg *msg, uint64_t tag);
typedef void hax_msg_settled_cb(struct m0_halon_interface *hi, struct m0_ha_link *link,
				uint64_t tag);
typedef void hax_link_made_cb(struct m0_halon_interface *hi, const struct m0_uint128 *req_id,
			      struct m0_ha_link *link);
typedef void hax_link_absent_cb(struct m0_halon_interface *hi, const struct m0_uint128 *req_id);
typedef void hax_link_gone_cb(struct m0_halon_interface *hi, struct m0_ha_link *link);

typedef int m0_halon_interface_start_fn(
	struct m0_halon_interface *hi, const char *endpoint, const struct m0_fid *process,
	const struct m0_fid *ha_service, const struct m0_fid *rm_service,
	hax_entrypoint_request_cb *entrypoint_request, hax_msg_received_cb *msg_received,
	hax_msg_settled_cb *msg_is_delivered, hax_msg_settled_cb *msg_is_not_delivered,
	hax_link_made_cb *link_connected, hax_link_made_cb *link_reused,
	hax_link_absent_cb *link_absent, hax_link_gone_cb *link_is_disconnecting,
	hax_link_gone_cb *link_disconnected);
typedef void m0_halon_interface_stop_fn(struct m0_halon_interface *hi);

typedef void m0_halon_interface_entrypoint_reply_fn(
	struct m0_halon_interface *hi, const struct m0_uint128 *req_id, int rc, uint32_t confd_nr,
	const struct m0_fid *confd_fids, const char **confd_endpoints, uint32_t confd_quorum,
	const struct m0_fid *rm_service, const char *rm_endpoint);
typedef void m0_halon_interface_send_fn(struct m0_halon_interface *hi, struct m0_ha_link *link,
					const struct m0_ha_msg *msg, uint64_t *tag);
typedef void m0_halon_interface_delivered_fn(struct m0_halon_interface *hi,
					     struct m0_ha_link *link,
					     const struct m0_ha_msg *msg);
typedef void m0_halon_interface_disconnect_fn(struct m0_halon_interface *hi,
					      struct m0_ha_link *link);
typedef int m0_halon_interface_thread_adopt_fn(struct m0_halon_interface *hi,
					       struct m0_thread *thread);
typedef void m0_halon_interface_thread_shun_fn(void);
typedef struct m0_spiel *m0_halon_interface_spiel_fn(struct m0_halon_interface *hi);

/* ---- the rest of what starting takes: net/net.h, motr/version.h ---- */

typedef void m0_net_xprt_default_set_fn(const struct m0_net_xprt *xprt);
typedef const struct m0_build_info *m0_build_info_get_fn(void);

/* ---- commands to the cluster: spiel/spiel.h; each blocks, some for minutes ---- */

typedef void hax_rconfc_cb(struct m0_rconfc *rconfc);
typedef int m0_spiel_rconfc_start_fn(struct m0_spiel *spiel, hax_rconfc_cb *expired);
typedef void m0_spiel_rconfc_stop_fn(struct m0_spiel *spiel);
typedef int m0_spiel_cmd_profile_set_fn(struct m0_spiel *spiel, const char *profile);

typedef int hax_spiel_pool_fn(struct m0_spiel *spiel, const struct m0_fid *pool);
typedef int hax_spiel_status_fn(struct m0_spiel *spiel, const struct m0_fid *pool,
				struct m0_spiel_repreb_status **statuses);
typedef hax_spiel_pool_fn m0_spiel_sns_repair_start_fn;
typedef hax_spiel_pool_fn m0_spiel_sns_repair_continue_fn;
typedef hax_spiel_pool_fn m0_spiel_sns_repair_quiesce_fn;
typedef hax_spiel_pool_fn m0_spiel_sns_repair_abort_fn;
typedef hax_spiel_status_fn m0_spiel_sns_repair_status_fn;
typedef hax_spiel_pool_fn m0_spiel_sns_rebalance_start_fn;
typedef hax_spiel_pool_fn m0_spiel_sns_rebalance_continue_fn;
typedef hax_spiel_pool_fn m0_spiel_sns_rebalance_quiesce_fn;
typedef hax_spiel_pool_fn m0_spiel_sns_rebalance_abort_fn;
typedef hax_spiel_status_fn m0_spiel_sns_rebalance_status_fn;

typedef int m0_spiel_filesystem_stats_fetch_fn(struct m0_spiel *spiel, struct m0_fs_stats *stats);
typedef int m0_spiel_count_stats_init_fn(struct m0_proc_counter **stats);
typedef void m0_spiel_count_stats_fini_fn(struct m0_proc_counter *stats);
typedef int m0_spiel_proc_counters_fetch_fn(struct m0_spiel *spiel, struct m0_fid *process,
					    struct m0_proc_counter *stats);
typedef int m0_spiel_conf_pver_status_fn(struct m0_spiel *spiel, struct m0_fid *pver,
					 struct m0_conf_pver_info *info);
typedef void m0_free_fn(void *data);

#endif
