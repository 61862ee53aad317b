//! The answers to probes, and the status of the services of this node.

use alloc::format;

use serde_json::json;

use super::Services;
use crate::http::answer::Answer;
use crate::http::router::{self, Route, get};

/// The path of the status of services, also where a bridge has its own `/status`.
pub const STATUS_PATH: &str = "/status/services";

type Say = fn(&Services) -> Answer;

const ROUTES: [Route<Say>; 5] = [
    get("/", |_| Answer::new(200, "I'm alive! Sincerely, HaX")),
    get("/healthz", |_| Answer::new(200, r#"{"alive": true}"#)),
    get("/readyz", readiness),
    get("/status", status),
    get(STATUS_PATH, status),
];

/// Returns the answer to a probe; none if the path is of something else.
pub(super) fn answer(services: &Services, method: &str, target: &str) -> Option<Answer> {
    let path = router::path(target);
    if !ROUTES.iter().any(|route| route.path() == path) {
        return None;
    }
    Some(match router::find(&ROUTES, method, path) {
        Ok(say) => say(services),
        Err(refusal) => refusal,
    })
}

fn readiness(services: &Services) -> Answer {
    match services.obstacle() {
        None => Answer::new(200, r#"{"ready": true}"#),
        Some(why) => Answer::new(503, format!("{}", json!({ "ready": false, "reason": why }))),
    }
}

fn status(services: &Services) -> Answer {
    let (instances, living) = services.node.counts();
    let obstacle = services.obstacle();
    let body = json!({
        "node": services.node.name(),
        "ready": obstacle.is_none(),
        "reason": obstacle,
        "coordinates": services.coord.leads(),
        "instances": instances,
        "living": living,
        "keeper": services.node.keeper(),
        "stopping": services.is_stopping,
    });
    Answer::new(200, format!("{body}"))
}
