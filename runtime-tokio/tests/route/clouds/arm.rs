//! A fake of Azure: the Resource Manager with one route table, the metadata service, and the login.
//!
//! Microsoft's own SDK reads and writes it in a test, and so holds it to the truth.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::http::{Answer, Asked, Server};

pub(super) const TOKEN: &str = "token-of-the-resource-manager";
pub(super) const KEY: &str = "s3cret/key+of&the application";

const TABLE: &str =
    "/subscriptions/sub/resourceGroups/grp/providers/Microsoft.Network/routeTables/edge";

/// The faults and the permissions of the fake.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    /// Writes are not permitted.
    pub(super) is_read_only: bool,
    /// Writes end after their replies.
    pub(super) is_slow: bool,
    /// Writes end with a provisioning state of failure, with a status code of success.
    pub(super) fails: bool,
    /// The number of writes before which somebody else writes.
    pub(super) rivals: u32,
    /// The number of requests that are refused by a limit of the rate.
    pub(super) limits: u32,
    /// The token is another one now, so the old one is refused.
    pub(super) has_new_token: bool,
}

#[derive(Debug)]
struct State {
    manner: Manner,
    version: u64,
    table: Value,
    /// A write that has not ended, and the number of looks until then.
    pending: Option<(Value, u32)>,
}

/// The fake. See the module.
#[derive(Debug)]
pub(super) struct Arm {
    state: Arc<Mutex<State>>,
    server: Server,
}

fn route(name: &str, prefix: &str, hop: &str) -> Value {
    json!({ "name": name, "properties": {
        "addressPrefix": prefix, "nextHopType": "VirtualAppliance", "nextHopIpAddress": hop,
    }})
}

impl Arm {
    pub(super) fn start(manner: Manner) -> Self {
        let table = json!({ "location": "westeurope", "tags": { "owner": "network team" }, "properties": {
            "disableBgpRoutePropagation": true,
            "routes": [
                route("one", "192.0.2.0/24", "10.0.0.1"),
                route("six", "2001:db8:7::/48", "fd00::1"),
                { "name": "out", "properties": { "addressPrefix": "0.0.0.0/0", "nextHopType": "Internet" }},
                route("two", "198.51.100.0/24", "10.0.0.1"),
            ],
        }});
        let state = State { manner, version: 1, table, pending: None };
        let state = Arc::new(Mutex::new(state));
        let inner = Arc::clone(&state);
        let server = Server::start(move |asked| inner.lock().unwrap().answer(asked));
        Self { state, server }
    }

    pub(super) fn url(&self) -> String {
        self.server.url()
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.server.asked()
    }

    pub(super) fn set(&self, manner: Manner) {
        self.state.lock().unwrap().manner = manner;
    }

    /// Returns the table as it is in effect.
    pub(super) fn table(&self) -> Value {
        self.state.lock().unwrap().table.clone()
    }

    /// Returns the next hop of a route.
    pub(super) fn leads(&self, nth: usize) -> String {
        let hop = &self.table()["properties"]["routes"][nth]["properties"]["nextHopIpAddress"];
        hop.as_str().unwrap_or("nowhere").into()
    }

    /// Lets a route lead elsewhere.
    pub(super) fn give_away(&self, nth: usize, hop: &str) {
        let mut state = self.state.lock().unwrap();
        state.table["properties"]["routes"][nth]["properties"]["nextHopIpAddress"] = json!(hop);
        state.version += 1;
    }
}

fn error(status: u16, code: &str, message: &str) -> Answer {
    Answer::json(status, &json!({ "error": { "code": code, "message": message } }))
}

impl State {
    fn answer(&mut self, asked: &Asked) -> Answer {
        let path = asked.path().to_owned();
        if path.starts_with("/metadata/") {
            return Self::metadata(asked);
        }
        if path == "/tenant/oauth2/v2.0/token" {
            return Self::login(asked);
        }
        let expected = if self.manner.has_new_token { format!("{TOKEN}2") } else { TOKEN.into() };
        if asked.header("authorization") != format!("Bearer {expected}") {
            return error(401, "InvalidAuthenticationToken", "The access token is invalid.");
        }
        if !asked.target.contains("api-version=20") {
            return error(400, "MissingApiVersionParameter", "The api-version is required.");
        }
        if self.manner.limits > 0 {
            self.manner.limits -= 1;
            return error(429, "TooManyRequests", "Slow down.").with("Retry-After", "0");
        }
        let below = path.strip_prefix(TABLE);
        match (&*asked.method, below, &*path) {
            ("GET", _, "/operations/1") => self.operation(),
            ("GET", Some(""), _) => Answer::json(200, &self.shown()),
            ("GET", Some(route), _) => match self.find(route) {
                Some(nth) => Answer::json(200, &self.shown()["properties"]["routes"][nth]),
                None => error(404, "NotFound", "The resource was not found."),
            },
            ("PUT", Some(below), _) => self.write(asked, below, &path),
            _ => error(404, "ResourceNotFound", "The resource was not found."),
        }
    }

