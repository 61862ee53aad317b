//! The settings as they are given: as flags, as variables, and in a file with the same names.

use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use super::url::{ConsulUrl, Datacenter};
#[cfg(feature = "services")]
use super::values::Label;
use super::values::{
    FidText, HostPort, LogFormat, LogLevel, MotrTransport, OnUnexpectedMessage, Size, Span,
    StateDir, Switch,
};

/// The settings of `hax run` as flags and environment variables give them, and, with the same names,
/// a file.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flags {
    /// The local Consul agent: http://HOST:PORT, https://HOST:PORT or unix:///PATH
    /// [default: $CONSUL_HTTP_ADDR with $CONSUL_HTTP_SSL, or http://127.0.0.1:8500].
    #[arg(long, env = "HAX_CONSUL", value_name = "URL", help_heading = "Consul")]
    pub consul: Option<ConsulUrl>,
    /// File with the ACL token for Consul, read again when Consul refuses the token and on SIGHUP. A
    /// token itself is no flag: everybody on the machine sees the flags of a process
    /// [default: $CONSUL_HTTP_TOKEN_FILE, or the token in $CONSUL_HTTP_TOKEN].
    #[arg(long, env = "HAX_CONSUL_TOKEN_FILE", value_name = "FILE", help_heading = "Consul")]
    pub consul_token_file: Option<PathBuf>,
    /// File with USER:PASSWORD for a proxy before Consul that wants basic authentication
    /// [default: $CONSUL_HTTP_AUTH].
    #[arg(long, env = "HAX_CONSUL_AUTH_FILE", value_name = "FILE", help_heading = "Consul")]
    pub consul_auth_file: Option<PathBuf>,
    /// Certificate authorities to trust for https://, PEM [default: $CONSUL_CACERT, or the machine's].
    #[arg(long, env = "HAX_CONSUL_CA_FILE", value_name = "FILE", help_heading = "Consul")]
    pub consul_ca_file: Option<PathBuf>,
    /// Directory of such files [default: $CONSUL_CAPATH].
    #[arg(long, env = "HAX_CONSUL_CA_DIR", value_name = "DIR", help_heading = "Consul")]
    pub consul_ca_dir: Option<PathBuf>,
    /// hax's own certificate, PEM, for a Consul with verify_incoming [default: $CONSUL_CLIENT_CERT].
    #[arg(long, env = "HAX_CONSUL_CERT", value_name = "FILE", help_heading = "Consul")]
    pub consul_cert: Option<PathBuf>,
    /// Its private key, PEM [default: $CONSUL_CLIENT_KEY].
    #[arg(long, env = "HAX_CONSUL_KEY", value_name = "FILE", help_heading = "Consul")]
    pub consul_key: Option<PathBuf>,
    /// The name that Consul's certificate must have [default: $CONSUL_TLS_SERVER_NAME, or the URL's
    /// host].
    #[arg(long, env = "HAX_CONSUL_SERVER_NAME", value_name = "NAME", help_heading = "Consul")]
    pub consul_server_name: Option<String>,
    /// Whether Consul's certificate is verified [default: $CONSUL_HTTP_SSL_VERIFY, or true].
    #[arg(
        long,
        env = "HAX_CONSUL_TLS_VERIFY",
        value_name = "BOOL",
        num_args = 1,
        help_heading = "Consul"
    )]
    pub consul_tls_verify: Option<bool>,
    /// The datacenter to ask, where it is not the agent's own [default: the agent's].
    #[arg(long, env = "HAX_CONSUL_DATACENTER", value_name = "NAME", help_heading = "Consul")]
    pub consul_datacenter: Option<Datacenter>,
    /// Time limit of one request to Consul; blocking queries have it on top of their wait [default: 5s].
    #[arg(long, env = "HAX_CONSUL_TIMEOUT", value_name = "TIME", help_heading = "Consul")]
    pub consul_timeout: Option<Span>,
    /// The longest answer that is taken from Consul; the configuration of 100,000 objects is 32 MB
    /// [default: 64MiB].
    #[arg(long, env = "HAX_CONSUL_ANSWER_MAX", value_name = "SIZE", help_heading = "Consul")]
    pub consul_answer_max: Option<Size>,

    /// Name of this node [default: $HARE_HAX_NODE_NAME, or what the Consul agent is called].
    #[arg(long, env = "HAX_NODE", value_name = "NAME", help_heading = "This node")]
    pub node: Option<String>,
    /// Fid of hax's own process, for example 0x7200000000000001:0x4 [default: from Consul].
    #[arg(long, env = "HAX_FID", value_name = "FID", help_heading = "This node")]
    pub fid: Option<FidText>,
    /// Where HTTP is served, there alone [default: from Consul, the address of the agent of hax's entry
    /// with the entry's `http_port`, or 8008, and all addresses of the node's name with that port].
    #[arg(long, env = "HAX_HTTP", value_name = "ADDRESS:PORT", help_heading = "This node")]
    pub http: Option<HostPort>,
    /// Serve HTTPS with this certificate, PEM, its chain after it [default: from Consul, the key
    /// ssl/hax, unless --http is given].
    #[arg(long, env = "HAX_HTTP_CERT", value_name = "FILE", help_heading = "This node")]
    pub http_cert: Option<PathBuf>,
    /// The certificate's private key, PEM.
    #[arg(long, env = "HAX_HTTP_KEY", value_name = "FILE", help_heading = "This node")]
    pub http_key: Option<PathBuf>,
    /// File with a token that HTTP requests must bring (Authorization: Bearer TOKEN), except GET / and
    /// the probes /healthz and /readyz; Consul's watches can send such a header [default: none].
    #[arg(long, env = "HAX_HTTP_TOKEN_FILE", value_name = "FILE", help_heading = "This node")]
    pub http_token_file: Option<PathBuf>,

    /// How to speak with Motr [default: auto].
    #[arg(long, env = "HAX_MOTR", value_name = "HOW", help_heading = "Motr")]
    pub motr: Option<MotrTransport>,
    /// Motr's library, where it is used [default: the libmotr.so.2 that the system has].
    #[arg(long, env = "HAX_LIBMOTR", value_name = "FILE", help_heading = "Motr")]
    pub libmotr: Option<PathBuf>,
    /// Name of hax's endpoint: inet:stream:IP@PORT or IP@tcp:12345:PORTAL:TMID, or with Motr's library
    /// inet:tcp:IP@PORT [default: from Consul].
    #[arg(long, env = "HAX_MOTR_ENDPOINT", value_name = "NAME", help_heading = "Motr")]
    pub motr_endpoint: Option<String>,
    /// How long pending notes are kept for a process that is away [default: 60s].
    #[arg(long, env = "HAX_LINK_GRACE", value_name = "TIME", help_heading = "Motr")]
    pub link_grace: Option<Span>,
    /// Folder for the state with which links outlive hax, so that no process notices a restart: on a
    /// filesystem in memory; none: links end with hax [default: $RUNTIME_DIRECTORY, or /run/hax].
    #[arg(long, env = "HAX_STATE_DIR", value_name = "DIR|none", help_heading = "Motr")]
    pub state_dir: Option<StateDir>,
    /// End the links at a stop, because no other hax follows on this node [default: false].
    #[arg(long, env = "HAX_END_LINKS", value_name = "BOOL", num_args = 0..=1,
        require_equals = true, default_missing_value = "true", help_heading = "Motr")]
    pub end_links: Option<bool>,
    /// Serve processes too that m0conf does not know; for a lab [default: false].
    #[arg(long, env = "HAX_ANY_PROCESS", value_name = "BOOL", num_args = 0..=1,
        require_equals = true, default_missing_value = "true", help_heading = "Motr")]
    pub any_process: Option<bool>,
    /// How long the checks of a process whose link lives must fail until it is declared stopped (one
    /// whose link is down is at once), and for how long the leader waits for a node that fails or has
    /// left Consul's catalog [default: 5s].
    #[arg(long, env = "HAX_SILENCE", value_name = "TIME", help_heading = "Motr")]
    pub silence: Option<Span>,
    /// What KEEPALIVE, BE_IO_ERR and SNS_ERR messages do, which the specification says to panic on
    /// [default: panic].
    #[arg(long, env = "HAX_ON_UNEXPECTED_MESSAGE", value_name = "WHAT", help_heading = "Motr")]
    pub on_unexpected_message: Option<OnUnexpectedMessage>,

    /// Do not stand for election: another program elects the leader [default: false].
    #[arg(long, env = "HAX_NO_ELECT", value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", help_heading = "Behaviour")]
    pub no_elect: Option<bool>,
    /// Exchange process events with the old daemons of this cluster over the broadcast queue;
    /// off where all nodes run this hax [default: on].
    #[arg(long, env = "HAX_BQ", value_name = "on|off", help_heading = "Behaviour")]
    pub bq: Option<Switch>,
    /// How often the leader records the free and used space, in stats/filesystem; 0s: never. Only
    /// where Motr's library is used [default: 10m].
    #[arg(long, env = "HAX_FILESYSTEM_STATS", value_name = "TIME", help_heading = "Behaviour")]
    pub filesystem_stats: Option<Span>,
    /// How often it records the bytes of each user, in ioservices/ and bytecount/; 0s: never. It
    /// asks each I/O service, and writes to Consul what has changed [default: 10m].
    #[arg(long, env = "HAX_BYTE_COUNTS", value_name = "TIME", help_heading = "Behaviour")]
    pub byte_counts: Option<Span>,
    /// How long a stop may take to finish the work in progress [default: 10s].
    #[arg(long, env = "HAX_DRAIN", value_name = "TIME", help_heading = "Behaviour")]
    pub drain: Option<Span>,
    /// The longest HTTP request body that is accepted [default: 4MiB].
    #[arg(long, env = "HAX_HTTP_BODY_MAX", value_name = "SIZE", help_heading = "Behaviour")]
    pub http_body_max: Option<Size>,
    /// What all HTTP request bodies may have together; half of it is kept for this node and for who shows
    /// the token [default: 64MiB, hax-smol: 8MiB; twice http_body_max at least].
    #[arg(long, env = "HAX_HTTP_BODIES_MAX", value_name = "SIZE", help_heading = "Behaviour")]
    pub http_bodies_max: Option<Size>,
    /// How many HTTP connections there may be at a time: a quarter is kept for this node, another
    /// address has a quarter at most, and idle ones are closed for new ones [default: 512].
    #[arg(long, env = "HAX_HTTP_CONNECTIONS_MAX", value_name = "N", help_heading = "Behaviour")]
    pub http_connections_max: Option<NonZeroU16>,
    /// How many connections Motr processes may hold at a time [default: 2048].
    #[arg(long, env = "HAX_MOTR_CONNECTIONS_MAX", value_name = "N", help_heading = "Behaviour")]
    pub motr_connections_max: Option<NonZeroU16>,

    /// Run service instances on this node, with its keeper [default: off].
    #[cfg(feature = "services")]
    #[arg(long, env = "HAX_SERVICES", value_name = "on|off", help_heading = "Services")]
    pub services: Option<Switch>,
    /// A label of this node, by which types choose their nodes: KEY=VALUE; may be given several times
    /// [default: none].
    #[cfg(feature = "services")]
    #[arg(
        long,
        env = "HAX_LABEL",
        value_name = "KEY=VALUE",
        value_delimiter = ',',
        help_heading = "Services"
    )]
    pub label: Option<Vec<Label>>,
    /// The folder of this node's keeper; where none runs there, hax starts one [default:
    /// /run/hax/keeper].
    #[cfg(feature = "services")]
    #[arg(long, env = "HAX_KEEPER", value_name = "DIR", help_heading = "Services")]
    pub keeper: Option<PathBuf>,
    /// A folder of programs, or one program, that probes and the keeper that hax starts may run besides
    /// those below /usr/lib/hax, /etc/hax and /usr/lib/ocf; may be given several times.
    #[cfg(feature = "services")]
    #[arg(
        long,
        env = "HAX_ALLOW_EXEC",
        value_name = "PATH",
        value_delimiter = ':',
        help_heading = "Services"
    )]
    pub allow_exec: Option<Vec<PathBuf>>,
    /// Serve HTTP at this unix socket too, for its user and group, who may ask for changes; none: no
    /// socket [default: /run/hax/http/socket where services are on].
    #[cfg(feature = "services")]
    #[arg(long, env = "HAX_HTTP_SOCKET", value_name = "PATH", help_heading = "Services")]
    pub http_socket: Option<PathBuf>,
    /// Hear what service instances tell at this unix socket, which any user of the node can reach; none: no
    /// socket [default: /run/hax/instance/socket where services are on].
    #[cfg(feature = "services")]
    #[arg(long, env = "HAX_INSTANCE_SOCKET", value_name = "PATH", help_heading = "Services")]
    pub instance_socket: Option<PathBuf>,
    /// The folder of rule programs, each named by the kind of event that it is to hear of: KIND or KIND.NAME;
    /// none: no programs [default: /etc/hax/rules].
    #[cfg(feature = "services")]
    #[arg(long, env = "HAX_RULES", value_name = "DIR", help_heading = "Services")]
    pub rules: Option<PathBuf>,
    /// How long this node may be silent until it counts as down, and its coordinator as gone
    /// [default: 1s].
    #[cfg(feature = "services")]
    #[arg(long, env = "HAX_NODE_DOWN", value_name = "TIME", help_heading = "Services")]
    pub node_down: Option<Span>,

    /// How log lines look [default: human].
    #[arg(long, env = "HAX_LOG", value_name = "FORMAT", help_heading = "Log")]
    pub log: Option<LogFormat>,
    /// Which log lines are written [default: info].
    #[arg(
        long,
        env = "HAX_LOG_LEVEL",
        value_name = "LEVEL",
        ignore_case = true,
        help_heading = "Log"
    )]
    pub log_level: Option<LogLevel>,
    /// Write all that comes in, from Motr, Consul and HTTP, to this file, or to FILE.1 and so on where
    /// it exists; what hax did can be replayed from it. It holds no token [default: none].
    #[arg(long, env = "HAX_JOURNAL", value_name = "FILE", help_heading = "Log")]
    pub journal: Option<PathBuf>,
    /// How long the journal may get; then it ends [default: 1GiB].
    #[arg(long, env = "HAX_JOURNAL_MAX", value_name = "SIZE", help_heading = "Log")]
    pub journal_max: Option<Size>,
}
