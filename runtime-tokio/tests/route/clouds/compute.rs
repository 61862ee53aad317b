//! A fake of Google Cloud: the routes of Compute Engine, the metadata server, and the login.
//!
//! Google's own SDK works with it in a test, and so holds it to the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::http::{Answer, Asked, Server};

pub(super) const TOKEN: &str = "token-of-compute-engine";

const GLOBAL: &str = "/compute/v1/projects/p/global/";

/// The faults and the permissions of the fake.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    /// Routes cannot be inserted.
    pub(super) refuses_inserts: bool,
    /// Routes cannot be deleted.
    pub(super) refuses_deletes: bool,
    /// Operations end after their replies.
    pub(super) is_slow: bool,
    /// Operations end with an error.
    pub(super) fails: bool,
    /// The number of requests that are refused by a limit of the rate.
    pub(super) limits: u32,
}

#[derive(Debug)]
struct State {
    manner: Manner,
    routes: BTreeMap<String, Value>,
    /// The ids of requests that were carried out.
    ids: BTreeSet<String>,
    /// The operations that have not ended: what they do, and the number of looks until then.
    operations: BTreeMap<String, (Change, u32)>,
}

#[derive(Clone, Debug)]
enum Change {
    Insert(String, Value),
    Delete(String),
}

/// The fake. See the module.
#[derive(Debug)]
pub(super) struct Compute {
    state: Arc<Mutex<State>>,
    server: Server,
}

pub(super) fn route(name: &str, hop: &str, priority: u32) -> Value {
    json!({ "name": name, "destRange": "192.0.2.0/24", "priority": priority, "nextHopIp": hop,
        "network": "projects/p/global/networks/net" })
}

impl Compute {
    /// Starts the fake with the routes `first` and `peer` of two routers.
    pub(super) fn start(manner: Manner) -> Self {
        let (ids, operations) = (BTreeSet::new(), BTreeMap::new());
        let routes = BTreeMap::new();
        let mut state = State { manner, routes, ids, operations };
        for (name, hop, priority) in [("own", "10.0.0.2", 200), ("peer", "10.0.0.1", 100)] {
            state.apply(Change::Insert(name.into(), route(name, hop, priority)));
        }
        let state = Arc::new(Mutex::new(state));
        let inner = Arc::clone(&state);
        let server = Server::start(move |asked| inner.lock().unwrap().answer(asked));
        Self { state, server }
    }

    pub(super) fn url(&self) -> String {
        self.server.url()
    }

    pub(super) fn authority(&self) -> String {
        self.server.authority()
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.server.asked()
    }

    pub(super) fn set(&self, manner: Manner) {
        self.state.lock().unwrap().manner = manner;
    }

    /// Returns the names of all routes.
    pub(super) fn names(&self) -> Vec<String> {
        self.state.lock().unwrap().routes.keys().cloned().collect()
    }

    pub(super) fn find(&self, name: &str) -> Option<Value> {
        self.state.lock().unwrap().routes.get(name).cloned()
    }

    pub(super) fn put(&self, name: &str, route: Value) {
        self.state.lock().unwrap().apply(Change::Insert(name.into(), route));
    }

    pub(super) fn remove(&self, name: &str) {
        self.state.lock().unwrap().apply(Change::Delete(name.into()));
    }
}

