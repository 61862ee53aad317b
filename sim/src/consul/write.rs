//! The routes: the methods of each path, and its handler.

use super::http::{Answer, Request, Target, bad, failed, number};
use super::kv::Undo;
use super::rows::Entry;
use super::{Consul, MAX_BODY, Write, too_large};

/// The methods of the paths that have their own. A prefix ends with a slash.
const ROUTES: &[(&str, &str)] = &[
    ("/v1/agent/check/deregister/", "PUT"),
    ("/v1/agent/check/fail/", "PUT"),
    ("/v1/agent/check/pass/", "PUT"),
    ("/v1/agent/check/register", "PUT"),
    ("/v1/agent/check/update/", "PUT"),
    ("/v1/agent/check/warn/", "PUT"),
    ("/v1/agent/checks", "GET"),
    ("/v1/agent/members", "GET"),
    ("/v1/agent/self", "GET"),
    ("/v1/agent/service/", "GET"),
    ("/v1/agent/service/deregister/", "PUT"),
    ("/v1/agent/service/register", "PUT"),
    ("/v1/agent/services", "GET"),
    ("/v1/catalog/datacenters", "GET"),
    ("/v1/catalog/deregister", "PUT"),
    ("/v1/catalog/node/", "GET"),
    ("/v1/catalog/nodes", "GET"),
    ("/v1/catalog/register", "PUT"),
    ("/v1/catalog/service/", "GET"),
    ("/v1/catalog/services", "GET"),
    ("/v1/health/checks/", "GET"),
    ("/v1/health/node/", "GET"),
    ("/v1/health/service/", "GET"),
    ("/v1/health/state/", "GET"),
    ("/v1/kv/", "GET,PUT,DELETE"),
    ("/v1/session/create", "PUT"),
    ("/v1/session/destroy/", "PUT"),
    ("/v1/session/info/", "GET"),
    ("/v1/session/list", "GET"),
    ("/v1/session/node/", "GET"),
    ("/v1/session/renew/", "PUT"),
    ("/v1/status/leader", "GET"),
    ("/v1/status/peers", "GET"),
    ("/v1/txn", "PUT"),
];

/// Returns the methods of a path, by the longest matching pattern.
fn methods(path: &str) -> Option<&'static str> {
    let fits =
        |pattern: &str| path == pattern || (pattern.ends_with('/') && path.starts_with(pattern));
    let found = ROUTES.iter().filter(|(pattern, _)| fits(pattern));
    found.max_by_key(|(pattern, _)| pattern.len()).map(|(_, methods)| *methods)
}

impl Consul {
    /// Returns the response to a request, unless the request has to wait for it.
    pub(super) fn answer(&mut self, request: &Request) -> Option<Answer> {
        let target = Target::parse(&request.target);
        let Some(methods) = methods(&target.path).filter(|_| self.has_agent(request.agent)) else {
            return Some(Answer::empty(404));
        };
        let method = request.method.as_str();
        let allow = format!("OPTIONS,{methods}");
        if method == "OPTIONS" {
            return Some(Answer::empty(200).with("Allow", allow));
        }
        if !methods.split(',').any(|m| m == method) {
            let text = format!("method {method} not allowed");
            return Some(Answer::text(405, text).with("Allow", allow));
        }
        if method == "GET" {
            if let Some(answer) = self.read(request, &target) {
                return answer;
            }
            if let Some(turned) = self.check_info_access(request, &target) {
                return turned;
            }
            return Some(self.info(request.agent, &target));
        }
        let write = Write { target: &target, body: &request.body };
        // An agent handles the requests that concern only itself, with or without a leader.
        if let Some(answer) = self.agent_write(request.agent, &write) {
            return Some(answer);
        }
        if let Some(turned) = self.check_access(request, false) {
            return turned;
        }
        Some(self.write(request, &write))
    }

    fn write(&mut self, request: &Request, write: &Write<'_>) -> Answer {
        if !matches!(write.target.text("dc"), "" | "dc1") {
            return failed("No path to datacenter");
        }
        if let Some(answer) = self.session_write(request.agent, write) {
            return answer;
        }
        if let Some(answer) = self.catalog_write(write) {
            return answer;
        }
        let result = match write.target.path.strip_prefix("/v1/kv/") {
            Some(key) if request.method == "PUT" => self.kv_put(key, write),
            Some(key) => self.kv_delete(key, write.target),
            None => self.txn(write.body),
        };
        result.unwrap_or_else(|refusal| refusal)
    }

    fn kv_put(&mut self, key: &str, write: &Write<'_>) -> Result<Answer, Answer> {
        let target = write.target;
        if key.is_empty() {
            return Err(bad("Missing key name"));
        }
        conflicting(target, &["cas", "acquire", "release"])?;
        let number_of = |name| target.get(name).map(number).transpose().map_err(failed);
        let (flags, cas) = (number_of("flags")?.unwrap_or(0), number_of("cas")?);
        if write.body.len() > MAX_BODY {
            return Err(too_large(write.body.len(), "kv_max_value_size"));
        }
        let entry = Entry::new(key, Some(write.body.clone()), flags);
        let mut undo = Undo::default();
        if target.has("acquire") && self.store.lock_delayed(key) {
            // Consul refuses the write before it reaches the log.
            return Ok(Answer::json(&false, self.pretty));
        }
        let index = self.store.next_index();
        let done = if let Some(cas) = cas {
            self.store.set_cas(index, entry, cas, &mut undo).is_some()
        } else if let Some(session) = target.get("acquire") {
            self.store.lock(index, entry, session, &mut undo).map_err(failed)?.is_some()
        } else if let Some(session) = target.get("release") {
            self.store.unlock(index, entry, session, &mut undo).map_err(failed)?.is_some()
        } else {
            self.store.set(index, entry, &mut undo);
            true
        };
        Ok(Answer::json(&done, self.pretty))
    }

    fn kv_delete(&mut self, key: &str, target: &Target) -> Result<Answer, Answer> {
        conflicting(target, &["recurse", "cas"])?;
        if key.is_empty() && !target.has("recurse") {
            return Err(bad("Missing key name"));
        }
        let cas = target.get("cas").map(number).transpose().map_err(failed)?;
        let mut undo = Undo::default();
        let index = self.store.next_index();
        let done = if target.has("recurse") {
            self.store.delete_tree(index, key, &mut undo);
            true
        } else if let Some(cas) = cas {
            self.store.delete_cas(index, key, cas, &mut undo)
        } else {
            self.store.delete(index, key, &mut undo);
            true
        };
        Ok(Answer::json(&done, self.pretty))
    }
}

fn conflicting(target: &Target, flags: &[&str]) -> Result<(), Answer> {
    if flags.iter().filter(|flag| target.has(flag)).count() > 1 {
        return Err(bad(format!("Conflicting flags: {}", target.encoded())));
    }
    Ok(())
}
