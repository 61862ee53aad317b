//! The reports of processes and services about themselves (`conf/ha.h`).

use core::fmt;

/// `m0_conf_ha_process`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessEvent {
    /// The event.
    pub event: ProcessEventKind,
    /// The type of the process.
    pub kind: ProcessType,
    /// The process's pid on its host.
    pub pid: u64,
}

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident($prefix:literal) { $($(#[$vdoc:meta])* $variant:ident = $n:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
            /// A number not defined by Motr.
            Undefined(u64),
        }

        impl $name {
            /// Returns the value for the wire's number. Total.
            #[must_use]
            pub const fn from_wire(n: u64) -> Self {
                match n { $($n => Self::$variant,)* n => Self::Undefined(n) }
            }

            /// Returns the wire's number.
            #[must_use]
            pub const fn to_wire(self) -> u64 {
                match self { $(Self::$variant => $n,)* Self::Undefined(n) => n }
            }

            /// Returns Motr's short name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* Self::Undefined(_) => "UNDEFINED" }
            }

            /// Returns Motr's full name, as in Consul's KV; `None` for an undefined number.
            #[must_use]
            pub const fn kv_name(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => Some(concat!($prefix, $text)),)*
                    Self::Undefined(_) => None,
                }
            }

            /// Returns the value with this full name.
            #[must_use]
            pub fn from_kv_name(name: &str) -> Option<Self> {
                match name { $(concat!($prefix, $text) => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

wire_enum! {
    /// `m0_conf_ha_process_event`.
    ProcessEventKind("M0_CONF_HA_PROCESS_") {
        /// The process begins to start.
        Starting = 0 "STARTING",
        /// The process serves.
        Started = 1 "STARTED",
        /// The process begins to stop.
        Stopping = 2 "STOPPING",
        /// The process has stopped: its last event.
        Stopped = 3 "STOPPED",
        /// The process has replayed its transactions.
        DtmRecovered = 4 "DTM_RECOVERED",
    }
}

wire_enum! {
    /// `m0_conf_ha_process_type`, with one additional type in Consul's KV: the bridge's own.
    ProcessType("M0_CONF_HA_PROCESS_") {
        /// A client.
        Other = 0 "OTHER",
        /// A client in the kernel.
        Kernel = 1 "KERNEL",
        /// The formatter of a server's devices, under the server's own fid.
        Mkfs = 2 "M0MKFS",
        /// A server.
        M0d = 3 "M0D",
        /// The bridge itself. It occurs in Consul only, never on the wire, hence the unusual number.
        Ha = 0xffff_ffff_ffff_ff00 "HA",
    }
}

/// `m0_conf_ha_service`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceEvent {
    /// `m0_conf_ha_service_event`: STARTING 0, STARTED 1, STOPPING 2, STOPPED 3, FAILED 4.
    pub event: u64,
    /// `m0_conf_service_type`.
    pub kind: u64,
    /// The pid of the service's process.
    pub pid: u64,
}