fn error(status: u16, reason: &str, message: &str) -> Answer {
    let errors = json!([{ "domain": "global", "reason": reason, "message": message }]);
    let error = json!({ "code": status, "message": message, "errors": errors });
    Answer::json(status, &json!({ "error": error }))
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Answer {
        match asked.path() {
            "/computeMetadata/v1/instance/service-accounts/default/token" => {
                return Self::metadata(asked);
            }
            "/token" => return Self::login(asked),
            _ => {}
        }
        if asked.header("authorization") != format!("Bearer {TOKEN}") {
            return error(401, "authError", "Invalid Credentials");
        }
        if self.manner.limits > 0 {
            self.manner.limits -= 1;
            return error(403, "rateLimitExceeded", "Rate Limit Exceeded");
        }
        let Some(below) = asked.path().strip_prefix(GLOBAL) else {
            return Answer::new(404, "<html>not found</html>");
        };
        let parts: Vec<&str> = below.split('/').collect();
        match (&*asked.method, &*parts) {
            ("GET", ["routes", name]) => match self.routes.get(*name) {
                Some(route) => Answer::json(200, route),
                None => missing(name),
            },
            ("POST", ["routes"]) => self.insert(asked),
            ("DELETE", ["routes", name]) => self.delete(asked, name),
            ("POST", ["routes", name, "testIamPermissions"]) => self.test(asked, name),
            ("POST", ["operations", name, "wait"]) => self.wait(name),
            _ => error(404, "notFound", "The resource was not found."),
        }
    }

    fn metadata(asked: &Asked) -> Answer {
        if asked.header("metadata-flavor") != "Google" {
            return Answer::new(403, "Missing Metadata-Flavor:Google header.");
        }
        let token = json!({ "access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer" });
        Answer::json(200, &token).with("Metadata-Flavor", "Google")
    }

    /// Issues a token for signed claims. The test checks the signature, with the key that it made.
    fn login(asked: &Asked) -> Answer {
        let kind = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
        if !asked.body.starts_with(kind) {
            let why = json!({ "error": "invalid_grant", "error_description": "Bad Request" });
            return Answer::json(400, &why);
        }
        Answer::json(200, &json!({ "access_token": TOKEN, "expires_in": 3599 }))
    }

    fn insert(&mut self, asked: &Asked) -> Answer {
        if self.manner.refuses_inserts {
            return error(403, "forbidden", "Required 'compute.routes.create' permission for 'p'");
        }
        let Ok(route) = serde_json::from_str::<Value>(&asked.body) else {
            return error(400, "parseError", "Parse Error");
        };
        for name in ["name", "destRange", "network", "nextHopIp"] {
            if !route[name].is_string() {
                return error(400, "required", &format!("Required field '{name}' not specified"));
            }
        }
        let name = route["name"].as_str().unwrap().to_owned();
        if self.routes.contains_key(&name) {
            let why = format!("The resource 'projects/p/global/routes/{name}' already exists");
            return error(409, "alreadyExists", &why);
        }
        self.begin(asked, Change::Insert(name, route))
    }

    fn delete(&mut self, asked: &Asked, name: &str) -> Answer {
        if self.manner.refuses_deletes {
            return error(403, "forbidden", "Required 'compute.routes.delete' permission");
        }
        if !self.routes.contains_key(name) {
            return missing(name);
        }
        self.begin(asked, Change::Delete(name.into()))
    }

    fn test(&self, asked: &Asked, name: &str) -> Answer {
        if !self.routes.contains_key(name) {
            return missing(name);
        }
        let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
        let asked = body["permissions"].as_array().cloned().unwrap_or_default();
        let is_granted =
            |one: &Value| !(self.manner.refuses_deletes && one == "compute.routes.delete");
        let granted: Vec<Value> = asked.into_iter().filter(is_granted).collect();
        Answer::json(200, &json!({ "permissions": granted }))
    }

    /// Begins an operation. A request that is repeated with its id is not carried out again.
    fn begin(&mut self, asked: &Asked, change: Change) -> Answer {
        let id = asked.target.split_once("requestId=").map_or("", |(_, id)| id);
        let is_new = id.is_empty() || self.ids.insert(id.into());
        let name = format!("operation-{}", self.ids.len() + self.operations.len());
        if is_new && self.manner.is_slow {
            self.operations.insert(name.clone(), (change, 2));
            return operation(&name, "RUNNING");
        }
        if is_new && !self.manner.fails {
            self.apply(change);
        }
        if self.manner.fails { failed(&name) } else { operation(&name, "DONE") }
    }

    fn wait(&mut self, name: &str) -> Answer {
        match self.operations.remove(name) {
            Some((change, looks @ 1..)) => {
                self.operations.insert(name.into(), (change, looks - 1));
                operation(name, "RUNNING")
            }
            Some((change, 0)) if !self.manner.fails => {
                self.apply(change);
                operation(name, "DONE")
            }
            Some((_, 0)) => failed(name),
            None => operation(name, "DONE"),
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Insert(name, mut route) => {
                let network = route["network"].as_str().unwrap().to_owned();
                let tail = network.split_once("projects/").map_or(&*network, |(_, tail)| tail);
                route["network"] =
                    json!(format!("https://www.googleapis.com/compute/v1/projects/{tail}"));
                route["kind"] = json!("compute#route");
                self.routes.insert(name, route);
            }
            Change::Delete(name) => drop(self.routes.remove(&name)),
        }
    }
}

fn missing(name: &str) -> Answer {
    error(404, "notFound", &format!("The resource 'projects/p/global/routes/{name}' was not found"))
}

fn operation(name: &str, status: &str) -> Answer {
    Answer::json(200, &json!({ "kind": "compute#operation", "name": name, "status": status }))
}

fn failed(name: &str) -> Answer {
    let errors = json!([{ "code": "QUOTA_EXCEEDED", "message": "Quota 'ROUTES' exceeded." }]);
    let operation = json!({ "kind": "compute#operation", "name": name, "status": "DONE",
        "error": { "errors": errors }, "httpErrorStatusCode": 403, "httpErrorMessage": "FORBIDDEN" });
    Answer::json(200, &operation)
}
