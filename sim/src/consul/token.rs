//! What Consul's access control lets the owner of a token do, as far as it shows in answers: a thing that is
//! not its to read is left out of lists, with the status and the index of a list that has nothing in it; by
//! its name it is refused; and a token that is not known is refused everything (Consul 1.8.7).

use bytes::Bytes;

use super::http::Response;

/// A token.
#[derive(Clone, Debug, Default)]
pub struct Token {
    hidden: Vec<String>,
    revoked: bool,
}

impl Token {
    /// It may not read any more what is below these paths of the API: `/v1/kv/m0conf`, `/v1/health/`.
    pub fn hide(&mut self, path: &str) {
        self.hidden.push(path.to_owned());
    }

    /// It is not known any more. What waits goes on waiting.
    pub fn revoke(&mut self) {
        self.revoked = true;
    }

    /// It may do all again.
    pub fn mend(&mut self) {
        *self = Self::default();
    }

    fn hides(&self, target: &str) -> bool {
        self.hidden.iter().any(|path| target.starts_with(path))
    }

    /// The status and the text with which a request is refused, if it is.
    #[must_use]
    pub fn refuses(&self, method: &str, target: &str) -> Option<(u16, &'static str)> {
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

    /// What of an answer it is shown.
    #[must_use]
    pub fn shown(&self, target: &str, response: Response) -> Response {
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
