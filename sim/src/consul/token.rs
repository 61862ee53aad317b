//! The effect of Consul's access control on responses, as far as the owner of a token sees it (Consul 1.8.7).
//!
//! An object that the token may not read is missing in lists: the status and the index are those of an empty
//! list. A request for such an object by its name is refused. A token that Consul does not know is refused
//! everything.

use bytes::Bytes;

use super::http::Response;

/// A token.
#[derive(Clone, Debug, Default)]
pub struct Token {
    hidden: Vec<String>,
    revoked: bool,
}

impl Token {
    /// Takes away the right to read below a path of the API: `/v1/kv/m0conf`, `/v1/health/`.
    pub fn hide(&mut self, path: &str) {
        self.hidden.push(path.to_owned());
    }

    /// Revokes the token: Consul does not know it any more. Waiting queries go on waiting.
    pub fn revoke(&mut self) {
        self.revoked = true;
    }

    /// Gives the token all rights again.
    pub fn restore(&mut self) {
        *self = Self::default();
    }

    fn hides(&self, target: &str) -> bool {
        self.hidden.iter().any(|path| target.starts_with(path))
    }

    /// Returns the status and the text of the refusal of a request, if it is refused.
    #[must_use]
    pub fn refusal(&self, method: &str, target: &str) -> Option<(u16, &'static str)> {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let list = query.split('&').any(|part| matches!(part, "recurse" | "keys"));
        let one = target.starts_with("/v1/kv/") && !list;
        if self.revoked {
            Some((403, "ACL not found"))
        } else if method == "GET" && one && self.hides(target) {
            Some((403, "Permission denied"))
        } else {
            None
        }
    }

    /// Returns the part of a response that the token may see.
    #[must_use]
    pub fn filter(&self, target: &str, response: Response) -> Response {
        if !self.hides(target) || response.status != 200 {
            return response;
        }
        let (status, body) = if target.starts_with("/v1/kv/") {
            (404, Bytes::new())
        } else {
            (200, Bytes::from_static(b"[]"))
        };
        Response { status, body, ..response }
    }
}
