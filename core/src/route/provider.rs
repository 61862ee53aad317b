//! Who has a route table.

use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A provider of route tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Provider {
    /// The kernel of this host.
    Linux,
    /// Consul's KV store.
    Consul,
    /// Amazon's EC2.
    Aws,
    /// One of Microsoft's clouds.
    Azure(Cloud),
    /// Google's Compute Engine.
    Gcp,
}

/// One of Microsoft's clouds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// Everybody's.
    Public,
    /// The United States government's.
    Government,
    /// China's.
    China,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Linux,
        Self::Consul,
        Self::Aws,
        Self::Azure(Cloud::Public),
        Self::Azure(Cloud::Government),
        Self::Azure(Cloud::China),
        Self::Gcp,
    ];

    /// As `-p` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Consul => "consul",
            Self::Aws => "aws",
            Self::Azure(Cloud::Public) => "azure",
            Self::Azure(Cloud::Government) => "azusgov",
            Self::Azure(Cloud::China) => "azchina",
            Self::Gcp => "gcp",
        }
    }

    /// The provider of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }

    /// How long an event handler may take.
    #[must_use]
    pub const fn deadline(self) -> Duration {
        Duration::from_secs(match self {
            Self::Linux | Self::Consul => 5,
            Self::Aws => 30,
            Self::Azure(_) | Self::Gcp => 180,
        })
    }
}

impl From<Provider> for &'static str {
    fn from(provider: Provider) -> Self {
        provider.name()
    }
}

impl TryFrom<String> for Provider {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, &'static str> {
        Self::of(&name).ok_or("no such provider")
    }
}