    fn metadata(asked: &Asked) -> Answer {
        if asked.header("metadata") != "true" || !asked.target.contains("api-version=") {
            return Answer::json(400, &json!({ "error": "invalid_request" }));
        }
        match asked.path() {
            "/metadata/identity/oauth2/token" => {
                let resource = "resource=https%3A%2F%2Fmanagement.";
                assert!(asked.target.contains(resource), "{}", asked.target);
                let token =
                    json!({ "access_token": TOKEN, "expires_in": "86400", "token_type": "Bearer" });
                Answer::json(200, &token)
            }
            "/metadata/instance/compute" => {
                let place = json!({ "subscriptionId": "sub", "resourceGroupName": "grp" });
                Answer::json(200, &place)
            }
            _ => Answer::new(404, ""),
        }
    }

    fn login(asked: &Asked) -> Answer {
        let key = "client_secret=s3cret%2Fkey%2Bof%26the%20application&";
        if !asked.body.contains(key) || !asked.body.contains("client_id=app&") {
            let why = "AADSTS7000215: Invalid client secret provided.";
            return Answer::json(
                401,
                &json!({ "error": "invalid_client", "error_description": why }),
            );
        }
        Answer::json(200, &json!({ "access_token": TOKEN, "expires_in": 3599 }))
    }

    /// Returns the place of a route in the table, from its path below the table's.
    fn find(&self, below: &str) -> Option<usize> {
        let name = below.strip_prefix("/routes/")?;
        self.table["properties"]["routes"].as_array()?.iter().position(|one| one["name"] == name)
    }

    fn etag(&self) -> String {
        format!("W/\"{}\"", self.version)
    }

    /// Returns the table with the fields that the Resource Manager adds.
    fn shown(&self) -> Value {
        let mut table = self.table.clone();
        let state = match (self.pending.is_some(), self.manner.fails && self.version > 1) {
            (true, _) => "Updating",
            (false, true) => "Failed",
            (false, false) => "Succeeded",
        };
        table["id"] = json!(TABLE);
        table["name"] = json!("edge");
        table["type"] = json!("Microsoft.Network/routeTables");
        table["etag"] = json!(self.etag());
        table["properties"]["provisioningState"] = json!(state);
        table["properties"]["subnets"] = json!([{ "id": "/subscriptions/sub/subnet" }]);
        for route in table["properties"]["routes"].as_array_mut().unwrap() {
            let name = route["name"].as_str().unwrap();
            route["id"] = json!(format!("{TABLE}/routes/{name}"));
            route["etag"] = json!(format!("W/\"{}\"", self.version));
            route["type"] = json!("Microsoft.Network/routeTables/routes");
            route["properties"]["provisioningState"] = json!(state);
            route["properties"]["hasBgpOverride"] = json!(false);
        }
        table
    }

    fn write(&mut self, asked: &Asked, below: &str, path: &str) -> Answer {
        if self.manner.is_read_only {
            let why = format!("The client does not have authorization to write over {path}.");
            return error(403, "AuthorizationFailed", &why);
        }
        if self.manner.rivals > 0 {
            self.manner.rivals -= 1;
            self.version += 1;
        }
        let etag = asked.header("if-match");
        if !etag.is_empty() && etag != self.etag() {
            return error(412, "PreconditionFailed", "The etag does not match.");
        }
        let Ok(body) = serde_json::from_str::<Value>(&asked.body) else {
            return error(400, "InvalidRequestContent", "The content is invalid.");
        };
        let mut table = self.table.clone();
        if below.is_empty() {
            if !body["location"].is_string() {
                return error(400, "LocationRequired", "The location is required.");
            }
            for name in ["location", "tags"] {
                table[name] = body[name].clone();
            }
            for name in ["routes", "disableBgpRoutePropagation"] {
                table["properties"][name] = body["properties"][name].clone();
            }
        } else {
            let Some(nth) = self.find(below) else {
                return error(404, "NotFound", "The resource was not found.");
            };
            if !body["properties"]["addressPrefix"].is_string() {
                return error(400, "InvalidAddressPrefix", "The address prefix is required.");
            }
            table["properties"]["routes"][nth]["properties"] = body["properties"].clone();
        }
        self.accept(asked, table, below)
    }

    fn accept(&mut self, asked: &Asked, table: Value, below: &str) -> Answer {
        if self.manner.is_slow {
            self.pending = Some((table, 2));
            let url =
                format!("http://{}/operations/1?api-version=2024-05-01", asked.header("host"));
            let shown = self.shown();
            return Answer::json(201, &shown)
                .with("Azure-AsyncOperation", url)
                .with("Retry-After", "0");
        }
        self.version += 1;
        if !self.manner.fails {
            self.table = table;
        }
        let shown = self.shown();
        match self.find(below) {
            Some(nth) => Answer::json(200, &shown["properties"]["routes"][nth]),
            None => Answer::json(200, &shown),
        }
    }

    fn operation(&mut self) -> Answer {
        let status = match self.pending.take() {
            Some((table, looks @ 1..)) => {
                self.pending = Some((table, looks - 1));
                "InProgress"
            }
            Some((table, 0)) if !self.manner.fails => {
                self.table = table;
                self.version += 1;
                "Succeeded"
            }
            Some((_, 0)) => "Failed",
            None => "Succeeded",
        };
        let mut answer = json!({ "status": status });
        if status == "Failed" {
            answer["error"] = json!({ "code": "InternalServerError", "message": "An error." });
        }
        Answer::json(200, &answer).with("Retry-After", "0")
    }
}
