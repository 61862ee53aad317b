//! The providers of route tables.

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
    /// Amazon EC2.
    Aws,
    /// A cloud of Microsoft.
    Azure(Cloud),
    /// Google Compute Engine.
    Gcp,
}

/// A cloud of Microsoft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// The public cloud.
    Public,
    /// The cloud of the United States government.
    Government,
    /// The cloud for China.
    China,
}

impl Provider {
    /// All providers.
    pub const ALL: [Self; 7] = [
        Self::Linux,
        Self::Consul,
        Self::Aws,
        Self::Azure(Cloud::Public),
        Self::Azure(Cloud::Government),
        Self::Azure(Cloud::China),
        Self::Gcp,
    ];

    /// Returns the provider's name for `-p`.
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

    /// Returns the provider with this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.name() == name)
    }

    /// Returns the maximum duration of an event handler.
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
