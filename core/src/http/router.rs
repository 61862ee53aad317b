//! The dispatch of requests: a table of paths and methods. A known path with another method is answered with
//! 405 and its methods in `Allow`.

use super::answer::Answer;

/// One route of a table.
#[derive(Clone, Copy, Debug)]
pub struct Route<H> {
    method: Method,
    path: &'static str,
    handler: H,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// GET and HEAD: the host omits the body for HEAD.
    Get,
    Post,
}

/// Returns a route for GET.
pub const fn get<H>(path: &'static str, handler: H) -> Route<H> {
    Route { method: Method::Get, path, handler }
}

/// Returns a route for POST.
pub const fn post<H>(path: &'static str, handler: H) -> Route<H> {
    Route { method: Method::Post, path, handler }
}

impl<H> Route<H> {
    /// Returns the path.
    #[must_use]
    pub const fn path(&self) -> &'static str {
        self.path
    }
}

/// Returns the path of a target without its query.
#[must_use]
pub fn path(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

/// Returns a parameter of a target's query.
#[must_use]
pub fn query<'t>(target: &'t str, name: &str) -> Option<&'t str> {
    let (_, query) = target.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(of, _)| *of == name).map(|(_, value)| value)
}

/// Returns the handler of a request.
///
/// # Errors
///
/// The response to a request without a handler: 404, or 405 with the methods of its path.
pub fn find<H: Copy>(routes: &[Route<H>], method: &str, target: &str) -> Result<H, Answer> {
    let path = path(target);
    let asked = match method {
        "GET" | "HEAD" => Some(Method::Get),
        "POST" => Some(Method::Post),
        _ => None,
    };
    let here = || routes.iter().filter(|route| route.path == path);
    if let Some(route) = here().find(|route| Some(route.method) == asked) {
        return Ok(route.handler);
    }
    let has = |method| here().any(|route| route.method == method);
    Err(match (has(Method::Get), has(Method::Post)) {
        (true, true) => Answer::not_allowed("GET, HEAD, POST"),
        (true, false) => Answer::not_allowed("GET, HEAD"),
        (false, true) => Answer::not_allowed("POST"),
        (false, false) => Answer::not_found(path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_handler_or_hears_what_its_path_has() {
        let routes = [get("/a", 1), post("/a", 2), post("/b", 3), get("/c", 4)];
        let of = |method, target| find(&routes, method, target).map_err(|a| (a.status, a.allow));
        assert_eq!(of("GET", "/a?x=/b"), Ok(1));
        assert_eq!(of("HEAD", "/a"), Ok(1));
        assert_eq!(of("POST", "/a"), Ok(2));
        assert_eq!(of("PUT", "/a"), Err((405, "GET, HEAD, POST")));
        assert_eq!(of("GET", "/b"), Err((405, "POST")));
        assert_eq!(of("POST", "/c"), Err((405, "GET, HEAD")));
        assert_eq!(of("GET", "/a/"), Err((404, "")));
    }
}
