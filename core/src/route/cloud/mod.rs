//! Routes in the clouds: `aws`, `azure` and `gcp`.
//!
//! The work of one event is a small state machine. It returns the requests and reads the replies. The event
//! handler obtains the credentials, authenticates the requests, and carries them over HTTP. It repeats a
//! request whose failure may pass, so every request here has the same effect when it is sent twice.

pub mod aws;
pub mod azure;
pub mod gcp;
pub mod http;
mod said;
mod step;
pub mod time;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use super::job::Job;
use super::provider::Provider;
use http::Reply;
use step::parameter;

pub use said::bounded;
pub use step::{Step, Work};

/// Creates the work of a job. `base` is the URL of the cloud's API, without a path. `random` is a number that
/// no other handler has.
///
/// # Errors
///
/// The job lacks a required parameter, or its provider is not a cloud.
pub fn work(job: &Job, base: &str, random: u128) -> Result<Box<dyn Work>, String> {
    match job.provider {
        Provider::Aws => Ok(Box::new(aws::Work::new(job)?)),
        Provider::Azure(_) => Ok(Box::new(azure::Work::new(job, base)?)),
        Provider::Gcp => Ok(Box::new(gcp::Work::new(job, random)?)),
        Provider::Linux | Provider::Consul => Err(format!("{} is no cloud", job.provider.name())),
    }
}

/// Returns the default URL of the cloud's API.
///
/// # Errors
///
/// The job lacks a required parameter, or its provider is not a cloud.
pub fn base(job: &Job) -> Result<String, String> {
    match job.provider {
        Provider::Aws => Ok(aws::base(parameter(job, "region", "-rg")?)),
        Provider::Azure(cloud) => Ok(azure::login::management(cloud).into()),
        Provider::Gcp => Ok(gcp::BASE.into()),
        Provider::Linux | Provider::Consul => Err(format!("{} is no cloud", job.provider.name())),
    }
}

/// Returns whether the failure may pass, so that the same request is sent again.
#[must_use]
pub fn may_pass(provider: Provider, reply: &Reply) -> bool {
    matches!(reply.status, 408 | 429 | 500 | 502 | 503 | 504)
        || match provider {
            Provider::Aws => aws::may_pass(reply),
            Provider::Azure(_) => azure::may_pass(reply),
            Provider::Gcp => gcp::may_pass(reply),
            Provider::Linux | Provider::Consul => false,
        }
}

/// Returns whether the cloud refused the credentials themselves, and not what they permit. Credentials that
/// were kept from an earlier event are then obtained again.
#[must_use]
pub fn is_unknown(provider: Provider, reply: &Reply) -> bool {
    reply.status == 401 || provider == Provider::Aws && aws::is_unknown(reply)
}
