//! The providers of the redundancy nodes of this cast. Each index has its own provider, and a parameter that
//! identifies the index. Some indexes are those of members of groups.

/// A provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Linux,
    Aws,
    Azure,
    Gcp,
    /// Consul's KV store. Only members of a group have it.
    Consul,
}

/// One parameter of a provider.
pub(super) struct Parameter {
    pub(super) flag: &'static str,
    pub(super) name: &'static str,
    pub(super) required: bool,
    /// Returns a valid value for the redundancy node of this index, one of several.
    value: fn(u16, u64) -> String,
}

const fn parameter(
    flag: &'static str,
    name: &'static str,
    required: bool,
    value: fn(u16, u64) -> String,
) -> Parameter {
    Parameter { flag, name, required, value }
}

const LINUX: [Parameter; 4] = [
    parameter("-t", "table", true, |index, _| format!("{}", 1_000 + index)),
    parameter("-r", "route", true, |index, _| format!("192.0.{index}.0/24")),
    parameter("-n", "nextHop", true, |index, n| format!("10.0.{n}.{index}")),
    parameter("-dev", "device", false, |_, n| format!("eth{n}")),
];

const AWS: [Parameter; 4] = [
    parameter("-t", "routeTableId", true, |index, _| format!("rtb-{index:08x}")),
    parameter("-rg", "region", true, |_, n| format!("us-east-{n}")),
    parameter("-n", "eniId", true, |_, n| format!("eni-{n:08x}")),
    parameter("-r", "route", false, |index, n| format!("10.{index}.{n}.0/24")),
];

const AZURE: [Parameter; 3] = [
    parameter("-t", "routeTableName", true, |index, _| format!("table {index}")),
    parameter("-n", "nextHop", true, |index, n| format!("10.1.{n}.{index}")),
    // Now and then the value exceeds the capacity of a pipe.
    parameter("-g", "resourceGroup", false, |_, n| match n {
        15 => "group ".repeat(20_000),
        n => format!("\"group\" {n}"),
    }),
];

const GCP: [Parameter; 7] = [
    parameter("-a", "routeName", true, |index, _| format!("route-{index}")),
    parameter("-g", "project", true, |_, n| format!("project {n}")),
    parameter("-b", "peerRouteName", true, |index, _| format!("peer-{index}")),
    parameter("-n", "nextHopIp", true, |index, n| format!("10.2.{n}.{index}")),
    parameter("-o", "hopPriority", true, |_, n| format!("{}", 1 + n)),
    parameter("-r", "route", true, |index, _| format!("198.51.{index}.0/24")),
    parameter("-v", "vpc", true, |_, _| "net".into()),
];

const CONSUL: [Parameter; 3] = [
    parameter("-t", "table", true, |index, _| format!("edge-{index}")),
    parameter("-r", "route", true, |index, _| format!("192.0.{index}.0/24")),
    parameter("-n", "nextHop", true, |index, n| format!("10.0.{n}.{index}")),
];

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Linux, Self::Aws, Self::Azure, Self::Gcp, Self::Consul];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Aws => "aws",
            Self::Azure => "azure",
            Self::Gcp => "gcp",
            Self::Consul => "consul",
        }
    }

    /// Returns its parameters. The first one identifies the index.
    pub(super) const fn parameters(self) -> &'static [Parameter] {
        match self {
            Self::Linux => &LINUX,
            Self::Aws => &AWS,
            Self::Azure => &AZURE,
            Self::Gcp => &GCP,
            Self::Consul => &CONSUL,
        }
    }
}

impl Parameter {
    /// Returns a valid value for the redundancy node of this index.
    pub(super) fn value(&self, index: u16, n: u64) -> String {
        (self.value)(index, n)
    }
}

/// The number of indexes of nodes without a group.
pub(super) const INDEXES: u16 = 10;

/// The indexes of the members of groups.
pub(super) const MEMBERS: [u16; 4] = [11, 12, 13, 14];

/// Returns the provider of the redundancy node of this index.
pub(super) fn of_index(index: u16) -> Kind {
    match index {
        11 | 13 => Kind::Linux,
        12 | 14 => Kind::Consul,
        _ => [Kind::Linux, Kind::Aws, Kind::Azure, Kind::Gcp][usize::from(index) % 4],
    }
}

/// Returns the index from a provider's first parameter.
pub(super) fn index_of(provider: &str, parameter: impl Fn(&str) -> Option<String>) -> Option<u16> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == provider)?;
    let [first, ..] = kind.parameters() else { return None };
    let told = parameter(first.name)?;
    let mut indexes = (1..=INDEXES).chain(MEMBERS);
    indexes.find(|index| of_index(*index) == kind && first.value(*index, 0) == told)
}
